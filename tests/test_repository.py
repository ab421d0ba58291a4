"""The repository itself: one list of dependencies, light imports, rooms in order, size."""

import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from course_lib.data import ROOT
from course_lib.models import catalog
from tests.imports import imports

ROOMS = [
    "errors",
    "environment",
    "names",
    "lazy",
    "quiet",
    "shell",
    "atomic",
    "checkpoint",
    "tables",
    "plots",
    "data",
    "measure",
    "models",
    "vision",
    "ray_connection",
    "batch",
    "retrieval",
    "tuning",
    "serve",
    "rag",
    "exam",
    "chapters",
    "learn",
    "grade",
    "lab",
    "testing",
    "doctor",
    "plan_command",
    "model_commands",
    "class_commands",
    "cli",
]
ROOMS_OF_MODELS = [
    "catalog",
    "schema",
    "files",
    "gguf",
    "downloads",
    "planner",
    "drivers",
    "manager",
]  # lowest first
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_environment_yml_installs_pyproject_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["project"]["name"] == "local-ai-measured"
    assert environment["dependencies"] == [
        f"python {PROJECT['project']['requires-python']}",
        "pip",
        {"pip": ["--extra-index-url https://download.pytorch.org/whl/cpu", "-e ."]},
    ]


CARDS = sorted(path.parent.name for path in (ROOT / "models").glob("*/README.md"))


@pytest.mark.parametrize("model", CARDS)
def test_the_licence_of_weights_is_the_same_wherever_it_is_told(model):
    """In the catalogue, the model's card, README.md and LICENSE-TEXT-AND-DATA.md."""
    licence = {e.model: e.licence for e in [*catalog.entries(), *catalog.parts().values()]}[model]
    card = yaml.safe_load((ROOT / "models" / model / "README.md").read_text("utf-8").split("---")[1])
    assert card["license"] == licence.lower()
    for name in ("README.md", "LICENSE-TEXT-AND-DATA.md"):
        lines = (ROOT / name).read_text("utf-8").splitlines()
        (row,) = [row for row in lines if row[:1] == "|" and model in re.split(r"[ ,]+", row.split("|")[1])]
        assert licence.replace("-4.0", " 4.0").replace("CC-BY", "CC BY") in row, name


def test_every_package_folder_is_installed_and_nothing_else():
    options = PROJECT["tool"]["setuptools"]["packages"]["find"]
    code = f"from setuptools import find_packages; print(*find_packages(**{options}))"
    # In a process of its own: setuptools refuses to be imported after other modules have imported distutils.
    named = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "course_lib").rglob("*.py")}
    assert set(named) == folders, "a folder without __init__.py, or a package that is not the library's"


def test_the_packages_that_the_course_promises_are_dependencies():
    named = " ".join(PROJECT["project"]["dependencies"])
    for package in (
        "jupyterlab",
        "langchain-community",
        "ollama",
        "transformers",
        "torch",
        "rank-bm25",
        "faiss-cpu",
        "ipywidgets",
        "nbval",
    ):
        assert package in named


def test_importing_the_library_loads_nothing_heavy():
    heavy = "{'torch', 'pydantic', 'transformers', 'faiss', 'matplotlib', 'pandas', 'langchain_core', 'yaml'}"
    modules = "course_lib, course_lib.cli, course_lib.data, course_lib.measure, course_lib.learn.claims"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def imports_of(path: Path) -> set[str]:
    """The modules of the library that a file imports, lazily too; not what a package re-exports for types."""
    found = [i for i in imports(path, types=path.name != "__init__.py") if i.module.startswith("course_lib")]
    return {module_or_parent(i.dotted) for i in found if i.name or "." in i.module}


def module_or_parent(name: str) -> str:
    """The module that a dotted name lies in: itself where it is a file or a package."""
    path = ROOT / name.replace(".", "/")
    return name if path.is_dir() or path.with_suffix(".py").is_file() else name.rpartition(".")[0]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


IMPORTS = {module_of(p): imports_of(p) for p in sorted((ROOT / "course_lib").rglob("*.py"))}


def out_of_order(rooms: list[str], package: str) -> list[str]:
    """Imports of a room from one that is not below it."""
    wrong = []
    for module, imported in IMPORTS.items():
        if not module.startswith(f"{package}."):
            continue
        room = module.removeprefix(f"{package}.").split(".")[0]
        if room not in rooms:
            wrong.append(f"{module} belongs to no room")
            continue
        others = {
            o.removeprefix(f"{package}.").split(".")[0] for o in imported if o.startswith(f"{package}.")
        }
        wrong += [
            f"{module} imports {o}"
            for o in sorted(others)
            if o != room and rooms.index(o) > rooms.index(room)
        ]
    return wrong


def test_each_room_imports_only_rooms_below_it():
    assert out_of_order(ROOMS, "course_lib") == []


def test_each_room_of_models_imports_only_rooms_below_it():
    assert out_of_order(ROOMS_OF_MODELS, "course_lib.models") == []


def test_no_imports_run_in_a_circle():
    try:
        graphlib.TopologicalSorter(IMPORTS).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_repository_is_small():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    size = sum(
        (ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).is_file()
    )
    assert size < 60e6, f"{size / 1e6:.0f} MB"
