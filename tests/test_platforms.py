"""uv.lock is true to pyproject.toml, and has a file for every system and Python that README.md names."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from course_lib.data import ROOT
from course_lib.learn import locked
from course_lib.learn.locked import SYSTEMS, locked_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
PACKAGES: dict[str, list[dict]] = {}
for package in LOCK["package"]:
    PACKAGES.setdefault(package["name"], []).append(package)
(COURSE,) = PACKAGES["local-ai-measured"]
PYTHONS = [(3, 11), (3, 12), (3, 13), (3, 14)]
BUILT_WITHOUT_A_COMPILER = {"kiwipiepy-model"}  # data only, as a source file


def without_a_wheel(system: str, python: tuple[int, int], extra: str = "") -> list[str]:
    """The locked packages of which no wheel fits, of those that an installation needs there."""
    files = locked_files(system, "{}.{}".format(*python), extra)
    assert len(files) > 150, "hardly the whole course"
    return sorted(name.split()[0] for name, file in files.items() if file is None)


@pytest.mark.parametrize("python", PYTHONS, ids=lambda v: "{}.{}".format(*v))
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_package_has_a_file_for_each_system_and_python(system, python):
    assert without_a_wheel(system, python) == []
    assert set(without_a_wheel(system, python, "ko")) <= BUILT_WITHOUT_A_COMPILER
    assert set(without_a_wheel(system, python, "dev")) <= BUILT_WITHOUT_A_COMPILER
    assert without_a_wheel(system, python, "cluster") == []
    assert without_a_wheel(system, python, "site") == []
    assert without_a_wheel(system, python, "teach") == []


def test_a_package_without_a_file_for_a_system_is_found(monkeypatch):
    (package,) = locked._packages()["xllamacpp"]
    others = [wheel for wheel in package["wheels"] if "win_amd64" not in wheel["url"]]
    monkeypatch.setitem(package, "wheels", others)
    assert without_a_wheel("windows", (3, 12)) == ["xllamacpp"]
    assert without_a_wheel("macos", (3, 12)) == []


def test_readme_and_pyproject_name_these_systems_and_pythons():
    readme, classifiers = (ROOT / "README.md").read_text("utf-8"), PROJECT["classifiers"]
    for name in (
        "Linux (x86-64, ARM)",
        "macOS 14 or newer on Apple's processors",
        "Windows (64 bits)",
        "3.11 to 3.14",
    ):
        assert name in readme, name
    for python in PYTHONS:
        assert "Programming Language :: Python :: {}.{}".format(*python) in classifiers
        assert "{}.{}".format(*python) in SpecifierSet(PROJECT["requires-python"])
    assert "3.15" not in SpecifierSet(PROJECT["requires-python"])
    for system in ("POSIX :: Linux", "MacOS", "Microsoft :: Windows"):
        assert f"Operating System :: {system}" in classifiers


def test_linux_takes_torch_from_pytorchs_index_of_builds_for_processors():
    (linux,) = [
        p for p in PACKAGES["torch"] if p["source"]["registry"] == "https://download.pytorch.org/whl/cpu"
    ]
    assert all("sys_platform == 'linux'" in marker for marker in linux["resolution-markers"])
    assert all(wheel["hash"].startswith("sha256:") for wheel in linux["wheels"])
    assert not [name for name in PACKAGES if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_lock_has_the_requirements_of_pyproject():
    """Without uv too: uv.lock says which name, versions and extra it was made from."""
    sources = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    expected = {(extra, Requirement(line)) for extra, lines in sources.items() for line in lines}
    written = {
        (
            re.search(r"extra == '(.*)'|$", entry.get("marker", ""))[1] or "",
            entry["name"],
            entry.get("specifier", ""),
        )
        for entry in COURSE["metadata"]["requires-dist"]
    }
    assert {(extra, name, SpecifierSet(versions)) for extra, name, versions in written} == {
        (extra, requirement.name, requirement.specifier) for extra, requirement in expected
    }, "run .venv/bin/python .ci/lock.py, or where PyTorch's index answers: uv lock"
    assert LOCK["requires-python"].replace(" ", "") == PROJECT["requires-python"]


@pytest.mark.skipif(not shutil.which("uv", path=str(Path(sys.executable).parent)), reason="no uv here")
def test_uv_finds_nothing_to_change_in_the_lock():
    command = [Path(sys.executable).parent / "uv", "lock", "--check", "--offline", "--no-cache"]
    command += ["--python", sys.executable]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
