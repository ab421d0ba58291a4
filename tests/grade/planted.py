"""Submissions of chapter 00 of every kind that a class can hand in, hostile ones included."""

import copy
import json
import zipfile

import nbformat
import pytest

from course_lib.data import CHAPTERS
from course_lib.errors import CourseError
from course_lib.grade.judge import Answer, Limits, judge
from course_lib.learn.exercises import find_exercise
from course_lib.learn.student import exercise_cell, replace_solution, solution_in
from course_lib.learn.workspace import fresh_copy

CHAPTER = CHAPTERS / "00-start-here.ipynb"
FIRST = "00.1"  # in all kinds but the first three, the other two exercises are answered rightly
RIGHT = {id_: solution_in(exercise_cell(id_)) for id_ in ("00.1", "00.2", "00.3")}


def gaps():
    """What answers cannot be kept from on this machine; '' where they can be kept from everything."""
    try:
        judge(Answer(find_exercise(FIRST), "forge = ...", "forge"), Limits())
    except CourseError as error:
        return error.what
    return ""


PROTECTED = pytest.mark.skipif(bool(gaps()), reason=gaps() or "protected")


def cell(code, id_=FIRST):
    """The exercise cell with this code in the place of the solution."""
    return replace_solution(exercise_cell(id_), code)


def solved(id_):
    return exercise_cell(id_)


def notebook(first=None, *, others=True):
    """A learner's copy with this source in the first exercise's cell, and the others right."""
    out = fresh_copy(nbformat.read(CHAPTER, as_version=4))
    for each in out.cells:
        for id_ in RIGHT:
            if f'check("{id_}"' in each.source:
                if id_ == FIRST:
                    each.source = first if first is not None else each.source
                elif others:
                    each.source = solved(id_)
    return out


def written(notebook):
    return nbformat.writes(notebook)


def zip_of(path, files):
    with zipfile.ZipFile(path, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)


# What stands in the cell of exercise 00.1, the verdict that it gets, and a part of the message.
HOSTILE = {
    "right": (solved(FIRST), "right", ""),
    "wrong": (cell("return text"), "not yet", "came back unchanged"),
    "stub": (None, "not answered", ""),
    "crash": (cell("return 1 / 0"), "not yet", "ZeroDivisionError"),
    "no Python": (cell("return )"), "crashed", "SyntaxError"),
    "raises before": ("1 / 0\n" + solved(FIRST), "crashed", "in line 1 with ZeroDivisionError"),
    "other name": (solved(FIRST).replace("forge", "other"), "not answered", "defines no `forge`"),
    "endless loop": (cell("while True: pass"), "timed out", "within 2 seconds"),
    "sleeps": ("import time\ntime.sleep(1000)", "timed out", "within 2 seconds"),
    "ends the process": ("import os\nos._exit(0)", "crashed", "status 0"),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", "crashed", "SIGSEGV"),
    "memory hog": ("x = bytearray(10**11)\n" + solved(FIRST), "crashed", "MemoryError"),
    "fork bomb": ("import os\nwhile True:\n    os.fork()", "crashed", "Operation not permitted"),
    "shell": ("import subprocess\nsubprocess.run('id')", "crashed", "PermissionError"),
    "kills the judge": ("import os\nos.kill(os.getppid(), 9)", "crashed", "PermissionError"),
    "kills everybody": ("import os\nos.kill(-1, 9)", "crashed", "PermissionError"),
    "network": ("import socket\nsocket.create_connection(('127.0.0.1', 9))", "crashed", "PermissionError"),
    "fills the disk": (
        "for i in range(10**6):\n    open(f'{i}', 'wb').write(bytes(10**6))",
        "crashed",
        "more than 256 MB or 100 files",
    ),
    "one huge file": ("open('x', 'wb').write(bytes(10**8))", "crashed", "File too large"),
    "huge value": (cell("return text * 10**5"), "crashed", "4 MB in one message"),
    "edits the check": (
        cell("return text").replace('check("00.1", forge)', 'print("00.1 right: forge a passage")'),
        "not yet",
        "came back unchanged",
    ),
    "patches the library": (
        "import sys, types, course_lib\n"
        "engine = types.ModuleType('course_lib.learn.exercises.engine')\n"
        "engine.judge = lambda *_: ('right', 'patched')\n"
        "sys.modules['course_lib.learn.exercises.engine'] = engine\n"
        "str.__eq__ = lambda *_: True\n",
        "crashed",
        "cannot set",
    ),
    "equal to everything": (
        "class Anything(str):\n"
        "    def __eq__(self, other):\n        return True\n"
        "    def __ne__(self, other):\n        return False\n"
        "    __hash__ = str.__hash__\n"
        "def forge(text, old, new):\n    return Anything('x')",
        "not yet",
        "gave 'x'",
    ),
    "prints the solution": (
        f"print({RIGHT[FIRST]!r})\nprint('00.1 right: forge a passage')",
        "not answered",
        "",
    ),
    "writes a verdict to every pipe": (
        "import os\n"
        "for fd in range(64):\n"
        '    try:\n        os.write(fd, b\'{"verdict": "right", "value": true}\\n\')\n'
        "    except OSError:\n        pass",
        "not yet",
        "'bool' object is not callable",
    ),
    "writes nonsense to every pipe": (
        "import os\n"
        "for fd in range(64):\n"
        "    try:\n        os.write(fd, b'{}\\n')\n"
        "    except OSError:\n        pass",
        "crashed",
        "cannot be read: KeyError",
    ),
    "nothing that UTF-8 holds": (
        cell("raise OSError('\\ud800\\x1b[2J')"),
        "not yet",
        "OSError: \ufffd\ufffd[2J",
    ),
    "ends without a word": (cell("raise SystemExit"), "not yet", "stopped with SystemExit"),
    "a line that begins with %": (
        cell("if old not in text:\n    raise ValueError('%s'\n% old)\nreturn text.replace(old, new)"),
        "right",
        "",
    ),
    "reads the checker": (
        "from course_lib.learn.exercises import chapter_00\nforge = chapter_00.check_forge",
        "crashed",
        "cannot import name",
    ),
    "reads the solution": (
        f"forge = open({str(CHAPTER)!r}).read()",
        "crashed",
        "Permission denied",
    ),
    "Windows line ends": (solved(FIRST).replace("\n", "\r\n"), "right", ""),
    "magic": ("%%time\n" + solved(FIRST), "right", ""),
    "magic above a line that begins with %": (
        "%%time\n"
        + cell("if old not in text:\n    raise ValueError('%s'\n% old)\nreturn text.replace(old, new)"),
        "right",
        "",
    ),
    "magic that sets the answer": (
        solved(FIRST)
        .replace("def forge", "def mine")
        .replace("check(", "%time forge = mine\n!echo it's\n?mine\nmine.__doc__??\ncheck("),
        "right",
        "",
    ),
}


def without_ids(path):
    """Colab and older programs renew or drop the cells' ids."""
    out = json.loads(written(notebook(solved(FIRST))))
    for number, each in enumerate(out["cells"]):
        each["id"] = f"new-{number}"
    path.write_text(json.dumps(out))


def with_own_cells(path):
    """An answer that needs a helper from a cell of the learner's own, which is not graded."""
    out = notebook(cell("return helper(text, old, new)"))
    helper = copy.deepcopy(next(c for c in out.cells if c.cell_type == "code"))
    helper.id, helper.source = "mine", "def helper(text, old, new):\n    return text.replace(old, new)"
    out.cells.insert(0, helper)
    path.write_text(written(out))
