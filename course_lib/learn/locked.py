"""Read from uv.lock which wheels an installation needs, by system and Python version. For `course pack`."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.data import ROOT
from course_lib.errors import CourseError

COURSE = "local-ai-measured"  # the name of the course's package in uv.lock
# System -> sys_platform, platform_system and platform_machine, as the markers (conditions) of requirements
# name them, PEP 508. `platforms` assumes glibc 2.31 (Debian 11, Ubuntu 20.04) or macOS 14.
SYSTEMS = {
    "linux": ("linux", "Linux", "x86_64"),
    "linux-arm": ("linux", "Linux", "aarch64"),
    "macos": ("darwin", "Darwin", "arm64"),
    "windows": ("win32", "Windows", "AMD64"),
}
# Platform tag -> its older name.
OLD_NAMES = {
    "manylinux_2_5": "manylinux1",
    "manylinux_2_12": "manylinux2010",
    "manylinux_2_17": "manylinux2014",
}
# The marker of a package that is needed everywhere.
ALWAYS = "python_version > '3'"
PATCHES = (0, 99)  # a few packages differ between the first and the last release of a Python version


@dataclass(frozen=True)
class LockedFile:
    """A wheel in a package index.

    project: the package's name in the index. name: the file's name, or a pattern for it. bytes: the file's
    size, or 0 if uv.lock does not give it. options: the options with which `pip download` takes this wheel.
    index: the URL of the index, '' for PyPI.
    """

    project: str
    version: str
    name: str
    sha256: str
    bytes: int
    options: tuple[str, ...]
    index: str = ""

    @property
    def requirement(self) -> str:
        """The project and version as pip reads them, with the checksum."""
        return f"{self.project}=={self.version} --hash=sha256:{self.sha256}"


def platforms(system: str) -> list[str]:
    """Return the platform tags that pip accepts on a system, the best first."""
    from packaging.tags import mac_platforms

    if system == "windows":
        return ["win_amd64"]
    machine = SYSTEMS[system][2]
    if system == "macos":
        return list(mac_platforms((14, 0), machine))
    names = [f"manylinux_2_{minor}" for minor in range(31, 4 if machine == "x86_64" else 16, -1)]
    both = [n for name in names for n in (name, OLD_NAMES.get(name)) if n]
    return [f"{name}_{machine}" for name in both]


def locked_files(system: str, python: str, extra: str = "") -> dict[str, LockedFile | None]:
    """Return "name version" -> wheel for each package that the course needs; None if no wheel fits.

    system: one of SYSTEMS. python: a version such as "3.12". extra: an optional dependency group of
    pyproject.toml.
    """
    wheels: dict[str, LockedFile | None] = {}
    order, options = _tag_order(system, python), _pip_options(system, python)
    for patch in PATCHES:
        for package in _needed(_environment(system, python, patch), extra):
            wheels[f"{package['name']} {package['version']}"] = _best_wheel(package, order, options)
    return wheels


def _environment(system: str, python: str, patch: int) -> dict[str, str]:
    sys_platform, platform_system, machine = SYSTEMS[system]
    return {
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "platform_machine": machine,
        "os_name": "nt" if sys_platform == "win32" else "posix",
        "python_version": python,
        "python_full_version": f"{python}.{patch}",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def _tag_order(system: str, python: str) -> dict[Any, int]:
    """Return the tag of a wheel -> its rank; the best tag has rank 0."""
    from packaging.tags import compatible_tags, cpython_tags

    major, minor = map(int, python.split("."))
    of_system = platforms(system)
    tags = [
        *cpython_tags((major, minor), platforms=of_system),
        *compatible_tags((major, minor), f"cp{major}{minor}", of_system),
    ]
    return {tag: place for place, tag in reversed(list(enumerate(tags)))}


@functools.cache
def _packages() -> dict[str, list[dict[str, Any]]]:
    """Return name -> packages of uv.lock; a package may have several versions, for different systems.

    Raises CourseError if the course was installed without its repository.
    """
    if not (ROOT / "uv.lock").is_file():
        what = "uv.lock, which names the packages to pack, is in the course's repository only"
        raise CourseError(what, "clone the course with git and run the command there")
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]:
        packages.setdefault(package["name"], []).append(package)
    return packages


def _needed(environment: dict[str, str], extra: str) -> Iterator[dict[str, Any]]:
    """Yield each package that the course needs in an environment."""
    from packaging.markers import Marker

    def holds(marker: str) -> bool:
        return Marker(marker).evaluate(environment)

    (course,) = _packages()[COURSE]
    todo = [*course["dependencies"], *(course["optional-dependencies"][extra] if extra else [])]
    seen = set()
    while todo:
        dependency = todo.pop()
        extras = dependency.get("extra", [])
        key = (dependency["name"], *extras)
        if key in seen or not holds(dependency.get("marker", ALWAYS)):
            continue
        seen.add(key)
        (package,) = [
            p
            for p in _packages()[dependency["name"]]
            if p["version"] == dependency.get("version", p["version"])
            and any(map(holds, p.get("resolution-markers", [ALWAYS])))
        ]
        yield package
        todo += package.get("dependencies", [])
        todo += [d for e in extras for d in package.get("optional-dependencies", {}).get(e, [])]


def _best_wheel(
    package: dict[str, Any], order: dict[Any, int], options: tuple[str, ...]
) -> LockedFile | None:
    from packaging.utils import parse_wheel_filename

    choices: list[tuple[int, LockedFile]] = []
    for wheel in package.get("wheels", []):
        name = Path(wheel["url"]).name.replace("%2B", "+")
        places = [order[tag] for tag in parse_wheel_filename(name)[3] if tag in order]
        registry = package["source"]["registry"]
        index = "" if registry.startswith("https://pypi.org") else registry
        file = LockedFile(
            package["name"],
            package["version"],
            name,
            wheel["hash"].removeprefix("sha256:"),
            wheel.get("size", 0),
            options,
            index,
        )
        choices += [(min(places), file)] if places else []
    return min(choices, key=lambda choice: choice[0])[1] if choices else None


def _pip_options(system: str, python: str) -> tuple[str, ...]:
    """Return the options with which `pip download` takes files for a system and a Python."""
    tags = [f"--platform={platform}" for platform in platforms(system)]
    abis = [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
    return (*tags, *abis, "--implementation=cp", f"--python-version={python}.{PATCHES[-1]}")
