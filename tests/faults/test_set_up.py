"""Bad surroundings, planted for real where possible: a clear line, its fix, nothing half-made."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import environment, host, packages
from course_lib.data import ROOT

NO_NETWORK = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_RETRIES": "0",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_TIMEOUT": "2",
}


def copy_to(folder):
    """As much of the course as setting up needs."""
    shutil.copytree(ROOT / "bootstrap", folder / "bootstrap", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("course.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def checkout(tmp_path):
    """A checkout in a folder with a space and Hangul in its name."""
    return copy_to(tmp_path / "내 과정 folder")


def set_up(folder, *, python=sys.executable, prelude="", user=None, **variables):
    """Run `course.py set-up` of a checkout; `prelude` is Python that runs first."""
    code = "import sys, course; from bootstrap import environment, host, packages\n"
    code += f"packages.is_reachable = lambda url: False\n{prelude}\nsys.exit(course.main(['set-up']))"
    return subprocess.run(
        [python, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", **variables},
        user=user,
        capture_output=True,
        text=True,
        timeout=300,
    )


def assert_told(result, what, fix):
    assert result.returncode == 1, result.stdout + result.stderr
    assert what in result.stderr and "Fix:" in result.stderr and fix in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


def test_no_network(checkout):
    result = set_up(checkout, **NO_NETWORK)
    assert_told(result, "could not get a package from the network", "check the connection")
    assert not (checkout / ".venv").exists()
    log = checkout / "set-up.log"
    assert f"'{log}'" in result.stderr and "No matching distribution" in log.read_text("utf-8")
    assert len(result.stdout.splitlines()) <= 3, "quiet"


def test_no_venv_module(checkout, tmp_path):
    (tmp_path / "ensurepip.py").write_text("raise ImportError('planted')")
    assert_told(set_up(checkout, PYTHONPATH=str(tmp_path)), "no venv module", "sudo apt install python3.")
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 15, 0)])
@pytest.mark.parametrize(
    ("system", "fix"), [("linux", "apt install"), ("darwin", "brew"), ("win32", "py -3.13")]
)
def test_a_python_that_does_not_fit(monkeypatch, version, system, fix):
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(host.SetUpFailed, match=rf"Python 3\.{version[1]} is not supported(.|\n)*{fix}"):
        host.find_python()


def test_another_python_on_the_path_is_used_and_a_shim_that_starts_none_is_not(monkeypatch, tmp_path):
    for name, script in (("python3.13", "exit 127"), ("python3.12", 'echo "$0"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.find_python() == str(tmp_path / "python3.12")


def test_python_2_is_told_in_one_line():
    """Nothing newer than Python 2's syntax stands above the line that says so."""
    code = (ROOT / "course.py").read_text("utf-8")
    check = code[code.index("if sys.version_info") : code.index("from bootstrap")]
    with pytest.raises(SystemExit, match=r"Python 2\.7\n  Fix: python3 course\.py lab"):
        exec(check.replace("sys.version_info", "(2, 7)"), {"sys": sys})


