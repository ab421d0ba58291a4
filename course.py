"""Start the course without make: `python3 course.py lab`, `python3 course.py test` and so on.

It first installs the course into `.venv` if that is not up to date. `make lab` and `make test` call it.
"""

import os
import subprocess
import sys

if sys.version_info < (3, 6):
    sys.exit("course: this is Python %d.%d\n  Fix: python3 course.py lab" % sys.version_info[:2])

from bootstrap.environment import ensure_installed
from bootstrap.host import IS_WINDOWS, venv_program

USAGE = """usage: python3 course.py COMMAND

  lab [--port 9999]   open JupyterLab on your own copy of chapter 00
  test, check         test everything; test only what changed since the last commit
  doctor              check that this machine has what the course needs
  set-up [--dev]      only install (with --dev, also the packages for the tests)

All other commands of `course` work too; `python3 course.py start --help` shows the options of one.
COURSE_TORCH=cuda installs PyTorch for NVIDIA GPUs; without it, Linux gets the CPU build."""


def run(arguments):
    """Replace this process by the installed `course`. On Windows, run that and return its exit status."""
    command = [str(venv_program("python")), "-m", "course_lib.cli"] + arguments
    sys.stdout.flush()
    if not IS_WINDOWS:
        os.execv(command[0], command)
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the command receives Ctrl-C, too, and ends by itself
            pass


def main(arguments):
    """Install the course if needed, then run the command. Returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    dev = arguments[0] in ("test", "check") or arguments == ["set-up", "--dev"]
    return ensure_installed(dev) or (0 if arguments[0] == "set-up" else run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
