"""Servers as processes: started, found ready, restarted, ended, and refused with the reason."""

import os
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from course_lib import cli
from course_lib.data import MODELS, ROOT
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.schema.spec import ModelSpec
from course_lib.serve import flag_table, managed
from course_lib.serve.managed import ManagedServer, Preset, start_command

FOLDER = {"source": str(MODELS / "haneul-300k")}
ANSWERS = """
import http.server, os, sys, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *_): pass
print("starting", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture
def server_of(monkeypatch):
    """Declare a server that is a Python program; its argument is the port."""

    def declare(program, **fields):
        command = ("python", "-c", program, "{port}")
        preset = Preset(install="none", command=command, model="none", ready="/", protocols=(), **fields)
        monkeypatch.setattr(managed, "presets", lambda: {"mine": preset})

    return declare


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


def test_the_courses_own_server_runs_and_ends():
    with ManagedServer("course", {**FOLDER, "batch_size": 2}) as server:
        assert "Local AI" in httpx.get(server.url + "/api/version").text
        assert server.running and server.ready()
        source = {"type": "server", "url": f"{server.url}/v1", "model": server.model}
        assert load({"source": source, "driver": "openai"}).generate(["Hello."], max_output_length=4)[0]
        with pytest.raises(CourseError, match=rf"no model 'other'; it has .*{server.model}"):
            load({"source": source | {"model": "other"}, "driver": "openai"})
    assert gone(server.pids[0]) and not server.running
    assert repr(server) == f"<course at {server.url}: ended>"


def test_a_server_that_is_killed_comes_back_at_the_same_address(server_of):
    server_of(ANSWERS)
    with ManagedServer("mine") as server:
        first = server.pids[0]
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: len(server.pids) == 2 and server.ready())
        assert httpx.get(server.url).text == str(server.pids[1])
    assert all(map(gone, server.pids))


def test_no_process_is_left_when_the_parent_is_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from course_lib.serve.managed import ManagedServer\n"
         "s = ManagedServer('course'); print(s.pids[0], flush=True); time.sleep(99)"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    server = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_for(lambda: gone(server))


def test_a_server_that_dies_at_the_start_shows_its_last_lines(server_of):
    server_of("print('line 1'); raise SystemExit('no such weights')")
    with pytest.raises(CourseError, match=r"mine ended 2 times while it started:\n(.*\n)*no such weights"):
        ManagedServer("mine", restarts=1)


def test_a_server_that_never_answers_is_ended(server_of):
    server_of("import os, time; print('loading', os.getpid(), flush=True); time.sleep(99)")
    with pytest.raises(CourseError, match=r"not ready after 1 s; its log ends:\nloading \d+") as told:
        ManagedServer("mine", ready_timeout=1)
    assert gone(int(told.value.what.split()[-1]))
    assert told.value.fix == "ManagedServer(..., ready_timeout=2)"


def test_a_port_of_another_program_is_refused(server_of):
    server_of(ANSWERS)
    with ManagedServer("mine") as server, pytest.raises(CourseError, match=r"port \d+ cannot be used"):
        ManagedServer("mine", port=int(server.url.rsplit(":")[-1]))


def test_a_missing_program_is_named_with_its_one_command(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CourseError, match="vllm is not installed: no program vllm") as told:
        ManagedServer("vllm", FOLDER)
    assert told.value.fix == "pip install vllm"


def test_fields_become_the_documented_flags(tmp_path):
    spec = ModelSpec.parse({**FOLDER, "context_length": 4096, "batch_size": 8, "precision": "bfloat16"})
    path = str(MODELS / "haneul-300k")
    assert start_command("vllm", spec, 8000, ["--tensor-parallel-size", "4"])[0] == [
        *("vllm", "serve", path, "--host", "127.0.0.1", "--port", "8000"),
        *("--served-model-name", "haneul-300k"),
        *("--max-num-seqs", "8", "--max-model-len", "4096", "--dtype", "bfloat16"),
        *("--tensor-parallel-size", "4"),
    ]  # fmt: skip
    assert start_command("tgi", spec, 8000)[0][7:] == [
        *("--max-concurrent-requests", "8", "--max-total-tokens", "4096", "--dtype", "bfloat16")
    ]
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF".ljust(4096))
    fields = {"context_length": 512, "batch_size": 4, "device": "cpu", "low_cpu_mem_usage": False}
    own = ModelSpec.parse({"source": str(file)} | fields)
    assert start_command("llama-server", own, 1)[0] == [
        *("llama-server", "--host", "127.0.0.1", "--port", "1", "--model", str(file), "--alias", own.name),
        *("--parallel", "4"),
        *("--ctx-size", "2048", "--n-gpu-layers", "0"),  # of all slots together
        *("--load-mode", "none"),
    ]
    served = ModelSpec.parse({**FOLDER, "context_length": 512, "keep_alive": 60})
    assert start_command("ollama", served, 9) == (
        ["ollama", "serve"],
        {"OLLAMA_HOST": "127.0.0.1:9", "OLLAMA_CONTEXT_LENGTH": "512", "OLLAMA_KEEP_ALIVE": "60.0s"},
        "haneul-300k:latest",
    )
    assert start_command("transformers", ModelSpec.parse(FOLDER), 9).request == path


@pytest.mark.parametrize(
    ("engine", "fields", "what"),
    [
        ("tgi", {"precision": "float32"}, "tgi has no flag for precision='float32'"),
        ("vllm", {"keep_alive": 5}, "vllm has no flag for keep_alive=5"),
        ("vllm", {"quantization": "nf4"}, "vllm has no flag for quantization='nf4'"),
        ("transformers", {"keep_alive": 5}, "transformers has no flag for keep_alive=5"),
        ("vllm", {"adapters": ["haneul-style"]}, "vllm has no flag for adapters"),
        ("llama-server", {}, "llama-server needs a GGUF file; .* is a folder"),
        ("sglang", {}, "no server 'sglang'; there are course, llama-server, vllm, tgi, transformers, ollama"),
    ],
)
def test_what_a_server_cannot_do_is_refused(engine, fields, what):
    with pytest.raises(CourseError, match=what):
        start_command(engine, ModelSpec.parse(FOLDER | fields), 1)


def test_the_command_waits_for_ctrl_c_and_ends_the_server():
    program = (
        "import sys; from course_lib.serve.managed import serve_with; sys.exit(serve_with('course', []))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert "course is ready at http://127.0.0.1:" in process.stdout.readline()
    servers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert len(servers) == 2 and all(gone(s.pid) for s in servers)  # the watcher and the server


def test_the_command_refuses_what_another_server_cannot_do(capsys):
    assert cli.main(["serve", "--engine", "vllm", "--model", "haneul-4m", "--store", "x"]) == 1
    assert "vllm serves one model and has no --store" in capsys.readouterr().err
    assert cli.main(["serve", "--engine", "ollama", "--model", "a", "--model", "b"]) == 1


def test_a_server_that_loads_at_the_start_needs_a_model():
    with pytest.raises(CourseError, match="vllm needs a model when it starts"):
        start_command("vllm", None, 1)


def test_the_page_in_the_docs_is_the_table_of_the_presets():
    assert (ROOT / "docs" / "serving.md").read_text("utf-8") == flag_table.page()
