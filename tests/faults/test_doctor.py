"""Break a thing for real, and read what the doctor says: the line, its one command, and whether the command mends it."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest

from course_lib import data, doctor, lab
from course_lib.data import ROOT
from course_lib.learn import state
from course_lib.models import catalog

finding = doctor.examine


def run(*arguments, python=sys.executable, **environment):
    command = [python, "-m", "course_lib.cli", "doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def test_every_line_is_ok_or_says_what_to_do(tmp_path):
    result = run("--json", COURSE_STATE=str(tmp_path / "none.json"))
    found = json.loads(result.stdout)
    assert [f["check"] for f in found] == [c.__name__.removeprefix("_") for c in doctor.CHECKS]
    assert {f["status"] for f in found} <= {"ok", "warn"} and result.returncode == 0, result.stdout
    assert all(bool(f["fix"]) == (f["status"] != "ok") for f in found)
    assert "Traceback" not in result.stderr


def test_a_failure_makes_the_exit_status_1_and_stands_above_its_command(capsys):
    def broken():
        return doctor.Finding("fail", "thing", "it is broken", "fix it")

    assert doctor.report(checks=(broken,)) == 1
    assert capsys.readouterr().out == "fail  thing      it is broken\n      fix it\n"
    assert doctor.report(checks=()) == 0


def test_an_altered_file_of_the_data(tmp_path, monkeypatch):
    copy = tmp_path / "haneul"
    shutil.copytree(data.HANEUL, copy, ignore=shutil.ignore_patterns("source"))
    monkeypatch.setattr(data, "HANEUL", copy)
    assert finding(doctor._data).status == "ok"
    with (copy / "passages.jsonl").open("a") as f:
        f.write(" ")
    found = finding(doctor._data)
    assert found.status == "fail" and "passages.jsonl is not the published file" in found.what
    assert found.fix == "git checkout -- datasets/haneul"


@pytest.fixture
def checkout(tmp_path):
    """A clone, to break and to fix with git."""
    folder = tmp_path / "course"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(folder)], check=True)
    return folder


def test_a_damaged_model_is_named_and_mended_by_the_command(checkout, monkeypatch):
    weights = checkout / "models" / "haneul-300k" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    monkeypatch.setattr(data, "MODELS", checkout / "models")
    catalog.folder_of.cache_clear() if hasattr(catalog.folder_of, "cache_clear") else None
    found = finding(doctor._models)
    assert found.status == "fail" and "haneul-300k/model.safetensors" in found.what, found
    subprocess.run(found.fix, shell=True, cwd=checkout, check=True)
    assert finding(doctor._models).status == "ok"


@pytest.fixture
def other_python(tmp_path):
    """An environment of its own that borrows our packages, so that something can be broken in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    site = next((tmp_path / "env" / "lib").glob("python3*")) / "site-packages"
    (site / "ours.pth").write_text(
        f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n{ROOT / 'datasets'}\n{ROOT / 'models'}\n"
    )
    return tmp_path / "env" / "bin" / "python", site


