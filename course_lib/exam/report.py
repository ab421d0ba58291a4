"""Score an exam: right answers by kind, area and language, seconds by system, and reasons of failures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from course_lib.exam.questions import ExamQuestion
from course_lib.exam.run import Given
from course_lib.measure.intervals import Estimate, mean_of
from course_lib.rag.answering import exact_match, normalise
from course_lib.rag.prompt import REFUSAL
from course_lib.tables import table

GROUPS = ("kind", "language", "area")  # fields by which a report groups the questions


def is_right(question: ExamQuestion, answer: str) -> bool:
    """Whether the answer is the right one, apart from case, article, option letter and final punctuation."""
    if question.answer is None:
        raise ValueError(f"{question.id}: nobody tells the right answer")
    return exact_match(answer, question.answer)


def scores(questions: Sequence[ExamQuestion], answers: Mapping[str, str]) -> dict[str, Estimate]:
    """Return group -> share of right answers, with its interval. Groups: "all", "kind=choice" and so on."""
    groups: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        names = [f"{n}={v}" for n in GROUPS if (v := getattr(question, n))]
        for name in ["all", *names]:
            groups[name].append(float(is_right(question, answers[question.id])))
    order = ["all", *GROUPS]
    sorted_names = sorted(groups, key=lambda name: (order.index(name.partition("=")[0]), name))
    return {name: mean_of(groups[name]) for name in sorted_names}


def answered_in_vain(questions: Sequence[ExamQuestion], answers: Mapping[str, str]) -> Estimate | None:
    """Return the share of the unanswerable questions that were answered instead of refused.

    Returns None if no question is unanswerable.
    """
    refusal = normalise(REFUSAL)
    should = [q for q in questions if q.answer is not None and normalise(q.answer) == refusal]
    return mean_of([float(normalise(answers[q.id]) != refusal) for q in should]) if should else None


def points(questions: Sequence[ExamQuestion], answers: Mapping[str, str], *, wrong: float) -> list[float]:
    """Return the points of each question: 1 if right, 0 if refused, otherwise `wrong` (negative)."""
    refusal = normalise(REFUSAL)
    return [
        1.0 if is_right(q, answers[q.id]) else 0.0 if normalise(answers[q.id]) == refusal else wrong
        for q in questions
    ]


def lost_points(
    questions: Sequence[ExamQuestion],
    answers: Mapping[str, str],
    found: Mapping[str, Collection[str]],
    needed: Mapping[str, Collection[str]],
) -> dict[str, int]:
    """Count the questions by outcome; the counts add up to the number of questions.

    found, needed: question id -> ids of the passages that the system read, and of those that answer it.
    Outcomes: "right"; "not found": a needed passage was not read; "wrong option" and "not read": all needed
    passages were read, but the answer is wrong; "answered in vain": there is no answer, and the system did
    not refuse.
    """
    counts = dict.fromkeys(("right", "not found", "wrong option", "not read", "answered in vain"), 0)
    for question in questions:
        if is_right(question, answers[question.id]):
            cause = "right"
        elif not needed[question.id]:
            cause = "answered in vain"
        elif not set(needed[question.id]) <= set(found[question.id]):
            cause = "not found"
        else:
            cause = "wrong option" if question.options else "not read"
        counts[cause] += 1
    return counts


def report(questions: Sequence[ExamQuestion], given: Sequence[Given]) -> str:
    """Return a report as text: scores (if the right answers are known), times and failures."""
    lines = [f"{len(given)} of {len(questions)} questions answered in {given[-1].used / 60:.1f} minutes"]
    answers = {each.id: each.answer for each in given}
    known = [q for q in questions if q.answer is not None and q.id in answers]
    if known:
        rows = [(name, _share(value)) for name, value in scores(known, answers).items()]
        lines.append(table(["questions", "right"], rows))
        if (refused := answered_in_vain(known, answers)) is not None:
            lines.append(f"answered, though no answer is there: {_share(refused)}")
    by_system: dict[str, list[float]] = defaultdict(list)
    for each in given:
        by_system[each.system].append(each.seconds)
    times = [(name, str(len(s)), f"{sum(s):.1f}", f"{sum(s) / len(s):.2f}") for name, s in by_system.items()]
    lines.append(table(["system", "answers", "seconds", "seconds each"], times))
    for reason, count in Counter(reason for each in given for reason in each.failed).most_common(10):
        lines.append(f"{count} x {reason}")
    return "\n\n".join(lines)


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} ({estimate.low:.0%}-{estimate.high:.0%})"
