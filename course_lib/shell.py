"""Format commands that a user can paste into the shell: quoted paths, and the right way to call `course`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def command_line(*words: str | Path) -> str:
    """Join the words of a command, quoted for this system's shell."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def course_command() -> str:
    """Return the command for this environment's `course`: its name if it is on the PATH, else its path."""
    script = Path(sys.executable).with_name("course.exe" if os.name == "nt" else "course")
    if shutil.which("course") == str(script):
        return "course"
    if not script.is_file():
        return command_line(sys.executable, "-m", "course_lib.cli")
    here = Path.cwd()
    return command_line(script.relative_to(here) if script.is_relative_to(here) else script)


def pasteable(fix: str) -> str:
    """Return a fix with its leading `course` replaced by a command that works in the current shell.

    fix: a command such as `course start`; any other text is returned unchanged.
    """
    return f"{course_command()} {fix.removeprefix('course ')}" if fix.startswith("course ") else fix