def test_a_kernel_of_another_python_is_named_and_mended_by_the_command(other_python):
    python, _ = other_python
    spec = python.parents[1] / "share" / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    broken = {
        "argv": ["/opt/old/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "x",
        "language": "python",
    }
    (spec / "kernel.json").write_text(json.dumps(broken))
    (spec / "kernel.json").write_text("{")
    said = {f["check"]: f for f in json.loads(run("--json", python=str(python)).stdout)}["kernel"]
    assert said["status"] == "fail" and "cannot be read" in said["what"]
    (spec / "kernel.json").write_text(json.dumps(broken))
    said = {f["check"]: f for f in json.loads(run("--json", python=str(python)).stdout)}["kernel"]
    assert said["status"] == "fail" and "/opt/old/bin/python" in said["what"]
    subprocess.run(said["fix"], shell=True, check=True, capture_output=True)
    assert {f["check"]: f for f in json.loads(run("--json", python=str(python)).stdout)}["kernel"][
        "status"
    ] == "ok"


def test_a_package_that_is_missing_or_has_moved_is_named(other_python):
    python, site = other_python
    (
        site / "nbval-0.10.0.dist-info"
    ).mkdir()  # found before ours, as a package that was moved by hand would be
    (site / "nbval-0.10.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nbval\nVersion: 0.10.0\n"
    )
    result = run(python=str(python))
    assert "fail  packages   nbval 0.10.0, pinned ==0.11.0\n" in result.stdout and result.returncode == 1
    assert f"{python} -m pip install --editable {ROOT}" in result.stdout


def without(tmp_path, package):
    """An environment with all of our packages but this one; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    site = next((tmp_path / "env" / "lib").glob("python3*")) / "site-packages"
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(package):
            (site / entry.name).symlink_to(entry)
    return str(tmp_path / "env" / "bin" / "python")


def test_a_missing_package_is_named(tmp_path):
    result = run(python=without(tmp_path, "rank_bm25"))
    assert "fail  packages   rank-bm25 is missing\n" in result.stdout and result.returncode == 1, (
        result.stdout + result.stderr
    )


def test_no_kernel_at_all_is_mended_by_installing(tmp_path):
    result = run(python=without(tmp_path, "ipykernel"))
    assert "fail  kernel     Jupyter knows no kernel named python3\n" in result.stdout, (
        result.stdout + result.stderr
    )


def test_a_python_without_any_package_gets_lines_and_no_traceback(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    result = run(python=str(tmp_path / "env" / "bin" / "python"))
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    for line in (
        "ok    python",
        "the package psutil is missing",
        "the package packaging is missing",
        "ok    data",
    ):
        assert line in result.stdout
    assert f"{tmp_path / 'env' / 'bin' / 'python'} -m pip install --editable {ROOT}" in result.stdout


def test_a_taken_port_names_a_free_one():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if lab.port_is_free(8888):
            s.bind(("127.0.0.1", 8888))
            s.listen()
        found = finding(doctor._port)
    assert found.status == "warn" and found.fix.startswith("make lab PORT=")
    assert lab.port_is_free(int(found.fix.rpartition("=")[2]))


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    (tmp_path / f".doctor-{os.getpid()}").mkdir()  # root writes into read-only folders, but not over a folder
    found = finding(doctor._disk)
    assert found.status == "fail" and "nothing can be written" in found.what and found.fix.startswith("cp -r")


def test_too_little_memory_and_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "MEMORY_GIB", 10**6)
    monkeypatch.setattr(doctor, "DISK_GB", 10**9)
    assert "the chapters need" in finding(doctor._memory).what and finding(doctor._memory).fix
    assert finding(doctor._disk).status == "fail" and finding(doctor._disk).fix.startswith("free ")


class Ollama(http.server.BaseHTTPRequestHandler):
    reply = b'{"version": "0.30.1"}'

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b'{"version": "0.30.1"}', "version 0.30.1"),
        (b"<html>", "does not answer"),
        (b"[]", "does not answer"),
    ],
)
def test_ollama_there_or_something_else_on_its_port(monkeypatch, reply, said):
    monkeypatch.setattr(Ollama, "reply", reply)
    with http.server.HTTPServer(("127.0.0.1", 0), Ollama) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(doctor, "OLLAMA", f"http://127.0.0.1:{server.server_port}")
        found = finding(doctor._ollama)
        server.shutdown()
    assert found.status == "ok" and said in found.what


def test_a_model_of_another_tier_that_is_not_here_is_a_line_with_the_command_that_fetches_it(monkeypatch):
    monkeypatch.setenv("COURSE_TIER", "laptop")
    found = finding(doctor._models)
    assert found.status == "fail" and "of the tier laptop is not here" in found.what
    assert found.fix.startswith(("course models pull ", "ollama pull "))


def test_something_else_on_ollamas_port_is_no_error(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"SSH-2.0-x\r\n"), daemon=True).start()
        monkeypatch.setattr(doctor, "OLLAMA", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert finding(doctor._ollama).status == "ok"


def test_a_check_that_fails_by_itself_is_a_line_like_the_others(capsys):
    def _odd():
        raise ZeroDivisionError("planted")

    assert doctor.report(checks=(_odd, doctor._processor)) == 1
    assert "could not be checked: ZeroDivisionError: planted" in capsys.readouterr().out


def test_no_ollama_and_no_hub_are_no_errors(monkeypatch):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # bound, not listening: refused
        monkeypatch.setattr(doctor, "OLLAMA", f"http://127.0.0.1:{s.getsockname()[1]}")
        monkeypatch.setattr(doctor, "HUB", s.getsockname())
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        assert finding(doctor._ollama).status == finding(doctor._hub).status == "ok"
        assert "cannot be reached" in finding(doctor._hub).what
        s.listen()
        assert "can be reached" in finding(doctor._hub).what
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not asked" in finding(doctor._hub).what


def test_a_damaged_progress_file_is_mended_by_the_command(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    file.write_text("{")
    monkeypatch.setenv("COURSE_STATE", str(file))
    monkeypatch.setattr(data, "WORKSPACE", tmp_path)
    (tmp_path / "00-start-here.ipynb").write_text("{}")
    found = finding(doctor._workspace)
    assert (found.status, found.fix) == ("fail", "course progress") and file.exists(), (
        "the doctor moves nothing"
    )
    subprocess.run([sys.executable, "-m", "course_lib.cli", "progress"], check=True, capture_output=True)
    assert finding(doctor._workspace).status == "ok" and state.load(file) == state.State()


def test_no_workspace_yet_is_a_hint(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "WORKSPACE", tmp_path / "none")
    assert finding(doctor._workspace).fix == "course start"
