"""Make `.venv` and install the course into it. Standard library only, and old syntax: it runs before anything else.

`python3 course_lib/bootstrap.py [--dev]`. When it fails, nothing half-made stays behind, and it says how to fix it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "course-install"
NEEDED_BYTES = (
    4 * 1024**3
)  # torch alone unpacks to 1 GB, the whole environment to 2.4 GB, pip's copies beside it
OLDEST = (3, 11)


class SetUpFailed(Exception):
    """What happened, and how to fix it."""

    def __init__(self, what, fix):
        Exception.__init__(self, "%s\n  Fix: %s" % (what, fix))


def find_python():
    """This interpreter, or the newest one on the PATH where this one is too old."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in range(15, OLDEST[1] - 1, -1):
        found = shutil.which("python3.%d" % minor)
        if found:
            return found
    raise SetUpFailed(
        "Python %d.%d is too old: the course needs 3.11 or newer, and no newer one is on the PATH"
        % sys.version_info[:2],
        "install it (Debian: sudo apt install python3.11 python3.11-venv) and run: make PYTHON=python3.11 lab",
    )


def check_surroundings(python):
    """Everything that can be known to go wrong before the first byte is written."""
    if subprocess.run([python, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL).returncode:
        version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        raise SetUpFailed(
            "this Python has no venv module, so no environment can be made",
            "sudo apt install python%s-venv" % version.decode().strip(),
        )
    if not os.access(str(ROOT), os.W_OK):
        raise SetUpFailed(
            "the folder of the course is read-only: %s" % ROOT,
            "copy it to a folder of your own: cp -r '%s' ~/local-ai-measured" % ROOT,
        )
    free = shutil.disk_usage(str(ROOT)).free
    if free < NEEDED_BYTES:
        raise SetUpFailed(
            "%.1f GB free, but installing needs %.1f GB" % (free / 1e9, NEEDED_BYTES / 1e9),
            "free some space on the disk that holds %s" % ROOT,
        )


def wanted(dev):
    """What the stamp of a finished installation says: it changes with pyproject.toml."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return "%s %s %s" % (digest, ROOT, "dev" if dev else "base")


def is_done(dev):
    """A `dev` installation serves `base` too."""
    try:
        said = STAMP.read_text(encoding="utf-8")
    except OSError:
        return False
    return said in (wanted(dev), wanted(True))


def explain(output):
    """The likely cause of pip's failure, and what mends it."""
    if "No space left on device" in output:
        return "the disk became full while installing", "free %.0f GB and run the same command again" % (
            NEEDED_BYTES / 1e9
        )
    signs = (
        "NewConnectionError",
        "Name or service not known",
        "name resolution",
        "ProxyError",
        "Network is unreachable",
        "ConnectTimeout",
        "Failed to establish",
        "Could not find a version",
        "Connection refused",
    )
    if any(sign in output for sign in signs):
        return (
            "pip could not get a package from the network",
            "check the connection (a proxy goes into HTTPS_PROXY) and run the same command again; "
            "installing is the only step that needs a network",
        )
    return "pip failed", "read pip's message above, then run the same command again"


def install(dev):
    """pip's messages are shown as they come, and read when it fails."""
    target = "%s[dev]" % ROOT if dev else str(ROOT)
    command = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += [
        "--progress-bar",
        "on" if sys.stdout.isatty() else "off",
        "--retries",
        "2",
        "--editable",
        target,
    ]
    lines = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=str(ROOT))
    for raw in process.stdout or ():
        line = raw.decode("utf-8", "replace")
        lines.append(line)
        if line.startswith(
            ("Collecting ", "Installing ", "Successfully", "ERROR", "WARNING: Retrying", "Building ")
        ):
            print("  " + line[:110].rstrip().encode("ascii", "replace").decode(), flush=True)
    if process.wait():
        print("".join(lines[-15:]).encode("ascii", "replace").decode())
        raise SetUpFailed(*explain("".join(lines)))


def make(dev):
    python = find_python()
    check_surroundings(python)
    print("Setting up %s: about 2 GB on disk, 2 to 10 minutes, once." % VENV.name, flush=True)
    begun, fresh = time.time(), not (VENV / "bin" / "python").exists() or not STAMP.exists()
    try:
        if fresh:
            shutil.rmtree(str(VENV), ignore_errors=True)
            subprocess.run([python, "-m", "venv", str(VENV)], check=True)
        if STAMP.exists():
            STAMP.unlink()
        install(dev)
        STAMP.write_text(wanted(dev), encoding="utf-8")
    except BaseException:
        # An environment that was never finished is of no use; pip's cache keeps what was downloaded.
        shutil.rmtree(str(VENV), ignore_errors=True)
        raise
    print("Set up in %.1f minutes." % ((time.time() - begun) / 60))


def main(arguments):
    dev = "--dev" in arguments
    try:
        if not is_done(dev):
            make(dev)
    except SetUpFailed as error:
        sys.stderr.write("course: %s\n" % error)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("course: interrupted; nothing half-installed stays. Run the same command again.\n")
        return 130
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write("course: setting up failed: %s\n  Fix: run the same command again\n" % error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
