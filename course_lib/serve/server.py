"""Run the model server as a process: it listens on this machine only, and Ctrl-C or SIGTERM stops it."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from course_lib.errors import CourseError
from course_lib.serve import limits
from course_lib.serve.settings import Settings, listen_address, models_folder

GRACE_SECONDS = 2  # at shutdown, for clients to read their last line and for running jobs to end


def bind(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a listening socket on this machine; port 0 chooses a free port.

    Raises CourseError if `host` is not this machine, and if the port is in use.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise CourseError(f"host {host!r}: this server only listens on this machine", "unset OLLAMA_HOST")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # asyncio sets TCP_NODELAY only with an explicit IPPROTO_TCP. Nagle's algorithm would add 40 ms of delay.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name != "nt":  # on Windows, SO_REUSEADDR would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
        listener.listen(limits.BACKLOG)
    except OSError as error:
        listener.close()
        what = f"port {port} cannot be used: {error.strerror}"
        raise CourseError(what, "course serve --port 11435") from error
    return listener


def serve(
    port: int | None = None,
    store: Path | None = None,
    models: Sequence[str] = (),
) -> NoReturn:
    """Print the address and serve until Ctrl-C or SIGTERM, then end the process with exit status 0.

    port: By default that of OLLAMA_HOST, or 11434. store: The folder for the models, by default that of
    OLLAMA_MODELS, or a temporary one. models: Further models to serve, as in `given_models.add`.
    Raises CourseError if the server cannot start.
    """
    settings, (host, default_port) = Settings.from_environment(), listen_address()
    host, port = (host, default_port) if port is None else ("127.0.0.1", port)
    store = store or models_folder()
    with _on_signal(_exit), bind(port, host) as listener, contextlib.ExitStack() as stack:
        folder = store or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="course-serve-")))
        _run(listener, folder, models, settings, () if store else (folder,))
    sys.stdout.flush()
    os._exit(0)  # not sys.exit: it would wait for threads that load a model, and torch takes seconds to end


def _run(
    listener: socket.socket,
    folder: Path,
    models: Sequence[str],
    settings: Settings,
    temporary: tuple[Path, ...],
) -> None:
    """Serve until a signal. A second signal ends the process at once.

    temporary: The folders to remove at a second signal.
    """
    import uvicorn

    from course_lib.serve import given_models
    from course_lib.serve.app import application
    from course_lib.serve.connection import BoundedConnection
    from course_lib.serve.store import Store
    from course_lib.serve.worker import Worker

    _start_log()
    store = Store(folder)
    store.add_shipped()
    for model in models:
        given_models.add(store, model)
    worker = Worker(store, settings)

    class Server(uvicorn.Server):
        """Prints its address. Leaves signals to `_on_signal`, because uvicorn would raise them again."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            host, port = listener.getsockname()[:2]
            address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            print(
                f"The course's own server, with Ollama's protocol: {address}   (Ctrl-C ends it)", flush=True
            )

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            worker.stop()
            await super().shutdown(sockets)

    options: dict[str, Any] = {"log_config": None, "access_log": False, "http": BoundedConnection}
    options["backlog"] = limits.BACKLOG
    options["ws"] = "none"  # no route needs WebSockets, whose connections would not be limited
    options["loop"] = "asyncio"  # even if uvloop is installed, as it is with Ray Serve
    server = Server(uvicorn.Config(application(worker), timeout_graceful_shutdown=GRACE_SECONDS, **options))

    def end(*_: Any) -> None:
        if server.should_exit:
            for path in temporary:
                shutil.rmtree(path, ignore_errors=True)
            os._exit(1)
        server.should_exit = True

    with _on_signal(end):
        server.run(sockets=[listener])
        worker.close(GRACE_SECONDS)


def _start_log() -> None:
    """Write warnings, random seeds and loaded models to standard error, limited by LogBounds."""
    handler = logging.StreamHandler()
    handler.addFilter(limits.LogBounds())
    logging.basicConfig(handlers=[handler], format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("course_lib.serve").setLevel(logging.INFO)


@contextlib.contextmanager
def _on_signal(handle: Callable[..., Any]) -> Iterator[None]:
    """Call `handle` on Ctrl-C, SIGTERM and a closed terminal, until the end of the `with` block."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:  # ignored under nohup
        numbers.append(hang_up)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit(*_: Any) -> None:
    raise SystemExit(0)


def main(argv: list[str] | None = None) -> int:
    """Run the command `python -m course_lib.serve`, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.serve", description="A local model server with Ollama's API."
    )
    parser.add_argument("--port", type=int)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--model", action="append", default=[], metavar="FILE.gguf|MODEL[=NAME]")
    args = parser.parse_args(argv)
    try:
        serve(args.port, args.store, args.model)
    except CourseError as error:
        print(f"course: {error}", file=sys.stderr)
        return 1
