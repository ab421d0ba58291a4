"""Make the environment `.venv`, or bring it up to date, where pyproject.toml or COURSE_TORCH ask for it.

A first installation that fails or is interrupted leaves no `.venv` behind.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time

from bootstrap import packages
from bootstrap.host import (
    ROOT,
    VENV,
    SetUpFailed,
    check_disk,
    check_folder,
    check_python,
    find_python,
    venv_program,
)

STAMP = VENV / "course-install"


def pyproject_hash():
    """SHA-256 of pyproject.toml, which says what is installed."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def read_stamp():
    """What a finished installation wrote down; {} where there is none, or an older course wrote it."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def is_up_to_date(dev):
    """Whether `.venv` is what pyproject.toml and COURSE_TORCH ask for. One for tests serves `lab` too."""
    stamp, torch = read_stamp(), packages.torch_setting()
    return (
        stamp.get("pyproject") == pyproject_hash()
        and stamp.get("root") == str(ROOT)
        and (stamp.get("dev") or not dev)
        and torch in ("", stamp.get("torch"))
    )


def is_uv_environment(dev):
    """Whether `uv sync` made `.venv`. Raises SetUpFailed where it lacks packages that are needed now."""
    try:
        if not re.search(r"^uv\s*=", (VENV / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE):
            return False
    except OSError:
        return False
    installed = {path.name.split("-")[0] for path in VENV.glob("**/site-packages/*.dist-info")}
    if not {"local_ai_measured", "pytest" if dev else "local_ai_measured"} <= installed:
        raise SetUpFailed(
            ".venv was made by uv and lacks packages%s" % (" of the tests" if dev else ""),
            "uv sync --extra dev" if dev else "uv sync",
        )
    return True


def set_up(dev):
    """Make the environment, or bring it up to date. A first one that fails is removed; an older one stays."""
    python, stamp = find_python(), read_stamp()
    check_python(python)
    check_folder()
    dev = dev or bool(stamp.get("dev"))
    torch = packages.torch_setting() or stamp.get("torch", "")
    moved = stamp.get("root", str(ROOT)) != str(ROOT)  # programs in it name the old place
    fresh = not (venv_program("python").exists() and STAMP.exists())
    fresh = fresh or moved or torch != stamp.get("torch", torch)
    if fresh:
        check_disk(packages.required_disk_bytes(dev))
    print("Setting up .venv: 2 to 10 minutes, once.", flush=True)
    begun = time.time()
    try:
        if fresh:
            shutil.rmtree(str(VENV), ignore_errors=True)
            subprocess.check_call([python, "-m", "venv", str(VENV)])
        packages.install(torch, dev)
        written = {"pyproject": pyproject_hash(), "root": str(ROOT), "dev": dev, "torch": torch}
        STAMP.write_text(json.dumps(written), encoding="utf-8")
    except BaseException:
        if fresh:  # pip's cache keeps what was downloaded
            shutil.rmtree(str(VENV), ignore_errors=True)
        raise
    print("Set up in %.1f minutes." % ((time.time() - begun) / 60))


def ensure_installed(dev):
    """Set up where that is needed. Returns 0, or the exit status of a failure after saying how to fix it."""
    try:
        if not is_uv_environment(dev) and not is_up_to_date(dev):
            set_up(dev)
        return 0
    except SetUpFailed as error:
        sys.stderr.write("course: %s\n" % error)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("course: interrupted. Run the same command again; nothing half-made is used.\n")
        return 130
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write("course: setting up failed: %s\n  Fix: run the same command again\n" % error)
        return 1
