"""HTTP connections that are bounded in number, and in the time that a client takes for a header."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from course_lib.serve import limits

if TYPE_CHECKING:
    from collections.abc import Iterable


class BoundedConnection(H11Protocol):
    """uvicorn's connection. It closes if a header is not there within HEADER_SECONDS.

    uvicorn itself bounds only the time between two requests, and answers 503 above its connection limit.
    """

    timer: asyncio.TimerHandle | None = None  # until the header must have arrived
    since = 0.0  # the time of the last byte (event loop clock)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Open the connection. If there are too many, close the one that has been idle longest."""
        super().connection_made(transport)
        self.timeout_keep_alive = limits.IDLE_SECONDS
        self.since = self.loop.time()
        self.timer = self.loop.call_later(limits.HEADER_SECONDS, self.transport.close)
        if len(self.connections) > limits.MAX_CONNECTIONS:
            others = cast("Iterable[BoundedConnection]", self.connections - {self})
            idle = (other for other in others if other.cycle is None or other.cycle.response_complete)
            victim = min(idle, key=lambda other: other.since, default=self)
            self.connections.discard(victim)  # connection_lost comes later than further connections
            victim.transport.abort()
            self.logger.warning("more than %d connections: one is closed", limits.MAX_CONNECTIONS)

    def data_received(self, data: bytes) -> None:
        """Read from the client. The time runs from the first byte of a header to its last."""
        self.since = self.loop.time()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self.timer is None:
            self.timer = self.loop.call_later(limits.HEADER_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
