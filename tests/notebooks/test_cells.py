"""Formal rules for chapters: for example, every code cell has one kind (a tag) and was run.

Other tests here show that each rule finds violations.
"""

import ast
import copy
import importlib
import inspect
import json
import re

import nbformat
import pytest

from course_lib import plots
from course_lib.chapters import all_chapters
from course_lib.measure import Results

KINDS = {
    "measured",
    "picture",
    "widget",
    "exercise",
    "solution",
}  # cells without these tags: output is compared
UNCOMPARED = {"measured", "picture", "widget"}  # their outputs differ between runs, so nbval ignores them
DRAWN = {
    n
    for place in (plots, Results)
    for n in dir(place)
    if getattr(getattr(place, n), "__annotations__", {}).get("return") == "Picture"
}
LONGEST, LARGEST = 25, 1_000_000
WIDEST = 120  # characters of a printed line; JupyterLab breaks a wider one in the middle of a word
PRIVATE = re.compile(r"(/(?:home|root|work|tmp|Users)/|C:\\\\|hf_[A-Za-z0-9]{20}|sk-[A-Za-z0-9]{20})")


def last_call(source: str) -> str:
    """Return the name of the function or method that the last statement of a cell calls, or ''."""
    last = ast.parse(source).body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    called = call.func if isinstance(call, ast.Call) else None
    return (
        called.id
        if isinstance(called, ast.Name)
        else called.attr
        if isinstance(called, ast.Attribute)
        else ""
    )


def claims(source: str) -> list[str]:
    """Return the names of the claims that a cell makes in every tier: those under no condition."""
    calls = [
        n.value for n in ast.parse(source).body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)
    ]
    called = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id.startswith("claim")]
    return [str(c.args[0].value) for c in called if isinstance(c.args[0], ast.Constant)]


def cell_problems(cell) -> list[str]:
    """Return every rule that a code cell breaks."""
    tags, source, found = set(cell.metadata.get("tags", [])), cell.source, []
    kinds = tags & KINDS
    if len(kinds) > 1 or tags - KINDS - {"nbval-ignore-output"}:
        found.append(f"tags {sorted(tags)} do not name one kind")
    if bool(kinds & UNCOMPARED) != ("nbval-ignore-output" in tags):
        found.append("nbval-ignore-output goes with measured, picture and widget, and with no other kind")
    if cell.execution_count is None:
        found.append("never run, so nbval would not compare it")
    if re.search(r"^\s*[!%]", source, re.M) or source.rstrip().endswith(";") or "clear_output" in source:
        found.append("! or %, a trailing ; or clear_output")
    elif "measured" in tags and not last_call(source).startswith("claim"):
        found.append("a measured cell must end in a claim")
    printed = "".join(o.get("text", "") for o in cell.outputs)
    if "measured" in tags and (lost := [name for name in claims(source) if name not in printed]):
        found.append(f"its saved output lacks the claims {', '.join(lost)}: save the chapter again")
    lines = re.sub(r"\x1b\[[\d;]*m", "", printed).splitlines()  # without codes of colours
    if wide := [line for line in lines if len(line) > WIDEST]:
        found.append(f"prints {len(wide[0])} characters in one line (at most {WIDEST}): {wide[0]!r}")
    if len(source.splitlines()) > LONGEST:
        found.append(f"{len(source.splitlines())} lines (at most {LONGEST})")
    if any(o.output_type == "error" for o in cell.outputs):
        found.append("its saved output is an error")
    if "exercise" in tags and last_call(source) != "check":
        found.append("an exercise must end in check(...)")
    if any(
        "image/png" in o.get("data", {}) and not o.metadata.get("image/png", {}).get("alt")
        for o in cell.outputs
    ):
        found.append("a picture without an alternative text: save the chapter again")
    if "picture" in tags and not any("image/png" in o.get("data", {}) for o in cell.outputs):
        found.append("a picture cell without a picture")
    elif "picture" in tags and last_call(source) not in DRAWN:
        found.append(f"a picture must end in one of {sorted(DRAWN)}, whose drawings are tested")
    return found


