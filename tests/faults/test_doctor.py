"""Break a thing for real, and read what the doctor says: the line, its command, and whether that helps."""

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

from course_lib import data, doctor, lab, shell
from course_lib.data import ROOT
from course_lib.learn import state

run_check = doctor.run_check


def run(*arguments, **environment):
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def test_every_line_is_ok_or_says_what_to_do(tmp_path):
    result = run("-m", "course_lib.cli", "doctor", "--json", COURSE_STATE=str(tmp_path / "none.json"))
    findings = json.loads(result.stdout)
    assert [f["check"] for f in findings] == [c.__name__.removeprefix("_") for c in doctor.CHECKS]
    assert {f["status"] for f in findings} <= {"ok", "warn"} and result.returncode == 0, result.stdout
    assert all(bool(f["fix"]) == (f["status"] != "ok") for f in findings)
    assert "Traceback" not in result.stderr


def test_a_failure_makes_the_exit_status_1_and_stands_above_its_command(capsys):
    def thing():
        return doctor.fail("it is broken", "fix it")

    assert doctor.report(checks=(thing,)) == 1
    assert capsys.readouterr().out == "fail  thing      it is broken\n      fix it\n"
    assert doctor.report(checks=()) == 0


@pytest.mark.parametrize("name", ["passages.jsonl", "pictures/card-00.png"])
def test_an_altered_file_of_the_data(name, tmp_path, monkeypatch):
    copy = tmp_path / "haneul"
    shutil.copytree(data.HANEUL, copy, ignore=shutil.ignore_patterns("source"))
    monkeypatch.setattr(data, "HANEUL", copy)
    assert run_check(doctor._data).status == "ok"
    with (copy / name).open("a") as f:
        f.write(" ")
    finding = run_check(doctor._data)
    assert finding.status == "fail" and f"{name} is not the published file" in finding.what
    assert finding.fix == "git checkout -- datasets/haneul"


def test_a_damaged_model_is_named_and_restored_by_the_command(tmp_path, monkeypatch):
    clone = tmp_path / "course"
    command = ["git", "clone", "-q", "--no-checkout", "--shared", str(ROOT), str(clone)]
    subprocess.run(command, check=True)
    subprocess.run(["git", "checkout", "-q", "HEAD", "--", "models"], cwd=clone, check=True)
    weights = clone / "models" / "haneul-300k" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    monkeypatch.setattr(data, "MODELS", clone / "models")
    finding = run_check(doctor._models)
    assert finding.status == "fail" and "haneul-300k/model.safetensors" in finding.what, finding
    subprocess.run(finding.fix, shell=True, cwd=clone, check=True)
    assert run_check(doctor._models).status == "ok"


@pytest.fixture(scope="module")
def other_python(tmp_path_factory):
    """An environment of its own with links to our packages, so that something can be broken in it."""
    folder = tmp_path_factory.mktemp("a folder") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next((folder / "lib").glob("python3*")) / "site-packages"
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python", packages


def findings_of(python, *checks):
    """What the doctor of another Python says, by check."""
    names = "".join(f"doctor._{check}, " for check in checks)
    code = f"from course_lib import doctor; doctor.report(True, ({names}))"
    output = subprocess.check_output([python, "-c", code], cwd=ROOT, text=True)
    return {f["check"]: f for f in json.loads(output)}


def test_a_kernel_of_another_python_is_named_and_replaced_by_the_command(other_python):
    python, _ = other_python
    spec = python.parents[1] / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    broken = {
        "argv": ["/opt/old/bin/python", "-m", "ipykernel_launcher"],
        "display_name": "x",
        "language": "python",
    }
    for text, problem in (("{", "cannot be read"), (json.dumps(broken), "/opt/old/bin/python")):
        spec.write_text(text)
        finding = findings_of(python, "kernel")["kernel"]
        assert finding["status"] == "fail" and problem in finding["what"]
    assert finding["fix"].startswith(f"'{python}' -m ipykernel")  # there is a space in its path
    subprocess.run(finding["fix"], shell=True, check=True, capture_output=True)
    assert findings_of(python, "kernel")["kernel"]["status"] == "ok"
    shutil.rmtree(spec.parent)


def test_packages_that_are_missing_or_have_moved_are_named(other_python):
    python, packages = other_python
    hidden = [link for name in ("rank_bm25", "ipykernel", "nbval-") for link in packages.glob(f"{name}*")]
    for link in hidden:
        link.rename(packages.parent / link.name)
    moved = packages / "nbval-0.10.0.dist-info"
    moved.mkdir()
    (moved / "METADATA").write_text("Metadata-Version: 2.1\nName: nbval\nVersion: 0.10.0\n")
    findings = findings_of(python, "packages", "kernel")
    for link in hidden:
        (packages.parent / link.name).rename(link)
    shutil.rmtree(moved)
    assert findings["packages"]["status"] == findings["kernel"]["status"] == "fail"
    expected = "nbval 0.10.0, pinned ==0.11.0; ipykernel is missing; rank-bm25 is missing"
    assert findings["packages"]["what"] == expected
    assert findings["kernel"]["what"] == "Jupyter has no kernel named python3"
    install = f"'{python}' -m pip install --editable {shell.command_line(ROOT)}"
    assert findings["packages"]["fix"] == findings["kernel"]["fix"] == install
    assert findings_of(python, "packages")["packages"]["status"] == "ok"


