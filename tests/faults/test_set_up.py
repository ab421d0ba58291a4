"""Bad surroundings, planted for real where this machine allows it: a clear line, its cure, and nothing half-done."""

import errno
import os
import shutil
import socket
import subprocess
import sys

import pytest

from course_lib import bootstrap
from course_lib.data import ROOT


@pytest.fixture
def checkout(tmp_path):
    """A checkout in a folder with a space and Hangul in its name, as far as setting up needs one."""
    folder = tmp_path / "내 과정 folder"
    (folder / "course_lib").mkdir(parents=True)
    shutil.copy(ROOT / "course_lib" / "bootstrap.py", folder / "course_lib")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def set_up(folder, *, python=sys.executable, prelude="", user=None, **environment):
    """Run bootstrap.py of a checkout; `prelude` is Python that runs first."""
    code = f"import sys; sys.path.insert(0, 'course_lib'); import bootstrap\n{prelude}\nsys.exit(bootstrap.main([]))"
    return subprocess.run(
        [python, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
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
    closed = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_TIMEOUT": "2",
    }
    result = set_up(checkout, **closed)
    assert_told(result, "could not get a package from the network", "check the connection")
    assert not (checkout / ".venv").exists()


def test_no_venv_module(checkout, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ensurepip.py").write_text("raise ImportError('planted')")
    assert_told(set_up(checkout, PYTHONPATH=str(broken)), "no venv module", "sudo apt install python3.")
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_too_old(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(bootstrap.SetUpFailed, match=r"Python 3\.9 is too old(.|\n)*apt install python3\.11"):
        bootstrap.find_python()


def test_an_old_python_uses_a_newer_one_on_the_path(monkeypatch, tmp_path):
    newer = tmp_path / "python3.12"
    newer.write_text("#!/bin/sh\n")
    newer.chmod(0o755)
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.find_python() == str(newer)


def test_a_read_only_checkout(checkout):
    for path in (checkout, checkout / "course_lib"):
        path.chmod(0o555)
    for parent in checkout.parents:
        if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    user = 65534 if os.getuid() == 0 else None  # root may write everywhere
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") if user else sys.executable
    if python is None:
        pytest.skip("root, and no Python that another user may start")
    assert_told(set_up(checkout, python=python, user=user), "read-only", "cp -r")


@pytest.fixture
def small_disk(checkout):
    """The checkout on a file system of 12 MB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(checkout.parent)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    folder = checkout.parent / "small disk"
    (folder / "course_lib").mkdir(parents=True)
    shutil.copy(ROOT / "course_lib" / "bootstrap.py", folder / "course_lib")
    shutil.copy(ROOT / "pyproject.toml", folder)
    yield folder
    subprocess.run(["umount", str(checkout.parent)], check=True)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(small_disk):
    assert_told(set_up(small_disk), "GB free, but installing needs", "free some space")
    assert not (small_disk / ".venv").exists()


def test_a_disk_that_fills_while_installing(small_disk):
    result = set_up(small_disk, prelude="bootstrap.NEEDED_BYTES = 0")
    assert result.returncode == 1 and "Fix" in result.stderr and "Traceback" not in result.stderr
    assert not (small_disk / ".venv").exists()


def test_pips_messages_are_understood():
    assert (
        "full"
        in bootstrap.explain(
            f"ERROR: Could not install packages: [Errno {errno.ENOSPC}] No space left on device"
        )[0]
    )
    assert "network" in bootstrap.explain("NewConnectionError: Failed to establish a new connection")[0]
    assert bootstrap.explain("something else")[0] == "pip failed"


def test_an_interruption_leaves_nothing(checkout):
    prelude = "bootstrap.install = lambda dev: (_ for _ in ()).throw(KeyboardInterrupt())"
    result = set_up(checkout, prelude=prelude)
    assert result.returncode == 130 and "interrupted" in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_finished_set_up_is_not_repeated_until_pyproject_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")
    (tmp_path / "pyproject.toml").write_text("a")
    (tmp_path / "stamp").write_text(bootstrap.wanted(True))
    assert bootstrap.is_done(True) and bootstrap.is_done(False)
    (tmp_path / "stamp").write_text(bootstrap.wanted(False))
    assert bootstrap.is_done(False) and not bootstrap.is_done(True)
    (tmp_path / "pyproject.toml").write_text("b")
    assert not bootstrap.is_done(False)


def course(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "course_lib.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
    )


def test_a_port_that_is_taken():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        result = course("lab", "--port", str(port), "--no-browser")
    assert result.returncode == 1
    assert f"port {port} is taken" in result.stderr.decode() and "make lab PORT=" in result.stderr.decode()


def test_an_unknown_tier():
    result = course("models", COURSE_TIER="huge")
    assert result.returncode == 1
    assert b"COURSE_TIER='huge' is no tier" in result.stderr and b"export COURSE_TIER=tiny" in result.stderr


def test_a_tier_whose_models_are_not_here_says_how_to_get_them(tmp_path):
    result = course("doctor", COURSE_TIER="gpu", HF_HUB_CACHE=str(tmp_path))
    assert result.returncode == 1 and b"course models pull Qwen/Qwen2.5-7B-Instruct" in result.stdout


def test_a_locale_that_is_not_utf_8():
    ascii_only = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in ("data", "models", "doctor"):
        result = course(command, **ascii_only)
        assert result.returncode == 0, result.stderr.decode()


def test_an_unknown_chapter():
    result = course("run", "77")
    assert result.returncode == 1 and b"no chapter '77'" in result.stderr


def test_a_command_that_does_not_exist():
    result = course("dance")
    assert result.returncode == 2 and b"invalid choice" in result.stderr