def problems(notebook) -> list[str]:
    """Return every violation of a rule in a notebook, with the cell's id."""
    found = []
    if len(json.dumps(notebook)) > LARGEST:
        found.append("larger than 1 MB")
    if "widgets" in notebook.metadata:
        found.append("saved widget state")
    if PRIVATE.search(json.dumps(notebook)):
        found.append("a path of somebody's machine, or something like a token")
    for before, cell, after in zip(
        [None, *notebook.cells], notebook.cells, [*notebook.cells[1:], None], strict=False
    ):
        if not cell.get("id"):
            found.append("a cell without an id")
        if cell.cell_type == "code":
            found += [f"{cell.get('id')}: {p}" for p in cell_problems(cell)]
            if (
                after is None
                or after.cell_type != "markdown"
                or before is None
                or before.cell_type != "markdown"
            ):
                found.append(
                    f"{cell.get('id')}: needs prose before it and a sentence about its output after it"
                )
            elif (
                {"picture", "widget"} & set(cell.metadata.get("tags", []))
                and last_call(cell.source) != "predict"  # a field, which the text before it describes
                and "In words" not in after.source
            ):
                found.append(f"{cell.get('id')}: a picture or widget needs the same in words after it")
    checked = re.findall(r'check\("(\d\d\.\d+)"', "\n".join(c.source for c in notebook.cells))
    in_order = sorted(checked, key=lambda id_: [int(number) for number in id_.split(".")])
    if checked != in_order:
        found.append(f"exercises out of order: {', '.join(checked)}")
    return found + answers_used(notebook)


def answers_used(notebook) -> list[str]:
    """Return the cells that use variables from a student's answer: they would fail until it is right."""
    answers, found = set(), []
    for cell in (c for c in notebook.cells if c.cell_type == "code"):
        tree = ast.parse(cell.source) if not re.search(r"^\s*[!%]", cell.source, re.M) else ast.parse("")
        bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if "exercise" in cell.metadata.get("tags", []):
            answers |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
            answers |= {
                t.id
                for n in tree.body
                if isinstance(n, ast.Assign)
                for t in n.targets
                if isinstance(t, ast.Name)
            }
            continue
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        if shared := sorted((used - bound) & answers):
            found.append(f"{cell.get('id')}: uses the learner's {', '.join(shared)}")
        answers -= bound
    return found


@pytest.mark.parametrize("path", all_chapters(), ids=lambda p: p.stem)
def test_chapter_follows_the_rules(path):
    assert problems(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", all_chapters()[:-1], ids=lambda p: p.stem)
def test_a_chapter_has_a_link_to_the_next(path):
    chapters = all_chapters()
    prose = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    link = re.search(r"\*\*Next:\*\* \[[^\]]+\]\(([^)]+)\)", prose)
    assert link and link[1] == chapters[chapters.index(path) + 1].name


def test_there_are_chapters():
    assert [p.name[:2] for p in all_chapters()][:2] == ["00", "01"]


@pytest.fixture
def good():
    code = nbformat.v4.new_code_cell("print(1)", execution_count=1)
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("a"), code, nbformat.v4.new_markdown_cell("b")]
    )


BREAK = {
    "unknown tag": lambda c: c.metadata.update(tags=["fun"]),
    "two kinds": lambda c: c.metadata.update(tags=["measured", "picture", "nbval-ignore-output"]),
    "ignored but exact": lambda c: c.metadata.update(tags=["nbval-ignore-output"]),
    "measured but compared": lambda c: c.metadata.update(tags=["measured"]),
    "measured without claim": lambda c: c.metadata.update(tags=["measured", "nbval-ignore-output"]),
    "claim that is not saved": lambda c: c.update(
        source='claim("n", 1, about=1, within=1)',
        metadata={"tags": ["measured", "nbval-ignore-output"]},
    ),
    "picture without picture": lambda c: c.metadata.update(tags=["picture", "nbval-ignore-output"]),
    "picture without alt": lambda c: c.outputs.append(
        nbformat.v4.new_output("display_data", data={"image/png": ""})
    ),
    "picture of something untested": lambda c: (
        c.metadata.update(tags=["picture", "nbval-ignore-output"]),
        c.outputs.append(nbformat.v4.new_output("display_data", data={"image/png": ""})),
    ),
    "widget that is compared": lambda c: c.metadata.update(tags=["widget"]),
    "widget without words": lambda c: c.metadata.update(tags=["widget", "nbval-ignore-output"]),
    "exercise without check": lambda c: c.metadata.update(tags=["exercise"]),
    "never run": lambda c: c.update(execution_count=None),
    "shell": lambda c: c.update(source="!false"),
    "magic": lambda c: c.update(source="%time x"),
    "semicolon": lambda c: c.update(source="x = 1;"),
    "clear_output": lambda c: c.update(source="clear_output()"),
    "too long": lambda c: c.update(source="x = 1\n" * 26),
    "error": lambda c: c.outputs.append(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])),
    "path": lambda c: c.outputs.append(nbformat.v4.new_output("stream", text="/home/me/x")),
    "wide": lambda c: c.outputs.append(nbformat.v4.new_output("stream", text="x" * 121)),
    "no id": lambda c: c.pop("id"),
}


