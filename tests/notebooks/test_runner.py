"""Tests of runner.py: faults in small chapters, each of which it must report at its step, and no others."""

from typing import NamedTuple

import nbformat
import pytest

from course_lib.chapters import all_chapters
from course_lib.data import CHAPTERS
from course_lib.learn.student import exercise_cell
from tests.notebooks import runner
from tests.notebooks.wrong_answers import Wrong, wrong_answers

BUDGET = {"minutes": 1, "memory_gib": 1.0, "disk_gb": 1, "download_mb": 0, "speed": 4000}


class Planted(NamedTuple):
    """A code cell of a test chapter.

    saved: its saved output. tags: separated by spaces. fails: end of a step's name -> message of its failure.
    """

    source: str
    saved: str = ""
    tags: str = ""
    fails: dict[str, str] = {}  # noqa: RUF012
    execution_count: int | None = 1


class Recorder:
    """A pytest plugin that records the outcome and the failure text of each step, by the step's name."""

    def __init__(self):
        self.steps, self.paths = {}, set()

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.steps[report.nodeid.partition("::")[2]] = (report.outcome, report.longreprtext)

    def pytest_collection_finish(self, session):
        self.paths = {item.path for item in session.items}

    @property
    def failures(self):
        return {name: text for name, (outcome, text) in self.steps.items() if outcome == "failed"}


def run(path, *options):
    recorder = Recorder()
    options = ["-q", "-c", "/dev/null", "-p", "tests.notebooks.runner", *options]
    pytest.main([*options, f"--rootdir={path.parent}", str(path)], plugins=[recorder])
    return recorder


def chapter(folder, cells, text="", **changes):
    """Write a chapter 00 with these cells, a text and changes to its budget; return its path."""
    notebook = nbformat.v4.new_notebook(metadata={"course": {"budget": {"tiny": BUDGET | changes}}})
    notebook.cells = [nbformat.v4.new_markdown_cell(text)]
    for cell in cells:
        code = nbformat.v4.new_code_cell(cell.source, execution_count=cell.execution_count)
        code.metadata["tags"] = cell.tags.split()
        if set(code.metadata["tags"]) & {"widget", "picture", "measured"}:
            code.metadata["tags"].append("nbval-ignore-output")
        if cell.saved:
            code.outputs = [nbformat.v4.new_output("stream", name="stdout", text=cell.saved)]
        notebook.cells.append(code)
    nbformat.write(notebook, folder / "00-planted.ipynb")
    return folder / "00-planted.ipynb"


def exercise(solution, answer="forge"):
    """Return the source of a cell for exercise 00.1 with this solution."""
    return f'### BEGIN SOLUTION\n{solution}\n### END SOLUTION\ncheck("00.1", {answer})'


def widget(shows):
    """Return the source of a cell with a widget that shows the expression `shows` of x, from 0 to 2."""
    return f'Explorer("w", "W", lambda x: Output({shows}), {{"x": Range("x", 0, 2, 1)}})'


TOP = Planted("""from course_lib.learn.exercises import check
from course_lib.learn.predictions import predict, reveal
from course_lib.learn import state
from course_lib.learn.claims import claim, claim_order
from course_lib.learn.widgets import Explorer, Output, Range
known, items, moved = 1, [1], []""")
FORGE = "forge = lambda text, old, new: text.index(old) + 1 and text.replace(old, new)"
RIGHT = "\x1b[1;32m✓ 00.1 right\x1b[0m: forge a passage\n"
UNCHANGED = "\x1b[1;31m✗ 00.1 not yet\x1b[0m: the text came back unchanged; "
UNCHANGED += "replace() does not change a string but returns a new one\n"
SOUND = [
    TOP,
    Planted('predict("p", unit="s", low=1, high=9)', tags="widget"),
    Planted('reveal("p", 2)', "measured: 2 (p). No guess yet: next time, guess first.\n"),
    Planted(widget("str(x)"), tags="widget"),
    Planted(exercise_cell("00.1"), RIGHT, "exercise"),
    Planted(exercise_cell("00.2"), "\x1b[1;32m✓ 00.2 right\x1b[0m: count refusals\n", "exercise"),
    Planted(exercise_cell("00.3"), "\x1b[1;32m✓ 00.3 right\x1b[0m: read or remembered?\n", "exercise"),
    Planted("print(known, items, state.path())", "1 [1] None\n"),
]


