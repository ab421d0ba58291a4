"""HTTP connections that are bounded in number, and in the time that a client takes for a header."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from course_lib.serve import limits

if TYPE_CHECKING:
    from collections.abc import Iterable


class BoundedParser(h11.Connection):
    """h11's parser of requests. It refuses a body in MAX_SMALL_CHUNKS small chunks."""

    small_chunks = 0  # of the body that is being read

    def next_event(self) -> Any:
        """Return the next event, as h11. Raises h11.RemoteProtocolError for too many small chunks."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.small_chunks = 0
        elif isinstance(event, h11.Data):
            self.small_chunks += len(event.data) < limits.SMALL_CHUNK
            if self.small_chunks > limits.MAX_SMALL_CHUNKS:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


class BoundedConnection(H11Protocol):
    """uvicorn's connection. It closes if a header is not there within HEADER_SECONDS.

    uvicorn itself bounds only the time between two requests, and answers 503 above its connection limit.
    """

    timer: asyncio.TimerHandle | None = None  # until the header must have arrived
    reading: asyncio.TimerHandle | None = None  # until the client must have read a part of the answer
    since = 0.0  # the time since when the server has waited for the client (event loop clock)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Open the connection. If there are too many, close the one that has waited longest for its client.

        It is never this one. If all others are being answered, its requests get uvicorn's 503.
        """
        super().connection_made(transport)
        self.conn = BoundedParser(h11.SERVER)
        self.timeout_keep_alive = limits.IDLE_SECONDS
        # Those that are all being answered; a request counts until it has noticed that it was closed.
        self.limit_concurrency = 2 * limits.MAX_CONNECTIONS
        self.since = self.loop.time()
        self.timer = self.loop.call_later(limits.HEADER_SECONDS, self.transport.close)
        if len(self.connections) > limits.MAX_CONNECTIONS:
            others = cast("Iterable[BoundedConnection]", self.connections - {self})
            waiting = (other for other in others if other.waits_for_client)
            if (victim := min(waiting, key=lambda other: other.since, default=None)) is not None:
                self.connections.discard(victim)  # connection_lost comes later than further connections
                victim.transport.abort()
                self.logger.warning("more than %d connections: one is closed", limits.MAX_CONNECTIONS)

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has to send a request or the rest of one, or to read the answer."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def data_received(self, data: bytes) -> None:
        """Read from the client. The time runs from the first byte of a header to its last."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self.since = self.loop.time()  # the begin of a request: a slow body does not prolong it
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self.timer is None:
            self.timer = self.loop.call_later(limits.HEADER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        """Let the time run until the next request."""
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Let the time run until the client reads the answer."""
        self.since = self.loop.time()
        self.reading = self.loop.call_later(limits.READ_SECONDS, self._not_read)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Stop that clock."""
        if self.reading is not None:
            self.reading.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_timer()
        if self.reading is not None:
            self.reading.cancel()
        super().connection_lost(exc)

    def _not_read(self) -> None:
        self.logger.warning("a client has read nothing for %g s: it is closed", limits.READ_SECONDS)
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