def test_a_read_only_checkout(checkout):
    for path in (checkout, *checkout.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in checkout.parents:
        if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    user = 65534 if os.getuid() == 0 else None  # root may write everywhere
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") if user else sys.executable
    if python is None:
        pytest.skip("root, and no Python that another user may start")
    prelude = "host.find_python = environment.find_python = lambda: sys.executable\n"
    prelude += "environment.check_python = lambda python: None"
    result = set_up(checkout, python=python, user=user, prelude=prelude)
    assert_told(result, "read-only", f"cp -r '{checkout}' ~/local-ai-measured")


@pytest.fixture
def small_disk(tmp_path):
    """A checkout on a file system of 12 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield copy_to(folder / "course")
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(small_disk):
    result = set_up(small_disk)
    assert_told(result, "GB free, but installing needs", f"GB on the disk that holds '{small_disk}'")
    assert not (small_disk / ".venv").exists()


def test_a_disk_that_fills_while_installing(small_disk):
    result = set_up(small_disk, prelude="packages.LAB_BYTES = 0")
    assert result.returncode == 1 and "Fix" in result.stderr and "Traceback" not in result.stderr
    assert not (small_disk / ".venv").exists()


@pytest.mark.parametrize(
    ("output", "what", "fix"),
    [
        (
            f"ERROR: Could not install: [Errno {errno.ENOSPC}] No space left on device",
            "disk became full",
            "free ",
        ),
        ("NewConnectionError: Failed to establish a new connection", "network", "HTTPS_PROXY"),
        (
            "ssl.SSLError: CERTIFICATE_VERIFY_FAILED\nERROR: No matching distribution found for torch",
            "certificate",
            "pip",
        ),
        (
            "ERROR: No matching distribution found for torch==2.13.0",
            "no file of torch==2.13.0 for",
            "README.md",
        ),
        ("x\nERROR: Cannot uninstall x\n", "pip failed: Cannot uninstall x", "set-up.log"),
        ("", "pip failed: it gave no reason", "set-up.log"),
    ],
)
def test_pips_messages_are_understood(output, what, fix):
    explained = packages.explain_failure(output)
    assert what in explained[0] and fix in explained[1]


def test_an_interruption_leaves_nothing(checkout):
    # A shell in the background makes its children deaf to SIGINT: this one listens again.
    prelude = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    prelude += "environment.subprocess.check_call = lambda command: os.makedirs(command[-1])\n"
    prelude += "packages.install = lambda torch, dev: os.kill(os.getpid(), 2)"
    result = set_up(checkout, prelude=prelude)
    assert result.returncode == 130 and "interrupted" in result.stderr
    assert not (checkout / ".venv").exists()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The functions of `environment` in a folder of their own; installing is only noted."""
    monkeypatch.delenv("COURSE_TORCH", raising=False)
    for module in (environment, packages):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(host, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "STAMP", tmp_path / ".venv" / "course-install")
    monkeypatch.setattr(environment, "check_python", lambda python: None)
    installed = []
    monkeypatch.setattr(packages, "install", lambda torch, dev: installed.append((torch, dev)))
    monkeypatch.setattr(environment.subprocess, "check_call", lambda command: make_venv(tmp_path))
    (tmp_path / "pyproject.toml").write_text("a")
    return tmp_path, installed


def make_venv(folder, settings="home = /usr/bin\n"):
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").touch()
    (folder / ".venv" / "pyvenv.cfg").write_text(settings)


def test_a_finished_set_up_is_not_repeated_until_something_changes(here, monkeypatch):
    folder, installed = here
    assert environment.ensure_installed(False) == environment.ensure_installed(False) == 0
    assert installed == [("", False)]
    environment.ensure_installed(True)
    assert (
        installed[1:] == [("", True)] and environment.is_up_to_date(True) and environment.is_up_to_date(False)
    )
    kept = folder / ".venv" / "kept"
    kept.touch()
    (folder / "pyproject.toml").write_text("b")
    environment.ensure_installed(False)
    assert installed[2:] == [("", True)], "what the tests need stays"
    assert kept.exists(), "an environment is brought up to date, not made anew"
    monkeypatch.setenv("COURSE_TORCH", "cuda")
    environment.ensure_installed(False)
    assert installed[3:] == [("cuda", True)] and not kept.exists(), "another build of torch needs a new one"
    monkeypatch.delenv("COURSE_TORCH")
    assert environment.is_up_to_date(True), "the setting is remembered"


def test_a_folder_that_was_moved_gets_a_new_environment(here):
    folder, installed = here
    environment.ensure_installed(False)
    stamp = environment.STAMP
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "root": "/elsewhere"}))
    (folder / ".venv" / "old").touch()
    environment.ensure_installed(False)
    assert len(installed) == 2 and not (folder / ".venv" / "old").exists()


