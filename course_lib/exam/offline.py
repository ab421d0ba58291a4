"""Forbid and record network connections to other machines, in this process and in its child processes.

In Python processes a connection is stopped before it is made (sys.addaudithook, PEP 578). Other programs and
native code cannot be stopped in this way. Most of them follow the proxy settings, which name a port where
nothing listens. Connections that are made nevertheless are seen by looking at the open sockets. This checks
trusted software; code that tries to get around it can.

Each Python child process loads this file at its start, so the file imports only the standard library.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

LOG = "COURSE_CONNECTIONS"  # the environment variable that names the file of recorded connections
# Names that mean this machine.
LOCAL_NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
NOBODY = "http://127.0.0.1:9"  # the discard port: no proxy listens there
# Environment variables for this process and its children.
SETTINGS = {
    **dict.fromkeys(
        ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOBODY
    ),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
    **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "1"),
    **dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"), "1"),
}
# The start-up module of a Python child process: it loads this file and calls `install`.
CHILD = """import importlib.util as util
spec = util.spec_from_file_location("course_offline", {module!r})
module = util.module_from_spec(spec)
spec.loader.exec_module(module)
module.install()
"""
_installed = False


class NetworkForbidden(ConnectionError):
    """Raised instead of making a connection to another machine."""


class Attempt(NamedTuple):
    """An attempted connection. event: "connect", "look up" (a name), "send", or "seen" (not stopped)."""

    process: int
    program: str
    event: str
    target: str


def is_local(host: Any) -> bool:
    """Whether a host name or address means this machine. Of names, only those of localhost count."""
    if host is None:
        return True
    if isinstance(host, bytes | bytearray):
        host = host.decode("ascii", "replace")
    if host.lower().rstrip(".") in LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or (mapped or address).is_unspecified


def install() -> None:
    """Forbid connections to other machines in this process while the environment variable LOG is set.

    An audit hook cannot be removed; without the variable, it does nothing.
    """
    global _installed
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Record and refuse a connection to another machine. Called for each of CPython's audit events."""
    if not event.startswith("socket.") or LOG not in os.environ:
        return
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        name, host = "look up", arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix socket, or a message on a connected one
            return
        name, host = ("connect" if event == "socket.connect" else "send"), address[0]
    else:
        return
    if not is_local(host):
        _record(name, str(host))
        raise NetworkForbidden(f"{name} {host}: the rules allow no connection outside this machine")


def _record(event: str, target: str, process: int | None = None, program: str | None = None) -> None:
    attempt = Attempt(process or os.getpid(), program or " ".join(sys.argv)[:200], event, target)
    line = json.dumps(attempt) + "\n"
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:  # a single write, so that the lines of several processes do not mix
        os.write(file, line.encode())
    finally:
        os.close(file)


@contextlib.contextmanager
def offline(interval: float = 0.1) -> Iterator[Attempts]:
    """Forbid the network within the block. The value lists the attempted connections.

    interval: seconds between two looks at the open sockets of this process and its children.
    """
    from course_lib.environment import variables

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "connections.jsonl"
        child = Path(folder) / "sitecustomize.py"  # Python imports this module at its start
        child.write_text(CHILD.format(module=str(Path(__file__).resolve())), "utf-8")
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = SETTINGS | {LOG: str(log), "PYTHONPATH": path}
        stop, attempts = threading.Event(), Attempts(log)
        with variables(settings), _fresh_opener():
            install()
            watcher = threading.Thread(target=_watch, args=(stop, interval), daemon=True)
            watcher.start()
            try:
                yield attempts
            finally:
                stop.set()
                watcher.join()
                attempts.freeze()


@contextlib.contextmanager
def _fresh_opener() -> Iterator[None]:
    """Make urllib read the proxy settings again; its `urlopen` otherwise keeps those of its first call."""
    import urllib.request

    before = getattr(urllib.request, "_opener", None)
    urllib.request.install_opener(None)
    try:
        yield
    finally:
        urllib.request.install_opener(before)


class Attempts:
    """The attempted connections, read from the file to which all processes append."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._last: list[Attempt] | None = None

    def list(self) -> list[Attempt]:
        """Return the attempts until now, or until the end of the block."""
        if self._last is not None:
            return self._last
        lines = self._log.read_text("utf-8").splitlines() if self._log.exists() else []
        return [Attempt(*json.loads(line)) for line in lines]

    def freeze(self) -> None:
        """Keep the recorded attempts in memory, because the file will be deleted."""
        self._last = self.list()


def _watch(stop: threading.Event, interval: float) -> None:
    """Record each connection of this process and its children that was not stopped, once."""
    import psutil

    me, seen = psutil.Process(), set()
    while True:
        ended = stop.wait(interval)
        for process in [me, *me.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("inet"):
                    host = connection.raddr.ip if connection.raddr else None
                    if not is_local(host) and (process.pid, host) not in seen:
                        seen.add((process.pid, host))
                        _record("seen", str(host), process.pid, " ".join(process.cmdline())[:200])
        if ended:
            return