def test_a_sound_chapter_passes_every_step(tmp_path):
    result = run(chapter(tmp_path, SOUND))
    assert result.failures == {}
    tried = sum(len(wrong_answers(id_)) for id_ in ("00.1", "00.2", "00.3"))
    ends = (
        len(SOUND) + 2 + tried + 3 * 2 + 4
    )  # cells, widgets, wrong answers, references and stubs, whole run
    assert [outcome for outcome, _ in result.steps.values()] == ["passed"] * ends


CELLS = {
    "what all others need": TOP,
    "a cell raises": Planted("1 / 0", fails={"": "ZeroDivisionError"}),
    "a claim does not hold": Planted('claim("c", 2, about=1, within=0.1)', fails={"": "ClaimFailed"}),
    "a saved output differs": Planted("print(1 + 1)", "3\n", fails={"": "Cell outputs differ"}),
    "an output is missing": Planted("pass", "1\n", fails={"": "Missing output fields"}),
    "an output was not saved": Planted("print(1)", fails={"": "Unexpected output fields"}),
    "a warning": Planted("import warnings\nwarnings.warn('w')", fails={"": "stderr"}),
    "outputs of a cell that never ran": Planted(
        "print(1)", "1\n", fails={"": "Unrun reference cell"}, execution_count=None
    ),
    "no picture": Planted("known", tags="picture", fails={"": "drew no picture"}),
    "a widget, and": Planted(widget("str(x)"), tags="widget"),
    "a widget cell that shows none": Planted("x = 1", tags="widget", fails={" [widget]": "shows no widget"}),
    "a widget that fails at an end": Planted(
        widget("str(1 / (x - 2))"), tags="widget", fails={" [widget]": "ZeroDivisionError"}
    ),
    "a widget that is empty at an end": Planted(
        widget("'' if x == 2 else str(x)"), tags="widget", fails={" [widget]": "x=2 shows no text"}
    ),
    "a widget that changes": Planted(widget("moved.append(x) or str(x)"), tags="widget"),
    "what a later cell shows": Planted("print(len(moved))", "1\n", fails={"": "Cell outputs differ"}),
    "a file beside the chapter": Planted('open("beside.txt").read()', fails={"": "FileNotFoundError"}),
    "a name that the runner has": Planted("begin", fails={"": "NameError"}),
    "a solution's cell binds names": Planted("known, hidden = 2, 3", tags="solution"),
    "one that a later cell needs": Planted("hidden", fails={"": "NameError"}),
    "one that a later cell shows": Planted("print(known)", "1\n"),
    "a saved reply that nobody gets": Planted(
        exercise(f"import colorsys\n{FORGE}"),
        "00.1 right: x\n",
        "exercise",
        fails={"": "Cell outputs differ"},
    ),
    "a cell that needs the answer": Planted(
        "forge('a', 'a', 'b')", fails={"": "'ellipsis' object is not callable"}
    ),
    "a cell that needs the solution's import": Planted("colorsys", fails={"": "NameError"}),
    "a reference that is not right": Planted(
        exercise("forge = lambda text, old, new: text"),
        UNCHANGED,
        "exercise",
        fails={"": "the reference got", " [00.1 reference, strictly]": "ExerciseFailed"},
    ),
    "a stub that answers": Planted(
        exercise("x = 1").replace("check(", f"{FORGE}\ncheck("),
        RIGHT,
        "exercise",
        fails={" [00.1 stub]": "the untouched stub got '00.1 right"},
    ),
    "a solution that rebinds": Planted(
        exercise(f"{FORGE}\nfor known in [2]:\n    pass"),
        RIGHT,
        "exercise",
        fails={" [00.1 stub]": "rebinds names of earlier cells: known"},
    ),
    "a solution that changes a value": Planted(exercise(f"{FORGE}\nitems.append(2)"), RIGHT, "exercise"),
    "which a later cell shows": Planted("print(items)", "[1]\n", fails={"": "Cell outputs differ"}),
    "an emptied exercise": Planted("", tags="exercise"),
    "an exercise that is not declared": Planted(
        exercise("x = 1", "x").replace("00.1", "00.9"),
        "",
        "exercise measured",
        fails={
            "": "the reference got",
            " [00.9 reference, strictly]": "CourseError",
            " [00.9 stub]": "the untouched stub got",
        },
    ),
    "claims for the text": Planted(
        'claim("value", 2, about=2, within=1, unit="s")\nclaim_order("order", 1, "<", 2, unit="s")',
        tags="measured",
    ),
}
TEXT = "9 s <!-- claim: value --> 2 MB <!-- claim: value --> 1 s <!-- claim: order --> 1 s <!-- claim: no -->"
ENDS = {
    "exercises_are_declared": ["00.2: no cell checks it", "00.9: not declared"],
    "claims_hold": [
        "the text says 9 s, measured",
        "value is in 's', the text says 'MB'",
        "order is a comparison",
        "no: not recorded in this run",
    ],
    "progress_is_untouched": ["'00.1': ('not answered', 1)", "'00.2': ('not answered', 0)"],
    "budget_holds": ["GiB, declared 0.01 GiB", "min, allowed"],
}


