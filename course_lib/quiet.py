"""`quiet()`: a context manager that hides progress bars and warnings of transformers, peft and diffusers."""

from __future__ import annotations

import sys
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
    """Change the settings of transformers, and of diffusers if it is in use; restore them at the end."""
    from transformers.utils import logging

    loggings = [logging]
    utils = getattr(sys.modules.get("diffusers"), "utils", None)  # None while another thread imports it
    if utils is not None and hasattr(utils, "logging"):
        loggings.append(utils.logging)
    with ExitStack() as restore, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses deprecated names of transformers
        for library in loggings:
            restore.callback(library.set_verbosity, library.get_verbosity())
            if library.is_progress_bar_enabled():
                restore.callback(library.enable_progress_bar)
            library.set_verbosity_error()
            library.disable_progress_bar()
        yield
