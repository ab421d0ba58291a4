"""The command `course lab`: start JupyterLab on the student's copy of chapter 00.

Only this machine can connect to it, and it uses no internet.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from course_lib.data import CHAPTERS, ROOT, WORKSPACE, restore
from course_lib.errors import CourseError
from course_lib.learn.workspace import start

FIRST_CHAPTER = "00-start-here.ipynb"
JUPYTER_SETTINGS = ROOT / "course_lib" / "jupyter"  # switches off news, which JupyterLab would download
# Without these, JupyterLab would contact servers for updates and extensions.
OFFLINE_OPTIONS = (
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


def kernel_environment() -> dict[str, str]:
    """Return os.environ with this Python's folder first in PATH, for programs that start Jupyter kernels."""
    return os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}"}


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address."""
    with socket.socket() as s:
        if os.name != "nt":  # on Windows this option would let two servers share a port
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def next_free_port(port: int) -> int:
    """Return the first free port above `port`. Raises CourseError if the next 100 ports are taken."""
    for candidate in range(port + 1, min(port + 101, 65536)):
        if port_is_free(candidate):
            return candidate
    raise CourseError(f"no free port from {port} to {port + 100}", "course lab --port 9999")


def lab_command(port: int, browser: bool) -> list[str]:
    """Return the command that starts JupyterLab on this port of the loopback address, showing chapter 00.

    JupyterLab shows the files of the course, or those of the workspace if that is outside the course.
    """
    shown = ROOT if WORKSPACE.is_relative_to(ROOT) else WORKSPACE
    chapter = (WORKSPACE / FIRST_CHAPTER).relative_to(shown).as_posix()
    options = {
        "ServerApp.root_dir": shown,
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "LabApp.default_url": f"/lab/tree/{chapter}",
    }
    command = [sys.executable, "-m", "jupyter", "lab", *OFFLINE_OPTIONS]
    command += [f"--{name}={value}" for name, value in options.items()]
    if not browser:
        command.append("--no-browser")
    # As root, for example in a container. This is safe because the server only listens on loopback.
    if getattr(os, "geteuid", lambda: 1)() == 0:
        command.append("--allow-root")
    return command


def open_lab(port: int, *, browser: bool = True) -> int:
    """Run JupyterLab until it ends, and return its exit status.

    Raises CourseError if the port is taken or the chapters are missing.
    """
    if not (CHAPTERS / FIRST_CHAPTER).is_file():
        raise CourseError(f"chapters/{FIRST_CHAPTER} is missing", restore("chapters"))
    if not port_is_free(port):
        raise CourseError(
            f"port {port} is taken by another program", f"course lab --port {next_free_port(port)}"
        )
    start()
    print(
        f"Opening http://127.0.0.1:{port}/lab on chapter 00 (about ten seconds). Ctrl-C stops it.", flush=True
    )
    environment = kernel_environment()
    paths = (str(JUPYTER_SETTINGS), environment.get("JUPYTER_CONFIG_PATH"))
    environment["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.run(lab_command(port, browser), cwd=ROOT, env=environment).returncode
