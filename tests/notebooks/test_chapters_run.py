"""Every chapter's student copy is run once. Each exercise cell is run again with every wrong answer and with the reference in it:
the mutation gate. The same run drives the widgets, records the claims, and is held to the chapter's budget.
"""

import json
import re

import nbformat
import pytest

from course_lib.chapters import all_chapters, execute, read
from course_lib.data import CHAPTERS
from course_lib.learn import budget
from course_lib.learn.exercises.engine import all_exercises, of_chapter
from course_lib.learn.student import exercise_cell, put, student_copy, tags
from tests.notebooks.test_prose import stated
from tests.notebooks.wrong_answers import wrong_answers

DRIVE = """
from course_lib.learn.widgets import Explorer
from course_lib.learn.predictions import Prediction
last = max(Out, default=0)
shown = Out[last] if last >= get_ipython().execution_count - 2 else None
assert isinstance(shown, (Explorer, Prediction)), "a widget cell that shows none"
print("drove", shown.drive())
"""


def said(cell) -> str:
    return "".join(o.get("text", "") for o in cell.outputs)


def run_again(client, source) -> str:
    """Another text of a cell, run in the same kernel."""
    cell = nbformat.v4.new_code_cell(source)
    client.execute_cell(cell, 0)
    return said(cell)


def gated_run(notebook, folder, originals):
    """Run a student copy. Returns the run, exercise id -> whose answer -> reply, and what driving each widget printed.

    originals: cell id -> the chapter's own source of that cell.
    """
    exercises, replies, driven = all_exercises(), {}, {}

    def on_cell(client, cell):
        if "widget" in tags(cell):
            driven[cell.id] = run_again(client, DRIVE)
        if "exercise" not in tags(cell):
            return
        for id_ in re.findall(r'check\("(\d\d\.\d+)"', originals[cell.id]):
            wrong = {name: put(originals[cell.id], w.code) for name, w in wrong_answers(id_).items()}
            texts = (
                wrong | {"reference": put(originals[cell.id], exercises[id_].reference)}
                if cell.source
                else {}
            )
            replies[id_] = {"stub": said(cell)} | {
                name: run_again(client, text) for name, text in texts.items()
            }
            if cell.source:  # strictly, a reference that is not right would end the run
                run_again(
                    client,
                    f"import os\nos.environ['COURSE_CHECK'] = 'strict'\n{texts['reference']}\ndel os.environ['COURSE_CHECK']",
                )
            run_again(client, cell.source)  # what follows meets the stub, as it would

    return execute(notebook, folder, on_cell), replies, driven


def gate_problems(exercise, replies) -> list[str]:
    """What the replies to the stub, the reference and each wrong answer break."""
    found = []
    if not replies.get("stub", "").startswith(f"{exercise.id} not answered"):
        found.append(f"{exercise.id}: the untouched stub got {replies.get('stub')!r}")
    if not replies.get("reference", "").startswith(f"{exercise.id} right"):
        found.append(f"{exercise.id}: the reference got {replies.get('reference')!r}")
    answers = wrong_answers(exercise.id)
    for name, wrong in answers.items():
        reply = replies.get(name, "")
        if not reply.startswith(f"{exercise.id} not yet") or wrong.feedback not in reply:
            found.append(f"{exercise.id}: {name!r} got {reply!r}, not {wrong.feedback!r}")
    if len({replies.get(n) for n in answers}) < len(answers):
        found.append(f"{exercise.id}: two wrong answers get the same reply")
    return found


class Ran:
    """One chapter's run and what it left."""

    def __init__(self, path, tmp):
        chapter = read(path)
        self.path, self.number = path, path.name[:2]
        self.budget, self.speed = budget.declared(chapter, path.name), budget.calibrate()
        self.chapter, self.copy = chapter, student_copy(chapter)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COURSE_CLAIMS", str(tmp / "claims.jsonl"))
            originals = {c.id: c.source for c in chapter.cells}
            self.run, self.replies, self.driven = gated_run(self.copy, CHAPTERS, originals)
        lines = (tmp / "claims.jsonl").read_text("utf-8").splitlines()
        self.claims = {c["name"]: c for c in map(json.loads, lines)}


@pytest.fixture(scope="module", params=all_chapters(), ids=lambda p: p.stem)
def ran(request, tmp_path_factory):
    return Ran(request.param, tmp_path_factory.mktemp("run"))


def test_the_student_copy_runs_to_the_end(ran):
    assert ran.run.failed == ""


def test_every_exercise_of_the_chapter_passes_the_gate(ran):
    declared = {e.id: e for e in of_chapter(ran.number)}
    assert set(ran.replies) == set(declared), "cells and declarations name different exercises"
    assert [p for e in declared.values() for p in gate_problems(e, ran.replies[e.id])] == []


def test_every_widget_moves(ran):
    assert set(ran.driven) == {c.id for c in ran.copy.cells if "widget" in tags(c)}
    assert all(re.match(r"drove \d+\n", text) for text in ran.driven.values()), ran.driven


def test_numbers_in_the_text_are_those_of_the_claims(ran):
    for cell in ran.chapter.cells:
        for s in (s for s in stated(cell.source) if cell.cell_type == "markdown" and s.kind == "claim"):
            claim = ran.claims[s.name]
            assert claim["within"], f"{s.name} is an ordering: it holds no number of the text"
            assert claim["unit"].split()[:1] == s.unit.split()[:1], (
                f"{s.name} is in {claim['unit']!r}, the text says {s.unit!r}"
            )
            assert abs(s.number - claim["value"]) <= claim["within"], (
                f"the text says {s.number:g} {s.unit}, measured {claim}"
            )
            assert claim["machine"]["cores"]


def test_the_budget_holds(ran):
    # the gate runs cells several times over, which only makes this stricter
    assert budget.over(ran.budget, ran.run.seconds, ran.run.peak, ran.speed) == []


def test_exercises_have_what_a_learner_needs():
    exercises = all_exercises()
    for exercise in exercises.values():
        assert exercise.title and exercise.hints, exercise.id
    assert len(of_chapter("00")) >= 2 and len(of_chapter("01")) >= 4


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"stub": "00.1 right: x"}, "untouched stub"),  # the key is checked, not the learner's cell
        ({"reference": "00.1 not yet: x"}, "reference"),
        ({"first place only": "00.1 right: forge a passage"}, "first place only"),  # a wrong answer passes
        (
            {"first place only": "00.1 not yet: no"},
            "first place only",
        ),  # a reply that says nothing of the mistake
        ({"first place only": ""}, "first place only"),
    ],
)
def test_the_gate_bites(fault, complaint):
    exercise = all_exercises()["00.1"]
    good = {"stub": "00.1 not answered: ...", "reference": "00.1 right: forge a passage"}
    good |= {name: f"00.1 not yet: {wrong.feedback}" for name, wrong in wrong_answers("00.1").items()}
    assert gate_problems(exercise, good) == []
    assert complaint in " ".join(gate_problems(exercise, good | fault))


@pytest.mark.parametrize("emptied", [False, True])
def test_an_emptied_notebook_fails_the_gate(tmp_path, emptied):
    source = exercise_cell("00.1")
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["exercise"]})
    copy = student_copy(nbformat.v4.new_notebook(cells=[cell]))
    if emptied:
        copy.cells[0].source = ""
    _, replies, _ = gated_run(copy, tmp_path, {cell.id: source})
    assert bool(gate_problems(all_exercises()["00.1"], replies["00.1"])) is emptied
