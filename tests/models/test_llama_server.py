"""The process of llama.cpp: who can reach it, how it ends, and what it takes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from course_lib import data
from course_lib.errors import CourseError
from course_lib.measure.hardware import computing_threads, usable_cores
from course_lib.models import load
from course_lib.models.gguf.llamacpp_server import LONGEST_FOLDER, ONE_WRITER_BYTES, settings

NAME = "haneul-1m"
LONG = {"prompt": [1], "n_predict": 2000, "ignore_eos": True, "temperature": 5.0}
NEEDS_SOCKETS = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets")
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")


@pytest.fixture(scope="module")
def engine():
    engine = load(NAME, driver="llamacpp")
    yield engine
    engine.close()


def ended(process_id):
    """Whether a process ends within five seconds."""
    deadline = time.monotonic() + 5
    while psutil.pid_exists(process_id) and psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def run(code, *arguments, **options):
    """The output of a program in a Python process of its own, as a notebook's kernel is one."""
    options = {"capture_output": True, "text": True, "timeout": 120} | options
    ran = subprocess.run([sys.executable, "-c", code, *arguments], **options)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


LISTENERS = """
import sys, psutil
from course_lib.models import load

def listening():
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return [c.laddr for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN
            or c.type == psutil.socket.SOCK_DGRAM]

before = listening()
engine = load(sys.argv[1], driver=sys.argv[2], task=sys.argv[3], batch_size=3)
if sys.argv[3] == "text-embedding":
    engine.embed(["a"])
else:
    engine.generate(["a"], max_output_length=1)
print(len(psutil.Process().children()), before, listening())
"""


@NEEDS_SOCKETS
@pytest.mark.parametrize(
    ("name", "driver", "task", "processes"),
    [
        (NAME, "llamacpp", "chat-completion", 1),
        (NAME, "llamacpp", "text-embedding", 1),
        (NAME, "huggingface", "chat-completion", 0),
        ("all-MiniLM-L6-v2", "huggingface", "text-embedding", 0),
    ],
)
def test_a_loaded_model_listens_on_no_port(name, driver, task, processes):
    assert run(LISTENERS, name, driver, task).split(maxsplit=1) == [str(processes), "[] []\n"]


def test_writing_a_gguf_file_asks_llama_cpp_in_a_process_of_its_own(tmp_path):
    """In the process of a notebook it would open a port, to compare the tokens of a few hundred texts."""
    code = "import sys; from pathlib import Path; from course_lib.models.gguf import export; "
    code += "export(Path(sys.argv[1]), Path(sys.argv[2])); print('xllamacpp' in sys.modules)"
    assert run(code, str(data.MODELS / NAME), str(tmp_path / "m.gguf")) == "False\n"


@NEEDS_SOCKETS
def test_no_other_user_can_enter_the_folder_of_the_sockets(engine):
    (address,) = engine.server._addresses
    path = Path(address.removeprefix("unix://"))
    assert path.is_socket() and path.parent.stat().st_mode & 0o777 == 0o700


@NEEDS_SOCKETS
def test_closing_removes_the_folder_and_ends_the_process_while_it_generates(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # one instance, which the requests for its slots then meet
    engine, errors = load(NAME, driver="llamacpp", batch_size=2), []
    folder = Path(engine.server._addresses[0].removeprefix("unix://")).parent

    def write():
        try:
            engine._completion(LONG)
        except CourseError as error:
            errors.append(str(error))

    thread = threading.Thread(target=write)
    thread.start()
    while thread.is_alive() and not any(s["is_processing"] for s in engine.server.request("/slots")):
        time.sleep(0.01)
    engine.close()
    thread.join(5)
    assert errors == [f"{NAME} has been closed\n  Fix: load it again"]
    assert ended(engine.process_id) and not folder.exists() and repr(engine).endswith("closed=True)")


START = """
import sys, time
from course_lib.models import load
engine = load("haneul-300k", driver="llamacpp")
print(engine.process_id, flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
"""


@pytest.mark.parametrize("end", ["of itself", "SIGTERM", "SIGKILL"])
def test_the_end_of_the_caller_ends_llama_cpp_and_leaves_nothing(end, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)} if len(str(tmp_path)) <= LONGEST_FOLDER else None
    argument = "go on" if end == "of itself" else "wait"
    command = [sys.executable, "-c", START, argument]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as caller:
        process_id = int(caller.stdout.readline())
        if argument == "wait":
            assert environment is None or list(tmp_path.iterdir())
            caller.send_signal(getattr(signal, end))
    assert ended(process_id) and not list(tmp_path.iterdir())


