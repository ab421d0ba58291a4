"""The server as a process: it begins, says where it is, and ends with everything it made."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from course_lib import cli
from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.models.drivers.http_client import ollama_address
from course_lib.serve import discovery, ollama
from course_lib.serve.process import ServerProcess
from course_lib.serve.server import bind

OPTIONS = {"num_predict": -1, "temperature": 0, "repeat_penalty": 1.0}
ASK = {"model": "haneul-4m", "prompt": "The", "raw": True, "options": OPTIONS}


def started(tmp_path, store=None, **more):
    """A server whose temporary files lie in `tmp_path`, and its address."""
    command = [
        sys.executable,
        "-m",
        "course_lib.serve",
        "--port",
        "0",
        *(["--store", str(store)] if store else []),
    ]
    (tmp_path / "tmp").mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )
    line = process.stdout.readline()
    assert line.startswith("The course's own server, with Ollama's protocol: http://127.0.0.1:"), (
        process.stderr.read()
    )
    return process, line.split("protocol: ")[1].split()[0]


def gone(url):
    """Whether nobody listens there, within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/api/version", timeout=1)
            time.sleep(0.05)
            continue
        return True
    return False


def _heed_hang_up():
    """Else a server whose tests run under nohup ignores SIGHUP, as it should."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_in_the_midst_of_answers(tmp_path, store, sent):
    folder = (
        None if sent != signal.SIGINT else store.manifests.parent
    )  # a temporary store goes, a given one stays
    process, url = started(tmp_path, folder, preexec_fn=_heed_hang_up)
    with httpx.stream("POST", f"{url}/api/generate", json=ASK, timeout=60) as reply:
        lines = reply.iter_lines()
        next(lines)
        with ThreadPoolExecutor(1) as pool:
            ask = ASK | {"model": "haneul-1m", "stream": False}
            waiting = pool.submit(httpx.post, f"{url}/api/generate", json=ask, timeout=60)
            while "haneul-1m" not in httpx.get(f"{url}/api/ps").text:
                time.sleep(0.01)
            process.send_signal(sent)
            last = json.loads(list(lines)[-1])
            whole = waiting.result()
    assert last.get("done") or last["error"].startswith("the server is shutting down")
    assert whole.status_code == 200 or whole.json()["error"].startswith("the server is shutting down")
    assert process.wait(30) == 0
    told = process.stderr.read().splitlines()
    assert all(re.search(r"course_lib\.serve: (seed \d+ is drawn|\S+ is loaded for)", line) for line in told)
    assert list((tmp_path / "tmp").iterdir()) == [] and store.manifests.is_dir()
    bind(int(url.rsplit(":", 1)[1])).close()


def test_a_second_signal_ends_it_at_once(tmp_path):
    """A client that never sends the rest of its request is otherwise waited for."""
    process, url = started(tmp_path)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert httpx.get(f"{url}/api/version").status_code == 200
        process.send_signal(signal.SIGINT)
        while True:
            try:
                socket.create_connection((host, int(port))).close()
                time.sleep(0.01)
            except OSError:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_signal_while_it_begins_ends_it_too(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "course_lib.serve", "--port", "0"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    while not list(tmp_path.glob("course-serve-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait(30) == 0 and list(tmp_path.iterdir()) == []


def test_what_python_does_at_its_end_is_not_waited_for(tmp_path):
    """With torch loaded it took more than the five seconds that the documentation promises."""
    code = "import atexit, time, course_lib.serve.server as server; atexit.register(time.sleep, 600)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; server.main(['--port', '0'])"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    with process:
        assert b"http://" in process.stdout.readline()
        process.terminate()
        try:
            assert process.wait(30) == 0 and list(tmp_path.iterdir()) == []
        finally:
            process.kill()


def test_a_taken_port_and_a_folder_that_is_none_are_told(tmp_path, capsys, store):
    with bind(0) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--port", port]) == 1
    errors = capsys.readouterr().err
    assert f"port {port} cannot be used" in errors and "course serve --port" in errors
    (tmp_path / "file").write_text("")
    with bind(0) as free:
        port = str(free.getsockname()[1])
    assert cli.main(["serve", "--port", port, "--store", str(tmp_path / "file")]) == 1
    assert "cannot hold models" in capsys.readouterr().err


# -- course.ollama() --


class Ollama(BaseHTTPRequestHandler):
    """The first answer of a real Ollama, which cannot run here."""

    answer = b'{"version":"0.12.3"}'

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def elsewhere(monkeypatch):
    """An HTTP server where OLLAMA_HOST says."""
    http = HTTPServer(("127.0.0.1", 0), Ollama)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{http.server_port}")
    yield http
    http.shutdown()
    http.server_close()


def test_the_real_ollama_is_taken_where_it_answers_and_left_alone(elsewhere):
    found = ollama()
    assert (
        found.url == f"http://127.0.0.1:{elsewhere.server_port}"
        and repr(found) == f"Ollama 0.12.3 at {found.url}"
    )
    found.close()
    assert repr(ollama()) == repr(found)


def test_a_course_server_that_runs_already_is_named_as_one(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    assert repr(ollama()) == f"the course's own server at {server.url}"


def test_a_server_without_the_model_that_is_needed_is_passed_over(elsewhere, server, monkeypatch):
    assert discovery.has_model(server.url, "haneul-4m") and discovery.has_model(
        server.url, "haneul-4m:latest"
    )
    assert not discovery.has_model(server.url, "llama3") and not discovery.has_model(
        f"http://127.0.0.1:{elsewhere.server_port}", "haneul-4m"
    )
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    assert repr(ollama("haneul-4m")) == f"the course's own server at {server.url}"


def test_what_is_no_ollama_is_not_taken_for_one(elsewhere, monkeypatch):
    for answer in (b"hello", b"[]", b'{"version": 5}'):
        monkeypatch.setattr(Ollama, "answer", answer)
        assert discovery.identify(f"http://127.0.0.1:{elsewhere.server_port}") is None


def test_an_ollama_that_lacks_the_model_is_named_in_what_is_started_instead(elsewhere):
    found = ollama("haneul-300k")
    where = f"http://127.0.0.1:{elsewhere.server_port}"
    why = f"Ollama 0.12.3 at {where} does not hold haneul-300k"
    assert repr(found) == f"the course's own server, started at {found.url}: {why}"
    found.close()


def test_without_one_the_courses_own_is_started_once_and_comes_back_after_its_death(monkeypatch):
    with bind(0) as free:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{free.getsockname()[1]}")
        free.close()
        found = ollama()
        assert (
            repr(found).startswith(f"the course's own server, started at {found.url}") and ollama() is found
        )
        os.kill(found.process.pids[-1], signal.SIGKILL)
        again = ollama()
        assert again is found and httpx.get(f"{again.url}/api/tags", timeout=120).status_code == 200
        again.close()
        again.close()
        assert gone(again.url)


def test_the_server_ends_when_the_notebook_dies(tmp_path):
    code = "import course_lib, time; print(course_lib.ollama().url, flush=True); time.sleep(300)"
    with bind(0) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"OLLAMA_HOST": host, "TMPDIR": str(tmp_path)}
    notebook = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    url = notebook.stdout.readline().strip()
    assert httpx.get(f"{url}/api/version", timeout=120).json()["server"]
    notebook.kill()
    notebook.wait()
    assert gone(url)
    deadline = time.monotonic() + 30
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_store_is_in_the_caller_s_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = discovery.start(store=Path("store"))
    server.close()
    assert list((tmp_path / "store").iterdir()) and not (ROOT / "store").exists()


def test_a_start_that_is_interrupted_leaves_no_server(monkeypatch):
    before = set(psutil.Process().children())

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ServerProcess, "ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        discovery.start()
    assert set(psutil.Process().children()) == before


def test_a_server_that_cannot_begin_is_told_with_its_reason():
    with bind(0) as taken, pytest.raises(CourseError, match=r"port \d+ cannot be used"):
        discovery.start(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8000", "http://127.0.0.1:8000"),
        ("box", "http://box:11434"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("[::1]:5", "http://[::1]:5"),
        (" box:1 ", "http://box:1"),
        ("http://box:1/", "http://box:1"),
    ],
)
def test_ollama_host_means_what_it_means_to_ollama(host, url):
    assert ollama_address(host) == url


@pytest.mark.parametrize("host", ["box:port", "ftp://box", "http://box:99999", "[::1"])
def test_an_ollama_host_that_is_no_address_is_told(host):
    with pytest.raises(CourseError, match="is not an address"):
        ollama_address(host)