def test_an_update_that_fails_leaves_the_environment_and_is_tried_again(here, monkeypatch):
    folder, installed = here
    environment.ensure_installed(False)
    (folder / "pyproject.toml").write_text("b")
    with monkeypatch.context() as patch:
        patch.setattr(packages, "install", lambda torch, dev: (_ for _ in ()).throw(OSError("planted")))
        assert environment.ensure_installed(False) == 1
    assert (folder / ".venv" / "bin" / "python").exists() and not environment.is_up_to_date(False)
    assert environment.ensure_installed(False) == 0 and len(installed) == 2


def test_an_environment_of_uv_is_used_as_it_is(here, capsys):
    folder, installed = here
    make_venv(folder, "home = /usr/bin\nuv = 0.13.9\n")
    site = folder / ".venv" / "lib" / "python3.12" / "site-packages"
    assert environment.ensure_installed(False) == 1 and "Fix: uv sync\n" in capsys.readouterr().err
    (site / "local_ai_measured-0.1.0.dist-info").mkdir(parents=True)
    assert environment.ensure_installed(False) == 0
    assert environment.ensure_installed(True) == 1
    assert "Fix: uv sync --extra dev\n" in capsys.readouterr().err
    (site / "pytest-9.2.0.dist-info").mkdir()
    assert environment.ensure_installed(True) == 0 and installed == []


@pytest.mark.parametrize(
    ("system", "setting", "index"),
    [
        ("linux", "", "https://download.pytorch.org/whl/cpu"),
        ("linux", "cpu", "https://download.pytorch.org/whl/cpu"),
        ("linux", "cuda", None),
        ("linux", "cu130", "https://download.pytorch.org/whl/cu130"),
        ("darwin", "", None),
        ("win32", "", None),
        ("win32", "cuda", "https://download.pytorch.org/whl/cu130"),
    ],
)
def test_where_torch_comes_from(monkeypatch, system, setting, index):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(packages, "IS_WINDOWS", system == "win32")
    monkeypatch.setenv("COURSE_TORCH", setting)
    assert packages.torch_index(packages.torch_setting()) == index


def test_an_unknown_build_of_torch_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_TORCH", "gpu")
    assert environment.ensure_installed(False) == 1
    assert "COURSE_TORCH='gpu' is unknown" in capsys.readouterr().err


class Pip:
    """Stands in for pip: notes its arguments, and succeeds unless they contain a word that fails."""

    def __init__(self, fails="nothing"):
        self.calls, self.fails = [], fails

    def __call__(self, arguments, progress):
        self.calls.append(" ".join(arguments))
        return int(self.fails in self.calls[-1]), "ERROR: No matching distribution found for torch"


@pytest.mark.parametrize(
    ("setting", "answers", "fails", "calls", "cuda_is_told"),
    [
        ("", True, "-", 1, False),  # the build for processors
        ("", True, "whl/cpu", 1, True),  # the index has no file for this Python
        ("", False, "-", 0, True),  # the index cannot be reached
        ("cuda", True, "-", 0, True),
        ("cu130", False, "-", 1, False),  # it was asked for by name: pip itself says what is wrong
    ],
)
def test_torch_for_processors_where_its_index_answers(
    monkeypatch, tmp_path, capsys, setting, answers, fails, calls, cuda_is_told
):
    pip = Pip(fails if fails != "-" else "nothing")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(packages, "VENV", tmp_path)
    monkeypatch.setattr(packages, "pip", pip)
    monkeypatch.setattr(packages, "is_reachable", lambda url: answers)
    monkeypatch.setattr(packages, "default_torch_needs_cuda", lambda: True)
    monkeypatch.setattr(packages, "check_disk", lambda needed: None)
    packages.install_torch(setting, False, packages.Progress())
    assert len(pip.calls) == calls and all("--no-deps --index-url" in call for call in pip.calls)
    assert ("5.6 GB" in capsys.readouterr().out) == cuda_is_told
    (tmp_path / "site-packages" / "torch-2.13.0.dist-info").mkdir(parents=True)
    packages.install_torch(setting, False, packages.Progress())
    assert len(pip.calls) == calls, "what is installed is not installed again"


