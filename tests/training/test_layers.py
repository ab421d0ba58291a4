"""The library imports none of the scripts that write its data and train its models, not even lazily."""

import graphlib

from course_lib.data import ROOT
from tests.imports import imports

SCRIPTS = {"bankworld": "datasets", "pretraining": "models", "finetuning": "models"}


def imported(path):
    """The modules that a file imports, anywhere in it."""
    return {module for found in imports(path) for module in (found.module, found.dotted)}


def test_the_library_imports_no_script():
    files = list((ROOT / "course_lib").rglob("*.py"))
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imported(path)
        if module.split(".")[0] in SCRIPTS
    }
    assert len(files) > 50 and not wrong


def test_chapters_import_no_script():
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "chapters").glob("*.ipynb"))
    assert not [name for name in SCRIPTS if f"import {name}" in text or f"from {name}" in text]


def test_scripts_import_one_another_in_no_circle():
    files = {
        f"{name}.{path.stem}".removesuffix(".__init__"): path
        for name, folder in SCRIPTS.items()
        for path in (ROOT / folder / name).glob("*.py")
    }
    graph = {module: {name for name in imported(path) if name in files} for module, path in files.items()}
    packages = {"bankworld": 0, "pretraining": 1, "finetuning": 2}  # each may import those before it
    assert not [
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in names
        if packages[name.split(".")[0]] > packages[module.split(".")[0]]
    ]
    # `from bankworld import schema` names the package too, which imports nothing itself
    graphlib.TopologicalSorter({m: names - set(SCRIPTS) for m, names in graph.items()}).prepare()