def expected_failures():
    """Return step name -> the messages that its failure must contain."""
    steps = {
        f"Cell {number}{end}": [message]
        for number, cell in enumerate(CELLS.values())
        for end, message in cell.fails.items()
    }
    return steps | ENDS


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "beside.txt").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "wrong_answers", lambda id_: {})
        return run(chapter(folder, CELLS.values(), TEXT, minutes=1e-5, memory_gib=0.01))


@pytest.mark.parametrize("step", expected_failures())
def test_a_planted_fault_is_found(faulty, step):
    failure = faulty.failures.get(step, "passed")
    assert [m for m in expected_failures()[step] if m not in failure] == [], failure


def test_nothing_else_is_found(faulty):
    assert faulty.failures.keys() == expected_failures().keys()


FIRST_ONLY = "import colorsys\n" + FORGE.replace("(old, new)", "(old, new, 1)")
WRONG = {
    "accepted": Wrong(FORGE, "anything"),
    "met with other words": Wrong(FIRST_ONLY, "never said"),
    "known": Wrong(FIRST_ONLY, "only the first"),
    "known already": Wrong(FIRST_ONLY, "only the first"),
    "no Python": Wrong("def forge(", "only the first"),
    "without a reply": Wrong("check = print", "only the first"),
}
COMPLAINTS = {
    "accepted": "this wrong answer got '00.1 right",
    "met with other words": "does not say 'never said'",
    "known already": "the same reply as to 'known'",
    "no Python": "SyntaxError",
    "without a reply": "this wrong answer got '00.1 Ellipsis",
}


def test_wrong_answers_and_replies_that_do_not_do_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "wrong_answers", lambda id_: WRONG)
    cells = [
        TOP,
        Planted("forge = ..."),
        Planted(exercise(FORGE), RIGHT, "exercise"),
        Planted("colorsys"),
        Planted("print(check is print, known)", "False 1\n"),
    ]
    failures = run(chapter(tmp_path, cells)).failures
    replies = {name: failures.pop(f"Cell 2 [00.1 wrong: {name}]", "") for name in WRONG}
    assert [name for name in WRONG if COMPLAINTS.get(name, "") not in replies[name]] == [], replies
    assert replies["known"] == ""
    assert "NameError" in failures.pop("Cell 3")  # a name that only a wrong answer binds
    assert failures.keys() == {"exercises_are_declared", "progress_is_untouched"}  # 00.2 is not there


def test_a_cell_that_never_ends_is_stopped(tmp_path):
    cells = [TOP, Planted("import time\ntime.sleep(60)"), Planted("print(1)", "1\n")]
    assert (
        "Timeout of 1 seconds" in run(chapter(tmp_path, cells), "--nbval-cell-timeout=1").failures["Cell 1"]
    )


def test_no_output_of_a_cell_with_many_is_lost(tmp_path):
    """The queues of the sockets hold about 10,000 outputs: 15,000 must be read while the cell runs."""
    prints = "import time\nfor i in range(15_000):\n    print(i, flush=True)\n    i % 150 or time.sleep(0.05)"
    cells = [TOP, Planted(prints, "".join(f"{i}\n" for i in range(15_000))), Planted("print(1)", "1\n")]
    failures = run(chapter(tmp_path, cells)).failures
    assert not {"Cell 1", "Cell 2"} & failures.keys()


def test_a_kernel_that_dies_fails_its_cell_and_all_later_ones(tmp_path):
    dies = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    failures = run(chapter(tmp_path, [TOP, Planted(dies), Planted("print(1)", "1\n")])).failures
    assert {"Cell 1", "Cell 2"} <= failures.keys()


def test_a_part_of_a_chapter_is_not_judged_as_a_whole(tmp_path):
    result = run(chapter(tmp_path, SOUND), "-k", "hold")
    assert [outcome for outcome, _ in result.steps.values()] == ["skipped", "skipped"]


def test_every_chapter_is_collected():
    assert run(CHAPTERS, "--collect-only").paths == set(all_chapters())