INTERRUPTED = """
from course_lib.models import load
engine = load("haneul-300k", driver="llamacpp", task="text-generation")
print("loaded", flush=True)
try:
    while True:
        engine.generate(["a"], max_output_length=1500, min_output_length=1500)
except KeyboardInterrupt:
    print(engine.generate(["a"], max_output_length=1, min_output_length=1)[0].tokens)
"""


def test_ctrl_c_ends_a_request_and_not_llama_cpp():
    """A terminal, and Jupyter, interrupt the whole group of processes."""
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as caller:
        assert caller.stdout.readline() == "loaded\n"
        time.sleep(0.2)
        os.killpg(caller.pid, signal.SIGINT)
        try:
            assert caller.communicate(timeout=30)[0] == "1\n"
        finally:
            caller.kill()  # else a caller that does not hear would be waited for without end


def test_a_crash_is_an_error_that_says_how_the_process_ended():
    engine = load(NAME, driver="llamacpp")
    os.kill(engine.process_id, signal.SIGSEGV)
    for _ in "ab":
        with pytest.raises(CourseError, match=r"(?s)ended with status -11.*load it again"):
            engine.generate(["a"])
    engine.close()


def test_a_file_that_cannot_be_loaded_is_refused_with_llama_cpp_s_reason(tmp_path, engine):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(engine.file.read_bytes().replace(b"blk.0.attn_k.weight", b"blk.0.attn_z.weight"))
    children = len(psutil.Process().children())
    with pytest.raises(CourseError, match=r"cannot load damaged\.gguf.*'blk\.0\.attn_k\.weight' not found"):
        load(damaged, driver="llamacpp")
    assert len(psutil.Process().children()) == children


def test_a_set_event_ends_a_request_and_frees_its_slot(engine):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(CancelledError):
        engine._completion(LONG, stop)
    assert engine.generate(["When?"], max_output_length=1)[0].tokens == 1
    assert not any(slot["is_processing"] for slot in engine.server.request("/slots"))


