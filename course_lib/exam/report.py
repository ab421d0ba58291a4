"""Score an exam: by kind, area and language with intervals, seconds by system, and what went wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from course_lib.exam.questions import ExamQuestion
from course_lib.exam.run import Given
from course_lib.measure.intervals import Estimate, mean_of
from course_lib.rag.answering import exact_match, normalise
from course_lib.rag.prompt import REFUSAL
from course_lib.tables import table


def is_right(question: ExamQuestion, answer: str) -> bool:
    """Whether the answer is the right one: the option, or an exact match of a written answer."""
    if question.answer is None:
        raise ValueError(f"{question.id}: nobody tells the right answer")
    return exact_match(answer, question.answer)


def scores(questions: Sequence[ExamQuestion], answers: Mapping[str, str]) -> dict[str, Estimate]:
    """Return the share of right answers, of "all" and of each "kind=...", "area=..." and "language=..."."""
    groups: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        names = [f"{n}={v}" for n in ("kind", "area", "language") if (v := getattr(question, n))]
        for name in ["all", *names]:
            groups[name].append(float(is_right(question, answers[question.id])))
    return {name: mean_of(marks) for name, marks in groups.items()}


def answered_in_vain(questions: Sequence[ExamQuestion], answers: Mapping[str, str]) -> Estimate | None:
    """Return the share of the questions to refuse that got an answer; None without such questions."""
    refusal = normalise(REFUSAL)
    should = [q for q in questions if q.answer is not None and normalise(q.answer) == refusal]
    return mean_of([float(normalise(answers[q.id]) != refusal) for q in should]) if should else None


def report(questions: Sequence[ExamQuestion], given: Sequence[Given]) -> str:
    """Return the report as text: scores where the right answers are known, then time, then failures."""
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
