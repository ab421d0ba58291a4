"""Connections that leave this machine are refused and recorded, whoever tries them."""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import httpx
import pytest

from course_lib.exam.offline import LOG, NetworkForbidden, is_local, offline

OUTSIDE = "192.0.2.1"  # reserved for documentation (RFC 5737): nobody has it


def events(attempts):
    return [(attempt.event, attempt.target) for attempt in attempts.list()]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("fe80::1%lo", False),
        ("localhost", True),
        ("LOCALHOST.", True),
        (b"localhost", True),
        (None, True),
        ("0.0.0.0", True),
        ("192.168.1.7", False),
        ("::ffff:8.8.8.8", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_what_is_local(host, local):
    assert is_local(host) is local


@pytest.mark.parametrize(
    ("tried", "event"),
    [
        (lambda: socket.create_connection((OUTSIDE, 80), timeout=1), ("look up", OUTSIDE)),
        (lambda: socket.socket().connect((OUTSIDE, 80)), ("connect", OUTSIDE)),
        (lambda: socket.socket().connect_ex((OUTSIDE, 80)), ("connect", OUTSIDE)),
        (
            lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", (OUTSIDE, 53)),
            ("send", OUTSIDE),
        ),
        (lambda: socket.gethostbyname("example.org"), ("look up", "example.org")),
        (lambda: socket.getaddrinfo("example.org", 443), ("look up", "example.org")),
    ],
)
def test_python_s_sockets_are_stopped(tried, event):
    with offline() as attempts, pytest.raises(NetworkForbidden, match="no connection outside this machine"):
        tried()
    assert events(attempts) == [event]


def test_libraries_fail_as_without_a_network():
    with offline() as attempts:
        with pytest.raises(httpx.ConnectError):
            httpx.get("http://telemetry.example.org", trust_env=False)
        with pytest.raises(OSError):
            urllib.request.urlopen("http://telemetry.example.org", timeout=5)  # goes to the proxy nobody runs
    assert set(events(attempts)) == {("look up", "telemetry.example.org")}


def test_a_python_child_is_stopped_and_told_by_its_name():
    code = f"import socket; socket.socket().connect(('{OUTSIDE}', 80))"
    with offline() as attempts:
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "NetworkForbidden" in child.stderr
    ((process, program, event, target),) = attempts.list()
    assert (event, target) == ("connect", OUTSIDE) and process != os.getpid() and program.startswith("-c")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the address 127.0.0.2 from the start")
def test_a_program_that_gets_past_the_environment_is_seen(monkeypatch):
    """Python with -I imports no sitecustomize. 127.0.0.2 plays the outside."""
    monkeypatch.setattr("course_lib.exam.offline.is_local", lambda host: host in (None, "127.0.0.1"))
    with socket.create_server(("127.0.0.2", 0)) as outside, offline(interval=0.05) as attempts:
        code = f"import socket; s = socket.create_connection({outside.getsockname()!r}); input()"
        with subprocess.Popen([sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, text=True) as child:
            deadline = time.monotonic() + 60
            while not attempts.list() and time.monotonic() < deadline:
                time.sleep(0.02)
            child.communicate("\n")
    assert child.returncode == 0 and set(events(attempts)) == {("seen", "127.0.0.2")}


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here: sudo apt install curl")
def test_a_program_that_is_not_python_is_sent_to_nobody():
    with offline() as attempts:
        curl = subprocess.run(
            ["curl", "-sS", "-m", "5", "http://example.org"], capture_output=True, text=True
        )
    assert curl.returncode == 7 and attempts.list() == []  # 7: failed to connect, here to the proxy


def test_this_machine_stays_reachable_and_the_end_restores_all():
    before = dict(os.environ)
    with socket.create_server(("127.0.0.1", 0)) as server, offline() as attempts:
        socket.create_connection(server.getsockname()).close()
        left, right = socket.socketpair()
        left.close(), right.close()
        assert LOG in os.environ and os.environ["HF_HUB_OFFLINE"] == "1"
    assert attempts.list() == [] and dict(os.environ) == before
    with pytest.raises(OSError) as error:  # allowed again: fails in another way, or times out
        socket.create_connection((OUTSIDE, 80), timeout=0.05)
    assert not isinstance(error.value, NetworkForbidden)


def test_urllib_forgets_the_proxy_at_the_end(monkeypatch):
    monkeypatch.setattr(urllib.request, "_opener", None)
    with offline(), pytest.raises(OSError):
        urllib.request.urlopen("http://updates.example")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        monkeypatch.setenv("no_proxy", "")
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=5).status == 200
