"""Check the machine before an installation: a supported Python, a writable folder, and free disk space."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = ROOT / "set-up.log"
OLDEST, NEWEST = (3, 11), (3, 14)
GB = 10**9
IS_WINDOWS = os.name == "nt"
GET_PYTHON = {
    "linux": "sudo apt install python3.11 python3.11-venv && python3.11 course.py lab",
    "darwin": "brew install python@3.13 && python3.13 course.py lab",
    "win32": "winget install Python.Python.3.13 and then: py -3.13 course.py lab",
}


class SetUpFailed(Exception):
    """The installation failed. what: what happened. fix: a command or instruction that solves it."""

    def __init__(self, what, fix):
        Exception.__init__(self, "%s\n  Fix: %s" % (what, fix))


def quote(path):
    """Return a path quoted for this system's shell."""
    return subprocess.list2cmdline([str(path)]) if IS_WINDOWS else shlex.quote(str(path))


def venv_program(name):
    """Return the path of a program in `.venv`: `bin/NAME`, or `Scripts/NAME.exe` on Windows."""
    return VENV / "Scripts" / (name + ".exe") if IS_WINDOWS else VENV / "bin" / name


def find_python():
    """Return the path of this Python if it is supported, else of the newest supported one on the PATH.

    Raises SetUpFailed if there is none.
    """
    if OLDEST <= tuple(sys.version_info[:2]) <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        for command in (["python3.%d" % minor], ["py", "-3.%d" % minor]):
            try:  # the command may be missing, or a pyenv shim without that version
                path = subprocess.check_output(
                    command + ["-c", "import sys; print(sys.executable)"], stderr=subprocess.DEVNULL
                )
                return path.decode().strip()
            except (OSError, subprocess.CalledProcessError):
                continue
    raise SetUpFailed(
        "Python %d.%d is not supported: the course needs 3.%d to 3.%d, and none of them is on the PATH"
        % (tuple(sys.version_info[:2]) + (OLDEST[1], NEWEST[1])),
        GET_PYTHON.get(sys.platform, GET_PYTHON["linux"]),
    )


def check_python(python):
    """Raise SetUpFailed if this Python cannot create environments, as on Debian without python3-venv."""
    if subprocess.call([python, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL):
        version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        raise SetUpFailed(
            "%s has no venv module, so no environment can be made" % python,
            "sudo apt install python%s-venv" % version.decode().strip(),
        )


def check_folder():
    """Raise SetUpFailed if the course's folder is read-only."""
    if not os.access(str(ROOT), os.W_OK):
        copy = (
            "xcopy /E /I %s %%USERPROFILE%%\\local-ai-measured"
            if IS_WINDOWS
            else "cp -r %s ~/local-ai-measured"
        )
        raise SetUpFailed("the folder of the course is read-only: %s" % ROOT, copy % quote(ROOT))


def check_disk(needed):
    """Raise SetUpFailed if fewer than `needed` bytes are free on the disk."""
    free = shutil.disk_usage(str(ROOT)).free
    if free < needed:
        raise SetUpFailed(
            "%.1f GB free, but installing needs %.1f GB" % (free / GB, needed / GB),
            "free %.1f GB on the disk that holds %s" % ((needed - free) / GB, quote(ROOT)),
        )
