"""One course for two accounts of Linux, which cannot write to it: each has a workspace of its own."""

import importlib
import json
import os
import site
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from course_lib.data import ROOT

if sys.platform != "linux" or os.geteuid() != 0:
    pytest.skip("only root may act as other accounts", allow_module_level=True)

PYTHONS = (sys.executable, "/usr/bin/python{}.{}".format(*sys.version_info))
USE = """
import json, os, sys
from course_lib import cli, data
from course_lib.learn import state
from course_lib.learn.exercises import check
if cli.main(["start"]):
    sys.exit(1)
os.chdir(data.WORKSPACE)
check("00.1", 1)
print(json.dumps([str(data.WORKSPACE), str(state.path()), state.current().exercises["00.1"].attempts]))
"""

STRAY = """
from course_lib import cli, data
print(cli.main(["start"]), cli.main(["progress"]))
try:
    (data.WORKSPACE / "progress.json").read_text()
except PermissionError:
    print("refused")
"""


class Account:
    """An account, with a home folder for the test."""

    def __init__(self, name, home):
        entry = importlib.import_module("pwd").getpwnam(name)
        self.home, self.ids = Path(home), {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(home, entry.pw_uid, entry.pw_gid)
        packages = os.pathsep.join([str(ROOT), *site.getsitepackages()])
        self.environment = {"HOME": home, "PATH": os.defpath, "PYTHONPATH": packages}

    def run(self, python, code, **variables):
        """The finished program, run with the rights of this account."""
        environment = self.environment | variables
        command = [python, "-c", code]
        return subprocess.run(
            command, cwd=self.home, env=environment, capture_output=True, text=True, **self.ids
        )

    def can_run(self, python):
        """Whether this account reaches a Python, the course, and its packages."""
        try:
            return self.run(python, "import course_lib, numpy").returncode == 0
        except OSError:
            return False


@pytest.fixture
def accounts():
    """Two accounts that every Linux has."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        yield Account("nobody", first), Account("daemon", second)


def test_two_accounts_work_in_one_course_and_cannot_read_each_other(accounts):
    python = next(filter(accounts[0].can_run, PYTHONS), None)
    if python is None:
        pytest.skip("other accounts cannot reach this Python, this course, or its packages")
    for account in accounts:
        done = account.run(python, USE)
        assert done.returncode == 0, done.stderr
        workspace = account.home / "local-ai-measured"
        told = json.loads(done.stdout.splitlines()[-1])
        assert told == [str(workspace), str(workspace / "progress.json"), 1]
        assert workspace.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_uid == account.ids["user"] for path in workspace.rglob("*"))
    first, second = accounts
    os.chmod(first.home, 0o755)  # as many systems make a home folder
    done = second.run(python, STRAY, COURSE_WORKSPACE=str(first.home / "local-ai-measured"))
    assert done.stdout.split() == ["1", "1", "refused"], done.stderr
    assert done.stderr.count("Fix: set COURSE_WORKSPACE to a folder") == 2, done.stderr
