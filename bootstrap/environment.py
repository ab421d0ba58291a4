"""Create the virtual environment `.venv`, or update it after a change of pyproject.toml or COURSE_TORCH.

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
    """Return the SHA-256 of pyproject.toml, which lists the packages to install."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()


def read_stamp():
    """Return the record of the last finished installation, or {} if there is none that can be read."""
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def is_up_to_date(dev):
    """Whether `.venv` matches pyproject.toml and COURSE_TORCH.

    dev: whether the packages for the tests are needed.
    """
    stamp, torch = read_stamp(), packages.torch_setting()
    return (
        stamp.get("pyproject") == pyproject_hash()
        and stamp.get("root") == str(ROOT)
        and (stamp.get("dev") or not dev)
        and torch in ("", stamp.get("torch"))
    )


def is_uv_environment(dev):
    """Whether `uv sync` created `.venv`. Raises SetUpFailed if it did, but required packages are missing."""
    try:
        if not re.search(r"^uv\s*=", (VENV / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE):
            return False
    except OSError:
        return False
    installed = {path.name.split("-")[0] for path in VENV.glob("**/site-packages/*.dist-info")}
    if not {"local_ai_measured", "pytest" if dev else "local_ai_measured"} <= installed:
        raise SetUpFailed(
            ".venv was made by uv and lacks packages%s" % (" for the tests" if dev else ""),
            "uv sync --extra dev" if dev else "uv sync",
        )
    return True


def set_up(dev):
    """Create or update the environment. If this fails, a new one is removed and an old one is kept."""
    python, stamp = find_python(), read_stamp()
    check_python(python)
    check_folder()
    dev = dev or bool(stamp.get("dev"))
    torch = packages.torch_setting() or stamp.get("torch", "")
    moved = stamp.get("root", str(ROOT)) != str(ROOT)  # its scripts contain the old path
    fresh = not (venv_program("python").exists() and STAMP.exists())
    fresh = fresh or moved or torch != stamp.get("torch", torch)
    if fresh:
        check_disk(packages.required_disk_bytes(dev))
    print("Setting up .venv: 2 to 10 minutes, once.", flush=True)
    start = time.time()
    try:
        if fresh:
            shutil.rmtree(str(VENV), ignore_errors=True)
            subprocess.check_call([python, "-m", "venv", str(VENV)])
        packages.install(torch, dev)
        record = {"pyproject": pyproject_hash(), "root": str(ROOT), "dev": dev, "torch": torch}
        STAMP.write_text(json.dumps(record), encoding="utf-8")
    except BaseException:
        if fresh:  # the downloads stay in pip's cache
            shutil.rmtree(str(VENV), ignore_errors=True)
        raise
    print("Set up in %.1f minutes." % ((time.time() - start) / 60))


def ensure_installed(dev):
    """Set up the environment if needed. Returns 0, or 1 or 130 after printing an error."""
    try:
        if not is_uv_environment(dev) and not is_up_to_date(dev):
            set_up(dev)
        return 0
    except SetUpFailed as error:
        sys.stderr.write("course: %s\n" % error)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("course: interrupted. Run the same command again to start over.\n")
        return 130
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write("course: setting up failed: %s\n  Fix: run the same command again\n" % error)
        return 1