def test_a_python_without_any_package_gets_lines_and_no_traceback():
    result = run("-S", "-m", "course_lib.cli", "doctor", PYTHONPATH=str(ROOT))
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    lines = ("ok    python", "package psutil is missing", "package packaging is missing", "ok    data")
    assert [line for line in lines if line not in result.stdout] == []
    assert shell.command_line(sys.executable, "-m", "pip", "install", "--editable", ROOT) in result.stdout


def test_an_environment_of_uv_is_repaired_by_uv(other_python):
    python, _ = other_python
    config = python.parents[1] / "pyvenv.cfg"
    before = config.read_text()
    config.write_text(before + "uv = 0.13.9\n")
    code = "from course_lib import doctor; print(doctor.INSTALL)"
    output = subprocess.check_output([python, "-c", code], cwd=ROOT, text=True)
    config.write_text(before)
    assert output == "uv sync\n"


def test_a_taken_port_names_a_free_one(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(doctor, "LAB_PORT", taken.getsockname()[1])
        finding = run_check(doctor._port)
    assert finding.status == "warn" and "course lab --port " in finding.fix
    assert lab.port_is_free(int(finding.fix.rpartition(" ")[2]))
    monkeypatch.setattr(doctor, "LAB_PORT", int(finding.fix.rpartition(" ")[2]))
    assert run_check(doctor._port).status == "ok"


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "WORKSPACE", tmp_path / "not yet" / "workspace")
    # root writes into read-only folders, but not over a folder
    (tmp_path / f".doctor-{os.getpid()}").mkdir()
    finding = run_check(doctor._disk)
    assert finding.status == "fail" and f"nothing can be written to {tmp_path}: " in finding.what
    assert finding.fix.startswith("set COURSE_WORKSPACE to ")


def test_too_little_memory_and_disk(monkeypatch):
    monkeypatch.setattr(doctor, "MIN_MEMORY_GIB", 10**6)
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 10**9)
    assert "the chapters need" in run_check(doctor._memory).what and run_check(doctor._memory).fix
    assert run_check(doctor._disk).status == "fail" and run_check(doctor._disk).fix.startswith("free ")


def test_a_python_that_is_too_new(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 15, 0))
    assert run_check(doctor._python).fix == "python3.13 course.py lab"


@pytest.mark.parametrize(
    ("script", "version", "line"),
    [
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'", "2.13.0", "GPU 0: NVIDIA H200"),
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'", "2.13.0+cpu", "installed with COURSE_TORCH=cuda"),
        ("exit 9", "2.13.0+cpu", "no NVIDIA GPU found; none is needed"),
    ],
)
def test_a_gpu_and_whether_torch_can_use_it(tmp_path, monkeypatch, script, version, line):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: version)
    finding = run_check(doctor._gpu)
    assert finding.status == "ok" and finding.what.endswith(line)


class Ollama(http.server.BaseHTTPRequestHandler):
    reply = b""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (b'{"version": "0.30.1"}', "version 0.30.1"),
        (b"<html>", "does not answer"),
        (b"[]", "does not answer"),
    ],
)
def test_ollama_there_or_something_else_on_its_port(monkeypatch, reply, line):
    monkeypatch.setattr(Ollama, "reply", reply)
    with http.server.HTTPServer(("127.0.0.1", 0), Ollama) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr(doctor, "OLLAMA", f"http://127.0.0.1:{server.server_port}")
        finding = run_check(doctor._ollama)
    assert finding.status == "ok" and line in finding.what


def test_a_server_of_another_kind_on_ollamas_port_is_no_error(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"SSH-2.0-x\r\n"), daemon=True).start()
        monkeypatch.setattr(doctor, "OLLAMA", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert run_check(doctor._ollama).status == "ok"


def test_a_model_of_another_tier_that_is_not_here_has_the_command_that_fetches_it(monkeypatch):
    monkeypatch.setenv("COURSE_TIER", "laptop")
    finding = run_check(doctor._models)
    assert finding.status == "fail" and "tier laptop: not on this machine: Qwen2.5" in finding.what
    assert "course models pull " in finding.fix or finding.fix.startswith("ollama pull ")


def test_a_model_chosen_by_hand_is_told(monkeypatch):
    monkeypatch.setenv("COURSE_CHAT", "haneul-1m")
    assert "chat by hand: haneul-1m" in run_check(doctor._models).what


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
        assert run_check(doctor._ollama).status == run_check(doctor._hub).status == "ok"
        assert "cannot be reached" in run_check(doctor._hub).what
        s.listen()
        assert "can be reached" in run_check(doctor._hub).what
        monkeypatch.setenv("HF_HUB_OFFLINE", "false")
        assert "can be reached" in run_check(doctor._hub).what
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
        assert "not contacted, because TRANSFORMERS_OFFLINE is set" in run_check(doctor._hub).what
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not contacted, because HF_HUB_OFFLINE is set" in run_check(doctor._hub).what


def test_a_damaged_progress_file_is_set_aside_by_the_command(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    file.write_text("{")
    monkeypatch.setenv("COURSE_STATE", str(file))
    monkeypatch.setattr(data, "WORKSPACE", tmp_path)
    (tmp_path / "00-start-here.ipynb").write_text("{}")
    finding = run_check(doctor._workspace)
    assert finding.status == "fail" and finding.fix == shell.pasteable("course progress")
    assert file.exists(), "the doctor moves nothing"
    run("-m", "course_lib.cli", "progress").check_returncode()
    assert run_check(doctor._workspace).status == "ok" and state.load(file) == state.State()


def test_no_workspace_yet_is_a_hint(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "WORKSPACE", tmp_path / "none")
    assert run_check(doctor._workspace).fix == shell.pasteable("course start")
