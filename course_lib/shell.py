"""Format commands that a user can paste into the shell: quoted paths, and the right way to call `course`."""

from __future__ import annotations

import os
import re
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


def made_by_uv() -> bool:
    """Whether uv made this environment, which then has no pip."""
    try:
        settings = Path(sys.prefix, "pyvenv.cfg").read_text("utf-8")
    except OSError:
        return False
    return re.search(r"^uv\s*=", settings, re.MULTILINE) is not None


def pip_install(*words: str | Path) -> str:
    """Return the command that installs packages into this environment, whatever `pip` the shell finds."""
    if made_by_uv():
        return command_line("uv", "pip", "install", "--python", sys.executable, *words)
    return command_line(sys.executable, "-m", "pip", "install", *words)


def pasteable(fix: str) -> str:
    """Return a fix with its leading `course` replaced by a command that works in the current shell.

    fix: a command such as `course start`; any other text is returned unchanged.
    """
    return f"{course_command()} {fix.removeprefix('course ')}" if fix.startswith("course ") else fix
