"""`pytest --changed`: only the tests whose imports lead to a file that changed since the last commit.

A test file is chosen by the shortest chain of imports from it to a changed file, nearest first, until the
files chosen would take `SECONDS`; the others are listed. A chapter is chosen only where its own file changed.
"""

import ast
import functools
import subprocess
from collections import defaultdict, deque

from course_lib.data import ROOT
from tests.imports import imports

SECONDS = 90  # of one worker, by what each file took the last time
UNKNOWN = 5.0  # seconds of a file whose tests never ran here
ROOTS = {"course_lib": ROOT, "tests": ROOT, "bankworld": ROOT / "datasets"}
ROOTS |= {"pretraining": ROOT / "models", "finetuning": ROOT / "models"}


def changed_files():
    """Files that changed since the last commit, new ones included; paths relative to the repository."""
    commands = [
        ["git", "diff", "--name-only", "-z", "HEAD"],
        ["git", "ls-files", "--others", "--exclude-standard", "-z"],
    ]
    text = "".join(subprocess.check_output(c, cwd=ROOT, text=True) for c in commands)
    return {name for name in text.split("\0") if name}


def file_of(module):
    """The file of a module of the repository, or None."""
    root = ROOTS.get(module.partition(".")[0])
    path = root and root / module.replace(".", "/")
    files = [path / "__init__.py", path.with_suffix(".py")] if path else []
    return next((file for file in files if file.is_file()), None)


@functools.cache
def imports_of(path):
    """The files that a Python file imports, lazily or not. A re-exported name leads to its own file."""
    files = {origin(i.module, i.name) if i.name else file_of(i.module) for i in imports(path)}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            files |= named_files(str(node.values[0].value))  # import_module(f"package.{name}")
    return files - {None}


def named_files(beginning):
    """The files of the modules whose dotted name begins so, such as `course_lib.learn.exercises.chapter_`."""
    package, _, name = beginning.rpartition(".")
    file = file_of(package)
    return set(file.parent.glob(f"{name}*.py")) if file and file.name == "__init__.py" else set()


@functools.cache
def origin(module, name):
    """The file that `from module import name` leads to, or None outside the repository."""
    if submodule := file_of(f"{module}.{name}"):
        return submodule
    file = file_of(module)
    if file and file.name == "__init__.py":
        for found in imports(file):
            if found.name and found.alias == name:
                return origin(found.module, found.name) or file
    return file


def distances(changed, files):
    """Number of imports on the shortest way from a file to a changed one, for each of `files` that has a way.

    A changed file that is not Python counts as a change of the Python files of its folder, or of the nearest
    folder above that has some.
    """
    users = defaultdict(set)
    for file in files:
        for imported in imports_of(file) | conftests_of(file):
            users[imported].add(file)
    near = {file: 0 for name in changed for file in python_files(ROOT / name)}
    queue = deque(near)
    while queue:
        file = queue.popleft()
        for user in users[file] - near.keys():
            near[user] = near[file] + 1
            queue.append(user)
    return near


def python_files(path):
    """A Python file itself; for a chapter, tests/notebooks; for another file, the nearest ones above it."""
    if path.suffix == ".py":
        return [path]
    if path.suffix == ".ipynb":
        return (ROOT / "tests" / "notebooks").glob("*.py")
    folders = [folder for folder in path.parents if ROOT in folder.parents]
    return next(filter(None, (sorted(folder.glob("*.py")) for folder in folders)), [])


def conftests_of(file):
    """The conftest.py files that pytest loads for a file of the tests."""
    folders = (
        [folder for folder in file.parents if ROOT in folder.parents]
        if ROOT / "tests" in file.parents
        else []
    )
    return {folder / "conftest.py" for folder in folders if (folder / "conftest.py").is_file()} - {file}


def affected(changed, seconds):
    """The test files and chapters to run, nearest to a change first, and those left out for lack of time.

    seconds: name of a file, relative to the repository -> what it took the last time.
    """
    files = [
        f for folder in ("course_lib", "tests", "datasets", "models") for f in (ROOT / folder).rglob("*.py")
    ]
    near = distances(changed, files)
    tests = [f for f in near if f.name.startswith("test_") and f.is_file()]
    tests += [ROOT / name for name in changed if name.startswith("chapters/") and (ROOT / name).is_file()]
    chosen, left, total = [], [], 0.0
    for file in sorted(tests, key=lambda f: (near.get(f, 0), f)):
        total += seconds.get(file.relative_to(ROOT).as_posix(), UNKNOWN)
        (chosen if total <= SECONDS or not near.get(file, 0) else left).append(file)
    return chosen, left
