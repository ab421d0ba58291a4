"""The connection between a job in a thread and the client in the event loop that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

T = TypeVar("T")
EMBED_BATCH = 8  # texts between two checks that the client is still connected


class Channel:
    """Sends values from a job in a thread to the client in the event loop.

    stop: is set when the client has disconnected or the server is shutting down; the job must then end.
    """

    def __init__(self) -> None:
        self.stop, self.values = threading.Event(), asyncio.Queue[Any]()
        self._loop = asyncio.get_running_loop()

    def put(self, value: Any) -> None:
        """Send a value to the client, unless it has disconnected."""
        if not self.stop.is_set():
            self._loop.call_soon_threadsafe(self.values.put_nowait, (value,))

    def batches(self, items: list[T]) -> Iterator[list[T]]:
        """Yield the items in batches of EMBED_BATCH. Raises CancelledError as soon as the job must end."""
        for start in range(0, len(items), EMBED_BATCH):
            self.check()
            yield items[start : start + EMBED_BATCH]

    def check(self) -> None:
        """Raise CancelledError if the job must end."""
        if self.stop.is_set():
            raise CancelledError