COMPLAINT = {
    "unknown tag": "do not name one kind",
    "two kinds": "do not name one kind",
    "ignored but exact": "nbval-ignore-output goes with",
    "measured but compared": "nbval-ignore-output goes with",
    "measured without claim": "must end in a claim",
    "claim that is not saved": "saved output lacks the claims n:",
    "picture without picture": "a picture cell without a picture",
    "picture without alt": "without an alternative text",
    "picture of something untested": "whose drawings are tested",
    "widget that is compared": "nbval-ignore-output goes with",
    "widget without words": "needs the same in words",
    "exercise without check": "must end in check",
    "never run": "never run",
    "shell": "! or %",
    "magic": "! or %",
    "semicolon": "trailing ;",
    "clear_output": "clear_output",
    "too long": "26 lines",
    "error": "saved output is an error",
    "path": "a path of somebody's machine",
    "wide": "prints 121 characters in one line",
    "no id": "without an id",
}


@pytest.mark.parametrize("fault", BREAK)
def test_each_rule_bites(good, fault):
    assert problems(good) == []
    broken = copy.deepcopy(good)
    BREAK[fault](broken.cells[1])
    assert COMPLAINT[fault] in " ".join(problems(broken))


WHOLE = {
    "saved widget state": lambda n: n.metadata.update(widgets={"x": 1}),
    "larger than": lambda n: n.cells[0].update(source="x" * 1_000_001),
    "like a token": lambda n: n.cells[0].update(source="hf_" + "a1B2c3D4e5" * 3),
    "exercises out of order: 00.2, 00.1": lambda n: n.cells.append(
        nbformat.v4.new_markdown_cell('check("00.2", a)\ncheck("00.1", b)')
    ),
    "uses the learner's answer": lambda n: n.cells.extend(
        [
            nbformat.v4.new_code_cell(
                'answer = 1\ncheck("00.1", answer)', metadata={"tags": ["exercise"]}, execution_count=2
            ),
            nbformat.v4.new_markdown_cell("c"),
            nbformat.v4.new_code_cell("print(answer)", execution_count=3),
            nbformat.v4.new_markdown_cell("d"),
        ]
    ),
}


@pytest.mark.parametrize("fault", WHOLE)
def test_each_rule_about_a_whole_notebook_bites(good, fault):
    assert problems(good) == []
    WHOLE[fault](good)
    assert fault in " ".join(problems(good))


def test_a_cell_without_prose_around_it_is_found(good):
    good.cells.pop()
    assert problems(good)


@pytest.mark.parametrize("chapter", all_chapters(), ids=lambda path: path.stem)
def test_functions_that_a_chapter_prints_are_printed_as_they_are(chapter):
    """A saved output shows the source of a function: this fails seconds after the function changed."""
    cells = [c for c in nbformat.read(chapter, as_version=4).cells if c.cell_type == "code"]
    for cell in (c for c in cells if "inspect.getsource(" in c.source):
        printed = "".join(output.get("text", "") for output in cell.outputs)
        names = re.findall(r"^def (\w+)\(", printed, flags=re.MULTILINE)
        assert names, cell.id
        for name in names:
            assert inspect.getsource(imported(cells, name)) in printed, f"{cell.id}: {name} has changed"


def imported(cells, name):
    """Return the object that the cells import from the course by this name."""
    for statement in (n for cell in cells for n in ast.walk(ast.parse(cell.source))):
        if isinstance(statement, ast.ImportFrom) and name in (alias.name for alias in statement.names):
            return getattr(importlib.import_module(statement.module), name)
    raise AssertionError(f"{name} is printed and not imported")
