"""What the libraries behind a driver would write on the screen, and nobody asked for."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock, _silence = threading.Lock(), ExitStack()
_users = 0  # blocks that want silence now: what is silenced belongs to the whole process, and threads load side by side


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings. The last block that ends gives both back as the first found them."""
    global _users
    with _lock:
        if not _users:
            _silence.enter_context(_silenced())
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _silence.close()


@contextmanager
def _silenced() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will go
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
