"""HTTP connections with limits on their number, and on the time that a client takes to send and to read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from course_lib.serve import limits

if TYPE_CHECKING:
    from collections.abc import Iterable


class BoundedParser(h11.Connection):
    """h11's parser of requests. It rejects a body that arrives in too many small chunks."""

    small_chunks = 0  # the number of small chunks in the current body

    def next_event(self) -> Any:
        """Return the next event, as in h11. Raises h11.RemoteProtocolError for too many small chunks."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.small_chunks = 0
        elif isinstance(event, h11.Data):
            self.small_chunks += len(event.data) < limits.SMALL_CHUNK
            if self.small_chunks > limits.MAX_SMALL_CHUNKS:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


class BoundedConnection(H11Protocol):
    """uvicorn's connection. It closes if a request's header has not arrived within HEADER_SECONDS.

    uvicorn itself limits only the time between two requests. Above its limit of connections it answers with
    status 503.
    """

    timer: asyncio.TimerHandle | None = None  # closes the connection if the header is late
    reading: asyncio.TimerHandle | None = None  # closes the connection if the client does not read the answer
    since = 0.0  # when the server began to wait for the client (event loop clock)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Open the connection. If there are too many, close the one that has waited longest for its client.

        The new connection is never closed. If all others are being answered, uvicorn rejects its requests
        with status 503.
        """
        super().connection_made(transport)
        self.conn = BoundedParser(h11.SERVER)
        self.timeout_keep_alive = limits.IDLE_SECONDS
        # Twice the limit, because uvicorn counts a closed connection until its request has noticed that.
        self.limit_concurrency = 2 * limits.MAX_CONNECTIONS
        self.since = self.loop.time()
        self.timer = self.loop.call_later(limits.HEADER_SECONDS, self.transport.close)
        if len(self.connections) > limits.MAX_CONNECTIONS:
            others = cast("Iterable[BoundedConnection]", self.connections - {self})
            waiting = (other for other in others if other.waits_for_client)
            if (victim := min(waiting, key=lambda other: other.since, default=None)) is not None:
                # At once; further connections may come before connection_lost.
                self.connections.discard(victim)
                victim.transport.abort()
                self.logger.warning("more than %d connections: one is closed", limits.MAX_CONNECTIONS)

    @property
    def waits_for_client(self) -> bool:
        """Whether the client must act next: send a request or the rest of one, or read the answer."""
        cycle = self.cycle  # uvicorn's record of the current request and its answer
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def data_received(self, data: bytes) -> None:
        """Read from the client. The timer for a header runs from its first byte to its last."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            # Only at the start of a request, so that a slow body does not extend it.
            self.since = self.loop.time()
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self.timer is None:
            self.timer = self.loop.call_later(limits.HEADER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        """Note that the server now waits for the next request."""
        self.since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that the server now waits for the client to read, and start the timer for that."""
        self.since = self.loop.time()
        self.reading = self.loop.call_later(limits.READ_SECONDS, self._not_read)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Stop the timer for reading."""
        if self.reading is not None:
            self.reading.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
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
