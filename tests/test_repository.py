"""The repository itself: one list of dependencies, light imports, rooms in order, size."""

import ast
import subprocess
import sys
import tomllib

import yaml

from course_lib.data import ROOT

ROOMS = ["errors", "tables", "plots", "plots_reading", "plots_tuning", "data", "measure", "models", "retrieval", "tuning",
         "serve", "rag", "chapters", "learn", "lab", "testing", "doctor", "cli"]  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_environment_yml_installs_pyproject_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["project"]["name"] == "local-ai-measured"
    assert environment["dependencies"] == [f"python {PROJECT['project']['requires-python']}", "pip", {"pip": ["-e ."]}]


def test_every_package_folder_is_installed():
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "course_lib").rglob("__init__.py")}
    assert folders <= set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_packages_that_the_course_promises_are_dependencies():
    named = " ".join(PROJECT["project"]["dependencies"])
    for package in ("jupyterlab", "langchain-community", "ollama", "transformers", "torch", "rank-bm25", "faiss-cpu",
                    "ipywidgets", "nbval"):  # fmt: skip
        assert package in named


def test_importing_the_library_loads_nothing_heavy():
    heavy = "{'torch', 'pydantic', 'transformers', 'faiss', 'matplotlib', 'pandas', 'langchain_core', 'yaml'}"
    modules = "course_lib, course_lib.cli, course_lib.data, course_lib.measure, course_lib.learn.claims"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_each_room_imports_only_rooms_below_it():
    for path in sorted((ROOT / "course_lib").rglob("*.py")):
        room = path.relative_to(ROOT / "course_lib").parts[0].removesuffix(".py")
        if room not in ROOMS:
            assert room in ("__init__", "bootstrap"), f"{path} belongs to no room"
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_lib"):
                names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "course_lib" else [node.module]
                for name in names:
                    other = name.split(".")[1]
                    assert other == room or ROOMS.index(other) < ROOMS.index(room), f"{path} imports {name}"


def test_the_repository_is_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    size = sum((ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).is_file())
    assert size < 60e6, f"{size / 1e6:.0f} MB"