def test_slots_and_context_are_those_asked_for(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # one instance, which has all slots
    engine = load(NAME, driver="llamacpp", batch_size=3, context_length=512)
    found = [engine.server.request("/props") for _ in engine.server._addresses]
    assert sum(props["total_slots"] for props in found) == engine.slots == 3
    assert {props["default_generation_settings"]["n_ctx"] for props in found} == {512} == {engine.context}
    assert engine.cache_bytes == 3 * load(NAME, driver="llamacpp", context_length=512).cache_bytes > 0
    engine.close()


@pytest.mark.parametrize("cores", ["1", "2"])
def test_the_vector_of_a_text_does_not_depend_on_the_others(cores, monkeypatch):
    """Texts of several slots in one instance had other vectors, and an odd number ended llama.cpp."""
    monkeypatch.setenv("OMP_NUM_THREADS", cores)
    engine = load(NAME, driver="llamacpp", task="text-embedding", batch_size=3)
    texts = ["a", "the branch opens at nine", "c d e f g", "word " * 600]
    alone = np.concatenate([engine.embed([text]) for text in texts])
    assert np.allclose(engine.embed(texts), alone, atol=1e-5) and engine.slots == int(cores)
    engine.close()


@NEEDS_SOCKETS
def test_a_long_temporary_folder_is_no_obstacle(tmp_path):
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    assert run(START, "go on", env=os.environ | {"TMPDIR": str(folder)}).strip().isdigit()


def test_without_unix_sockets_a_port_asks_for_the_key(monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    engine = load(NAME, driver="llamacpp")
    (address,) = engine.server._addresses
    assert address.startswith("http://127.0.0.1:") and engine.generate(["a"], max_output_length=1)
    for path in ("/props", "/slots", "/lora-adapters"):
        assert httpx.get(f"{address}{path}", trust_env=False).status_code == 401
    body = {"prompt": "a", "n_predict": 1}
    assert httpx.post(f"{address}/completion", json=body, trust_env=False).status_code == 401
    engine.close()


@NEEDS_PROC
def test_threads_that_wait_do_not_spin_unless_the_user_says_so(engine, monkeypatch):
    def policy(process_id):
        lines = Path(f"/proc/{process_id}/environ").read_text().split("\0")
        return [line for line in lines if line.startswith("OMP_WAIT_POLICY")]

    assert policy(engine.process_id) == ["OMP_WAIT_POLICY=passive"]
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    other = load(NAME, driver="llamacpp")
    assert policy(other.process_id) == ["OMP_WAIT_POLICY=active"]
    other.close()


def test_a_model_of_few_bytes_writes_with_one_thread_and_reads_with_all(tmp_path, monkeypatch):
    def threads(size):
        with open(tmp_path / "model.gguf", "wb") as file:
            file.truncate(size)
        found = settings(load(NAME).spec, tmp_path / "model.gguf", 1, 512, 4)
        return found["cpuparams.n_threads"], found["cpuparams_batch.n_threads"]

    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert threads(ONE_WRITER_BYTES - 1) == (1, 4) and threads(ONE_WRITER_BYTES) == (4, 4)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert threads(ONE_WRITER_BYTES - 1) == (4, 4)


def test_threads_are_the_physical_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(12), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda *_: "max 100000\n")
    assert (usable_cores(), computing_threads()) == (12, 6)
    monkeypatch.setattr(Path, "read_text", lambda *_: "450000 100000\n")
    assert (usable_cores(), computing_threads()) == (4, 2)
    monkeypatch.setattr(Path, "read_text", lambda *_: "50000 100000\n")
    assert (usable_cores(), computing_threads()) == (1, 1)
    for value in ("3", "3,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert computing_threads() == 3


@NEEDS_PROC
def test_memory_is_the_file_the_cache_and_little_more(smollm2):
    engine = load(smollm2, driver="llamacpp", context_length=2048, batch_size=2)
    engine.generate(["When?"] * 2, max_output_length=4)
    taken = psutil.Process(engine.process_id).memory_info().rss
    planned = smollm2.stat().st_size + engine.cache_bytes
    assert engine.cache_bytes == 2 * 2048 * 30 * 2 * 3 * 64 * 2, (
        "slots x tokens x layers x K, V x heads x 16 bits"
    )
    assert planned < taken < planned + 120_000_000
    engine.close()


FORK = """
import os, sys
from course_lib.models import load
engine = load("haneul-300k", driver="llamacpp")
answer = engine.generate(["hello"], max_output_length=3)
child = os.fork()
if child == 0:
    assert engine.generate(["hello"], max_output_length=3) == answer
    engine.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert engine.generate(["hello"], max_output_length=3) == answer
folder = os.path.dirname(engine.server._addresses[0].split("://")[1])
engine.close()
assert not os.path.exists(folder)
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_that_ends_leaves_the_model_alone():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert done.stdout == "right\n", done.stderr


def test_a_request_goes_to_the_instance_with_the_fewest_requests(monkeypatch):
    """In turns, it went now and then to an instance whose slots others held for minutes."""
    monkeypatch.setattr("course_lib.models.gguf.llamacpp_server.computing_threads", lambda: 2)
    engine = load("haneul-300k", driver="llamacpp", batch_size=2)
    server = engine.server
    with server._response("/props", None):
        busy = server._running[0]
        for _ in range(3):
            with server._response("/props", None):
                assert sorted(server._running) == sorted(server._addresses)
                assert server._running[0] == busy
    assert len(server._addresses) == 2 and not server._running
    engine.close()
