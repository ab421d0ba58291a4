"""Checks after the run of a chapter: each takes a runner.ChapterFile and returns a list of problems.

A claim is a measured number that a chapter states in its text and asserts in its code.
"""

import json
import time

from course_lib.learn import budget, state
from course_lib.learn.exercises.engine import chapter_exercises
from tests.notebooks.test_prose import stated


def wrong_answer_problem(id_, feedback, reply, earlier):
    """Return what is wrong with the reply to a wrong answer, or ''.

    feedback: words that the reply must contain. earlier: name of another wrong answer -> the reply to it.
    """
    if not reply.startswith(f"{id_} not yet"):
        return f"{id_}: this wrong answer got {reply!r}"
    if feedback not in reply:
        return f"{id_}: the reply {reply!r} does not say {feedback!r}"
    same = [name for name, other in earlier.items() if other == reply]
    return f"{id_}: the same reply as to {same[0]!r}: {reply!r}" if same else ""


def exercises_are_declared(chapter):
    """Compare the exercises that the chapter's cells check with those declared in course_lib."""
    checked = {step.exercise_id for step in chapter.steps} - {""}
    declared = {exercise.id for exercise in chapter_exercises(chapter.path.name[:2])}
    return [f"{id_}: no cell checks it" for id_ in sorted(declared - checked)] + [
        f"{id_}: not declared" for id_ in sorted(checked - declared)
    ]


def claims_hold(chapter):
    """Compare the numbers in the text with the claims recorded in this run."""
    file = chapter.folder / "claims.jsonl"
    recorded = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    return claim_problems(chapter.nb, {claim["name"]: claim for claim in recorded})


def claim_problems(notebook, claims):
    """Return the numbers in the text that differ from their claims. claims: name -> recorded claim."""
    problems = []
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for number in (n for text in texts for n in stated(text) if n.kind == "claim"):
        claim = claims.get(number.name)
        if claim is None:
            problems.append(f"{number.name}: not recorded in this run")
        elif not claim["in_text"]:
            continue  # the text states the number of another tier
        elif not claim["within"]:
            problems.append(f"{number.name} is a comparison: it cannot support a number in the text")
        elif claim["unit"].split()[:1] != number.unit.split()[:1]:
            problems.append(f"{number.name} is in {claim['unit']!r}, the text says {number.unit!r}")
        elif not abs(number.number - claim["value"]) <= claim["within"]:
            problems.append(f"the text says {number.number:g} {number.unit}, measured {claim}")
        elif not claim["machine"]["cores"]:
            problems.append(f"{number.name}: the machine is not recorded")
    return problems


def progress_is_untouched(chapter):
    """Check that an unchanged student copy records every exercise as not answered, without attempts."""
    tried = state.load(chapter.student_state).exercises
    recorded = {id_: (t.verdict, t.attempts) for id_, t in tried.items()}
    expected = {exercise.id: ("not answered", 0) for exercise in chapter_exercises(chapter.path.name[:2])}
    return [] if recorded == expected else [f"an untouched copy recorded {recorded}, not {expected}"]


def budget_holds(chapter):
    """Check time and memory against the budget. Both include the extra runs of exercise cells."""
    declared, end = budget.declared_budget(chapter.nb, chapter.path.name), time.monotonic()
    further = end - chapter.further_begun if chapter.further_begun else 0.0
    seconds, peak = end - chapter.begun - further, chapter.peak.bytes
    optional = f", optional part {further / 60:.1f} min" if further else ""
    chapter.measured = f"{seconds / 60:.1f} min{optional}, peak {peak / 2**30:.2f} GiB"
    return budget.budget_violations(declared, seconds, peak, chapter.speed, further)


WHOLE_RUN = (exercises_are_declared, claims_hold, progress_is_untouched, budget_holds)