def test_a_build_that_was_asked_for_by_name_is_never_replaced_by_another(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "VENV", tmp_path)
    monkeypatch.setattr(packages, "pip", Pip("cu130"))
    with pytest.raises(host.SetUpFailed, match="no file of torch"):
        packages.install_torch("cu130", False, packages.Progress())


def test_cuda_needs_more_room(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(packages, "VENV", tmp_path)
    monkeypatch.setattr(packages, "default_torch_needs_cuda", lambda: True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 5 * 10**9))
    host.check_disk(packages.required_disk_bytes(True))
    with pytest.raises(host.SetUpFailed, match=r"5\.0 GB free, but installing needs 9\.5 GB"):
        packages.install_torch("cuda", False, packages.Progress())


def test_without_an_index_none_is_asked(monkeypatch, tmp_path):
    """PIP_NO_INDEX, as the installer of `course pack` sets it: no connection is tried."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(packages, "VENV", tmp_path)
    monkeypatch.setattr(packages, "is_reachable", lambda url: pytest.fail(url))
    monkeypatch.setattr(packages, "default_torch_needs_cuda", lambda: False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    packages.install_torch("", False, packages.Progress())


def test_an_index_that_is_no_index_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    assert not packages.is_reachable(url) and not packages.is_reachable("nonsense")


def test_pips_output_becomes_one_line_that_changes(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress = packages.Progress()
    progress.read("Collecting torch==2.13.0 (from x)")
    progress.read("  Downloading torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl (191.8 MB)")
    progress.read("Installing collected packages: a, b, c")
    progress.end()
    shown = capsys.readouterr().out
    assert "\n" not in shown
    texts = [text.strip() for text in shown.split("\r") if text.strip()]
    assert texts[0] == "collecting packages 1: torch"
    assert texts[1] == "collecting packages 1: torch (191.8 MB)"
    assert texts[2] == "installing packages (3, a minute or two)"


def test_windows_has_its_programs_elsewhere(monkeypatch):
    monkeypatch.setattr(host, "IS_WINDOWS", True)
    assert host.venv_program("python").parts[-2:] == ("Scripts", "python.exe")
    assert host.quote(Path("a b")) == '"a b"'


def course(*arguments, **variables):
    command = [sys.executable, "-m", "course_lib.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, timeout=120
    )


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        result = course("lab", "--port", str(port), "--no-browser")
    assert result.returncode == 1
    assert (
        f"port {port} is taken" in result.stderr.decode() and "course lab --port " in result.stderr.decode()
    )


def test_an_unknown_tier():
    result = course("models", COURSE_TIER="huge")
    assert result.returncode == 1
    assert (
        b"COURSE_TIER='huge' is not a tier" in result.stderr and b"export COURSE_TIER=tiny" in result.stderr
    )


def test_a_tier_whose_models_are_not_here_says_how_to_get_them(tmp_path):
    result = course("doctor", COURSE_TIER="gpu", HF_HUB_CACHE=str(tmp_path))
    assert result.returncode == 1 and b"course models pull Qwen/Qwen2.5-7B-Instruct" in result.stdout


@pytest.mark.parametrize("command", ["data", "models", "doctor"])
def test_a_locale_that_is_not_utf_8(command):
    result = course(command, LC_ALL="C", LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert result.returncode == 0, result.stderr.decode()


def test_an_unknown_chapter():
    result = course("run", "77")
    assert result.returncode == 1 and b"no chapter '77'" in result.stderr


def test_a_command_that_does_not_exist():
    result = course("dance")
    assert result.returncode == 2 and b"invalid choice" in result.stderr
