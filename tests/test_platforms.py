"""uv.lock is true to pyproject.toml, and has a file for every system and Python that README.md names."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from course_lib.data import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
PACKAGES: dict[str, list[dict]] = {}
for package in LOCK["package"]:
    PACKAGES.setdefault(package["name"], []).append(package)
(COURSE,) = PACKAGES["local-ai-measured"]
# System -> the variables of its markers, and the file names that pip accepts there, oldest system first:
# glibc 2.31 (Debian 11, Ubuntu 20.04), macOS 14.
SYSTEMS = {
    "Linux x86_64": ("linux", "Linux", "x86_64", [f"manylinux_2_{n}_x86_64" for n in range(5, 32)]),
    "Linux aarch64": ("linux", "Linux", "aarch64", [f"manylinux_2_{n}_aarch64" for n in range(17, 32)]),
    "macOS arm64": ("darwin", "Darwin", "arm64", [*mac_platforms((14, 0), "arm64")]),
    "Windows AMD64": ("win32", "Windows", "AMD64", ["win_amd64"]),
}
OLD_NAMES = {"manylinux_2_5_x86_64": "manylinux1_x86_64", "manylinux_2_12_x86_64": "manylinux2010_x86_64"}
OLD_NAMES |= {f"manylinux_2_17_{m}": f"manylinux2014_{m}" for m in ("x86_64", "aarch64")}
PYTHONS = [(3, 11), (3, 12), (3, 13), (3, 14)]
BUILT_WITHOUT_A_COMPILER = {"kiwipiepy-model"}  # data only, as a source file


def without_a_wheel(system: str, python: tuple[int, int], extra: str = "") -> list[str]:
    """The locked packages of which no wheel fits, of those that an installation needs there."""
    sys_platform, platform_system, machine, platforms = SYSTEMS[system]
    platforms = platforms + [OLD_NAMES[p] for p in platforms if p in OLD_NAMES]
    version = "{}.{}".format(*python)
    environment = {
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "platform_machine": machine,
        "os_name": "nt" if sys_platform == "win32" else "posix",
        "python_version": version,
        "python_full_version": f"{version}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    tags = {*cpython_tags(python, platforms=platforms)}
    tags |= {*compatible_tags(python, f"cp{version.replace('.', '')}", platforms)}

    def holds(marker: str) -> bool:
        return Marker(marker).evaluate(environment)

    def locked(dependency: dict) -> dict:
        (package,) = [
            p
            for p in PACKAGES[dependency["name"]]
            if p["version"] == dependency.get("version", p["version"])
            and any(map(holds, p.get("resolution-markers", ["python_version > '3'"])))
        ]
        return package

    todo = [*COURSE["dependencies"], *(COURSE["optional-dependencies"][extra] if extra else [])]
    seen, missing = set(), set()
    while todo:
        dependency = todo.pop()
        extras = dependency.get("extra", [])
        key = (dependency["name"], *extras)
        if key in seen or not holds(dependency.get("marker", "python_version > '3'")):
            continue
        seen.add(key)
        package = locked(dependency)
        names = [Path(w["url"]).name.replace("%2B", "+") for w in package.get("wheels", [])]
        if not any(parse_wheel_filename(name)[3] & tags for name in names):
            missing.add(package["name"])
        todo += package.get("dependencies", [])
        todo += [d for e in extras for d in package.get("optional-dependencies", {}).get(e, [])]
    assert len(seen) > 150, "hardly the whole course"
    return sorted(missing)


@pytest.mark.parametrize("python", PYTHONS, ids=lambda v: "{}.{}".format(*v))
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_package_has_a_file_for_each_system_and_python(system, python):
    assert without_a_wheel(system, python) == []
    assert set(without_a_wheel(system, python, "ko")) <= BUILT_WITHOUT_A_COMPILER
    assert set(without_a_wheel(system, python, "dev")) <= BUILT_WITHOUT_A_COMPILER
    assert without_a_wheel(system, python, "cluster") == []


def test_a_package_without_a_file_for_a_system_is_found(monkeypatch):
    (package,) = PACKAGES["xllamacpp"]
    others = [wheel for wheel in package["wheels"] if "win_amd64" not in wheel["url"]]
    monkeypatch.setitem(package, "wheels", others)
    assert without_a_wheel("Windows AMD64", (3, 12)) == ["xllamacpp"]
    assert without_a_wheel("macOS arm64", (3, 12)) == []


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
