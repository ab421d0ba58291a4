"""`quiet()`: a context manager that hides the progress bars and warnings of transformers and peft."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# The settings belong to the process, and several threads may load models at the same time: the first `quiet`
# block changes the settings, and the last one to end restores them.
_lock, _restore = threading.Lock(), ExitStack()
_active_blocks = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars and warnings in the whole process while any such block runs."""
    global _active_blocks
    with _lock:
        if not _active_blocks:
            _restore.enter_context(_silenced())
        _active_blocks += 1
    try:
        yield
    finally:
        with _lock:
            _active_blocks -= 1
            if not _active_blocks:
                _restore.close()


@contextmanager
def _silenced() -> Iterator[None]:
    """Change the settings of transformers, and restore them at the end of the block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft uses deprecated names of transformers
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
