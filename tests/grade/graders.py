"""Other graders, nbgrader and Otter-Grader, installed beside the course for the tests that compare marks."""

import os
import subprocess
import sys

import pytest


def python_with(pytestconfig, name, needed):
    """Return a function that runs Python with a grader in a folder, and returns what it prints.

    needed: The requirements, installed once into pytest's cache. Without a package index the test is skipped.
    """
    target = pytestconfig.cache.mkdir(name)
    if not (target / "bin").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), *needed]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed: {done.stderr[-300:]}")
    environment = os.environ | {
        "PATH": f"{target / 'bin'}{os.pathsep}{os.environ['PATH']}",  # nbgrader starts `alembic`
        "PYTHONPATH": os.pathsep.join([*sys.path, str(target)]),
    }

    def run(where, *arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
