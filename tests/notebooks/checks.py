"""Checks of what a chapter's run left, each a function of the chapter that returns problems in words."""

import json
import time

from course_lib.learn import budget, state
from course_lib.learn.exercises.engine import chapter_exercises
from tests.notebooks.test_prose import stated


def wrong_answer_problem(id_, feedback, reply, earlier):
    """What is wrong with the reply to a wrong answer, or ''. `earlier`: name -> reply to another one."""
    if not reply.startswith(f"{id_} not yet"):
        return f"{id_}: this wrong answer got {reply!r}"
    if feedback not in reply:
        return f"{id_}: the reply {reply!r} does not say {feedback!r}"
    same = [name for name, other in earlier.items() if other == reply]
    return f"{id_}: the same reply as to {same[0]!r}: {reply!r}" if same else ""


def exercises_are_declared(chapter):
    """The chapter's cells check the exercises that are declared for it."""
    checked = {step.exercise_id for step in chapter.steps} - {""}
    declared = {exercise.id for exercise in chapter_exercises(chapter.path.name[:2])}
    return [f"{id_}: no cell checks it" for id_ in sorted(declared - checked)] + [
        f"{id_}: not declared" for id_ in sorted(checked - declared)
    ]


def claims_hold(chapter):
    """Numbers in the text are those that were claimed in this run."""
    file = chapter.folder / "claims.jsonl"
    recorded = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    return claim_problems(chapter.nb, {claim["name"]: claim for claim in recorded})


def claim_problems(notebook, claims):
    """Numbers of the text that are not those of the claims recorded in a run, by name."""
    found = []
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for number in (n for text in texts for n in stated(text) if n.kind == "claim"):
        claim = claims.get(number.name)
        if claim is None:
            found.append(f"{number.name}: not recorded in this run")
        elif not claim["within"]:
            found.append(f"{number.name} is an ordering: it holds no number of the text")
        elif claim["unit"].split()[:1] != number.unit.split()[:1]:
            found.append(f"{number.name} is in {claim['unit']!r}, the text says {number.unit!r}")
        elif not abs(number.number - claim["value"]) <= claim["within"]:
            found.append(f"the text says {number.number:g} {number.unit}, measured {claim}")
        elif not claim["machine"]["cores"]:
            found.append(f"{number.name}: the machine is not recorded")
    return found


def progress_is_untouched(chapter):
    """After an untouched copy ran, every exercise is recorded as not answered, without an attempt."""
    tried = state.load(chapter.student_state).exercises
    recorded = {id_: (t.verdict, t.attempts) for id_, t in tried.items()}
    expected = {exercise.id: ("not answered", 0) for exercise in chapter_exercises(chapter.path.name[:2])}
    return [] if recorded == expected else [f"an untouched copy recorded {recorded}, not {expected}"]


def budget_holds(chapter):
    """Time and memory are as declared. The replays in exercises count too, which only makes this stricter."""
    declared = budget.declared(chapter.nb, chapter.path.name)
    return budget.over(declared, time.monotonic() - chapter.begun, chapter.peak.bytes, chapter.speed)


WHOLE_RUN = (exercises_are_declared, claims_hold, progress_is_untouched, budget_holds)
