"""The course as a wheel: made from its own source archive, it works where there is no repository."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from course_lib.chapters import all_chapters
from course_lib.data import ROOT
from course_lib.models.catalog import shipped, shipped_picture_models

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(what, folder, out):
    """Build an sdist or a wheel of the project in `folder`; its file."""
    command = [sys.executable, "-c", BUILD, f"build_{what}", out]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The source archive, unpacked. Only what git tracks, or would, is there to be taken."""
    out = tmp_path_factory.mktemp("sdist")
    clone = out / "clone"
    names = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    with tarfile.open(build("sdist", clone, out)) as tar:
        tar.extractall(out, filter="data")
    (folder,) = out.glob("local_ai_measured-*/")
    return folder


@pytest.fixture(scope="module")
def wheel(archive, tmp_path_factory):
    return build("wheel", archive, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """What pip would unpack into site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as z:
        z.extractall(folder)
    return folder


def test_a_wheel_carries_the_course_and_installs_one_package(wheel, installed):
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"course_lib"}
    share = installed / "course_lib" / "share"
    assert {p.name for p in share.glob("chapters/*.ipynb")} == {p.name for p in all_chapters()}
    assert {*shipped(), *shipped_picture_models()} <= {p.name for p in share.glob("models/*")}
    assert not list(share.rglob("*.py")) and not list(share.glob("chapters/.ipynb_checkpoints"))
    told = re.findall(r"The wheel \((\d+) MB", (ROOT / "README.md").read_text("utf-8"))
    assert [round(wheel.stat().st_size / 1e6)] == [int(size) for size in told]
    ours = {p.relative_to(ROOT) for p in (ROOT / "course_lib").rglob("*") if p.is_file()}
    left = {p for p in ours if not (installed / p).is_file() and p.suffix != ".pyc"}
    assert left == set(), "a file of the library is not in the wheel"


USE = """
import course_lib
from pathlib import Path
from course_lib import data, load
from course_lib.cli import main
assert Path(course_lib.__file__).is_relative_to({installed!r}), course_lib.__file__
assert main(["data"]) == 0 and main(["start"]) == 0
print(data.WORKSPACE)
print(load("haneul-300k").generate(["Hello."]))
from course_lib.doctor import _packages, run_check
print(run_check(_packages))
for command in (["test"], ["check"], ["handout", "--out", "x"], ["pack", "--out", "x"]):
    assert main(command) == 1
(data.CHAPTERS / "00-start-here.ipynb").write_text("")
assert main(["run", "00"]) == 1
"""


def test_the_installed_course_works_outside_the_repository(installed, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COURSE_")}
    environment |= {"PYTHONPATH": str(installed), "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    command = [sys.executable, "-c", USE.format(installed=str(installed))]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"\n{tmp_path / 'local-ai-measured'}\n" in done.stdout
    assert (tmp_path / "local-ai-measured" / "00-start-here.ipynb").is_file()
    assert "status='ok', check='packages'" in done.stdout
    assert "Fix: install the course's wheel again" in done.stderr and "git checkout" not in done.stderr
    assert done.stderr.count("in the course's repository, and this is an installed course") == 4
    assert not Path(installed, "course_lib", "share", "workspace").exists()
