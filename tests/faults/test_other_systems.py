"""macOS and Windows, as far as Linux can stand in for them: what they lack is taken away."""

import ast
import os
import subprocess
import sys

from course_lib.data import ROOT
from course_lib.measure import hardware
from tests.imports import imports

# What Python has on Linux and not on Windows (the library reference marks it "Availability: Unix").
NOT_ON_WINDOWS = {
    "os": """
        sched_getaffinity sched_setaffinity geteuid getuid getgid getegid fork forkpty killpg setsid getpgid
        setpgid nice uname statvfs fstatvfs sync mkfifo mknod chown lchown fchown lockf posix_fadvise sendfile
        posix_fallocate pread pwrite wait waitid wait3 wait4 getloadavg sysconf ttyname openpty O_DIRECTORY
        O_NOFOLLOW""",
    "signal": "SIGKILL SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGPIPE SIGCHLD alarm setitimer pause sigwait",
    "time": "clock_gettime tzset",
    "socket": "AF_UNIX",
}
MODULES_NOT_ON_WINDOWS = ["fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"]


def posix_names(path):
    """Where a file names something that Windows lacks."""
    found = {(i.line, i.module) for i in imports(path) if i.module in MODULES_NOT_ON_WINDOWS}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        owner = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(owner, ast.Name) and node.attr in NOT_ON_WINDOWS.get(owner.id, "").split():
            found.add((node.lineno, node.attr))
    return [f"{path.relative_to(ROOT)}:{line} {name}" for line, name in sorted(found)]


def test_the_library_names_nothing_that_windows_lacks():
    """A guarded use goes through getattr(os, NAME, default), so that its guard cannot be forgotten."""
    assert [use for path in sorted((ROOT / "course_lib").rglob("*.py")) for use in posix_names(path)] == []


def test_the_search_for_such_names_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("import fcntl\nimport os\nos.getuid()\nos.getpid()\n")
    assert sorted(posix_names(tmp_path / "a.py")) == ["a.py:1 fcntl", "a.py:3 getuid"]


# The first round is on Linux as it is: other packages, imported then, ask the system in their own ways.
IMPORT_ALL_TWICE = f"""
import importlib, os, pkgutil, sys
import course_lib
found = [m.name for m in pkgutil.walk_packages(course_lib.__path__, "course_lib.")]
names = [name for name in found if "__main__" not in name]
for name in names:
    importlib.import_module(name)
for name in [*names, "course_lib"]:
    del sys.modules[name]
for name in {NOT_ON_WINDOWS["os"].split()}:
    if hasattr(os, name):
        delattr(os, name)
for name in {MODULES_NOT_ON_WINDOWS}:
    sys.modules[name] = None
sys.platform = "win32"
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_imported_where_windows_names_are_missing():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL_TWICE], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 100


def test_the_cores_of_a_system_that_cannot_bind_a_process_to_some(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert hardware.usable_cores() == hardware.machine()["cores"] == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert hardware.usable_cores() == 1


def test_llama_cpp_runs_where_a_process_cannot_be_bound_to_cores(monkeypatch):
    from course_lib import load

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    model = load("haneul-300k", driver="llamacpp")
    assert model.generate(["Hello."])
    model.close()
