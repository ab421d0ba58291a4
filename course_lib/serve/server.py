"""The server as a process: bound to this machine alone, ended cleanly by Ctrl-C, SIGTERM, or the end of who started it."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

PORT = 11434  # Ollama's
GRACE = 10  # seconds for answers in work, when the server ends


def bind(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket on this machine; port 0 takes a free one. Raises CourseError for another host and for a port that is taken."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise CourseError(
            f"host {host!r}: this server answers this machine alone", "leave the host out, or say 127.0.0.1"
        )
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    bound = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # named, or asyncio leaves Nagle's delay of 40 ms on
    if os.name != "nt":  # on Windows it would let two servers share a port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((str(address), port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise CourseError(
            f"port {port} cannot be had: {error.strerror}", "choose another: course serve --port 11435"
        ) from error
    return bound


def serve(port: int = PORT, store: Path | None = None, *, until_closed: bool = False) -> int:
    """Serve until a signal, or until standard input is closed where `until_closed`. Prints the address; returns 0.

    store: folder of the models; a temporary one where none is given. Raises CourseError where it cannot begin.
    """
    with _ended_by(_exit), bind(port) as bound, contextlib.ExitStack() as stack:
        if until_closed:
            threading.Thread(target=_watch, daemon=True).start()
        folder = store or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="course-serve-")))
        _run(bound, folder)
    return 0


def _run(bound: socket.socket, folder: Path) -> None:
    import uvicorn

    from course_lib.serve.app import application
    from course_lib.serve.store import Store
    from course_lib.serve.worker import Worker

    store = Store(folder)
    store.fill()
    worker = Worker(store)

    class Server(uvicorn.Server):
        """Says where it is once it answers. Signals are handled here: uvicorn would raise them again at the end."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            host, port = bound.getsockname()[:2]
            print(
                f"The course's own server, with Ollama's protocol: http://{host}:{port}   (Ctrl-C ends it)",
                flush=True,
            )

    server = Server(
        uvicorn.Config(
            application(worker), log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE
        )
    )

    def end(*_: Any) -> None:
        worker.closing.set()
        server.should_exit = True

    with _ended_by(end):
        server.run(sockets=[bound])


@contextlib.contextmanager
def _ended_by(end: Callable[..., Any]) -> Iterator[None]:
    """Call `end` at Ctrl-C and SIGTERM."""
    before = {s: signal.signal(s, end) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def _exit(*_: Any) -> None:
    raise SystemExit(0)


def _watch() -> None:
    """Who started this process holds its standard input open, and lets go of it by ending, in whatever way."""
    sys.stdin.buffer.read()
    signal.raise_signal(signal.SIGTERM) if os.name == "nt" else os.kill(os.getpid(), signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    """`python -m course_lib.serve`."""
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.serve", description="A local server with Ollama's protocol."
    )
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--until-closed", action="store_true", help="end when standard input is closed")
    said = parser.parse_args(argv)
    try:
        return serve(said.port, said.store, until_closed=said.until_closed)
    except CourseError as error:
        print(f"course: {error}", file=sys.stderr)
        return 1
