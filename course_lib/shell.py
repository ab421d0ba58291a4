"""Command lines for the reader to paste: paths are quoted, and `course` is found where it was installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def command_line(*words: str | Path) -> str:
    """The words of a command, quoted for the shell of this system."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def course_command() -> str:
    """How to call this environment's `course`: by name where the PATH leads to it, else by its path."""
    script = Path(sys.executable).with_name("course.exe" if os.name == "nt" else "course")
    if shutil.which("course") == str(script):
        return "course"
    if not script.is_file():
        return command_line(sys.executable, "-m", "course_lib.cli")
    here = Path.cwd()
    return command_line(script.relative_to(here) if script.is_relative_to(here) else script)


def pasteable(fix: str) -> str:
    """A fix such as `course start` as it works in the shell from which `course` was called."""
    return f"{course_command()} {fix.removeprefix('course ')}" if fix.startswith("course ") else fix
