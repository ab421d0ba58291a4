"""`quiet()`: no progress bars and warnings of transformers and peft inside its block."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# The settings belong to the whole process, and several threads may load models at the same time: the first
# block to begin changes them, and the last one to end restores them.
_lock, _silence = threading.Lock(), ExitStack()
_blocks = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers and peft in this process while any such block runs."""
    global _blocks
    with _lock:
        if not _blocks:
            _silence.enter_context(_silenced())
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _silence.close()


@contextmanager
def _silenced() -> Iterator[None]:
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
