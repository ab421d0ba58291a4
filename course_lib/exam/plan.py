"""Predict how long an exam takes with a model on a graphics card, and whether the model fits on it.

The bytes come from the memory planner (`models.planner`). The seconds are the least possible ones
(`roofline`) divided by an efficiency that was observed on the card (`Card.efficiency`). Assumptions:
questions are answered in batches, all answers of a batch have the same length, and a search never overlaps
with computing answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from course_lib.errors import CourseError
from course_lib.exam.cards import Card, Range
from course_lib.exam.roofline import reading, writing
from course_lib.models.planner.buffers import Driver
from course_lib.models.planner.estimate import Plan, format_bytes, plan
from course_lib.models.planner.gpus import usable_bytes
from course_lib.models.planner.lookup import Model, architecture
from course_lib.tables import table

FORMATS = ("float16", "q8_0", "q4_k_m")  # of 16, 8 and 4 bits in llama.cpp
BATCHES = (1, 4, 16)  # questions at a time
SMALL_MODEL = 1_000_000_000  # weights; the card's runs, of 8 billion weights, say little about smaller models
MAX_TRIED = 1_000_000  # the largest number of passages, tokens or questions that `limits` tries


@dataclass(frozen=True)
class Exam:
    """The size of an exam: its questions, its time, and how much is read and written per question.

    passages: passages in a prompt. passage_tokens: tokens of one passage with its title. question_tokens:
    tokens of the question, its options and the instructions. search_seconds: time to find the passages
    and to sort them again (rerank); the default is that of a model that reranks 25 passages on two cores
    (benchmarks/README.md, "Reranking"). Raises CourseError for numbers below 1; passages and search_seconds
    may be 0.
    """

    questions: int = 515
    minutes: float = 270
    passages: int = 3
    passage_tokens: int = 200
    question_tokens: int = 100
    answer_tokens: int = 48
    search_seconds: float = 0.4

    def __post_init__(self) -> None:
        least = dict.fromkeys(("questions", "passage_tokens", "question_tokens", "answer_tokens"), 1)
        for name, low in (least | {"passages": 0, "search_seconds": 0}).items():
            if not low <= getattr(self, name) < math.inf:
                raise CourseError(f"{name}={getattr(self, name)}: at least {low}", f"Exam({name}={low})")
        if not 0 < self.minutes < math.inf:
            raise CourseError(f"minutes={self.minutes}: above 0", "Exam(minutes=270)")

    @property
    def prompt_tokens(self) -> int:
        return self.passages * self.passage_tokens + self.question_tokens

    @property
    def context(self) -> int:
        """Tokens of a prompt with its answer."""
        return self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True)
class ExamPlan:
    """The predicted time and memory of an exam with one model on one card (a graphics card).

    seconds: part -> total seconds; the parts are "search", "read" (prompts) and "write" (answers).
    efficiency: "read" and "write" -> the least possible time (`roofline`) divided by that of the card.
    """

    exam: Exam
    model: Model
    card: Card
    memory: Plan
    seconds: dict[str, Range]
    efficiency: dict[str, Range]

    @property
    def minutes(self) -> Range:
        """The minutes of the whole exam at the highest, the median and the lowest efficiency."""
        low, value, high = (sum(part) / 60 for part in zip(*self.seconds.values(), strict=True))
        return Range(low, value, high)

    @property
    def fits(self) -> bool:
        """Whether the model fits into the card's memory while a tenth of it stays free."""
        return self.memory.total <= usable_bytes(self.card.memory)

    @property
    def in_time(self) -> bool:
        """Whether the exam ends in time even at the lowest efficiency."""
        return self.minutes.high <= self.exam.minutes

    def __str__(self) -> str:
        exam, memory = self.exam, self.memory
        tokens = {"read": f"{exam.prompt_tokens:,} tokens", "write": f"{exam.answer_tokens:,} tokens"}
        rows = [
            [name, tokens.get(name, f"{exam.passages} passages"), *map(_number, part.times(1 / 60))]
            for name, part in self.seconds.items()
        ]
        rows.append(["all", f"{exam.questions:,} questions", *map(_number, self.minutes)])
        holds = f"{format_bytes(memory.total)} of {format_bytes(usable_bytes(self.card.memory))}"
        return "\n".join(
            [
                f"{memory.model} in {memory.weight_format} on {self.card.name}, {memory.batch} at a time",
                table(["part", "for a question", "minutes, least", "median", "most"], rows),
                f"Of the card's full speed, {' and '.join(map(self._share, self.efficiency))}.",
                f"Memory: {holds}: it {'fits' if self.fits else 'does not fit'}.",
                f"{exam.minutes:g} minutes: {self._in_words()}.",
                *self._notes(),
            ]
        )

    def _notes(self) -> list[str]:
        of_itself = any(run.model == self.model for run in self.card.runs)
        if of_itself or architecture(self.model).parameters >= SMALL_MODEL:
            return []
        return ["So small a model takes longer: what a program does besides moving weights is not counted."]

    def _share(self, does: str) -> str:
        low, value, high = self.efficiency[does]
        return f"{does}ing reaches {value:.0%} ({low:.0%}-{high:.0%})".replace("writeing", "writing")

    def _in_words(self) -> str:
        if not self.fits:
            return "not on this card"
        if self.in_time:
            return "in time, at the lowest efficiency too"
        if self.minutes.value <= self.exam.minutes:
            return "in time at the median efficiency, not at the lowest"
        return "too slow"


def plan_exam(
    model: Model,
    card: Card,
    exam: Exam | None = None,
    weight_format: str | None = None,
    batch: int = 1,
    *,
    driver: Driver | None = "llamacpp",
) -> ExamPlan:
    """Return the plan of an exam. The other arguments and the errors are those of the planner's `plan`.

    driver: the software that runs the model; the published runs on cards were made with llama.cpp. Also
    raises CourseError if a prompt and its answer are longer than the model's context, the most tokens that it
    takes.
    """
    exam = exam or Exam()
    sizes = architecture(model)
    if exam.context > sizes.context:
        tokens = f"{exam.prompt_tokens:,} tokens read and {exam.answer_tokens:,} written"
        raise CourseError(
            f"{tokens}; {sizes.name} takes {sizes.context:,} together", _shorter(exam, sizes.context)
        )
    memory = plan(model, weight_format, exam.context, batch, driver=driver)
    options: dict[str, Any] = {"weight_format": memory.weight_format, "driver": memory.driver}
    read = write = 0.0
    middle = exam.prompt_tokens + exam.answer_tokens // 2
    for groups, size in _groups(exam.questions, batch):
        work = reading(model, exam.prompt_tokens, batch=size, **options)
        read += groups * work.seconds(card.bandwidth, card.flops)
        step = writing(model, middle, batch=size, **options)
        write += groups * exam.answer_tokens * step.seconds(card.bandwidth, card.flops)
    search = exam.questions * exam.search_seconds
    efficiency = {
        "read": card.efficiency("read", memory.weight_format),
        "write": card.efficiency("write", memory.weight_format, batch),
    }
    seconds = {
        "search": Range(search, search, search),
        "read": efficiency["read"].under(read),
        "write": efficiency["write"].under(write),
    }
    return ExamPlan(exam, model, card, memory, seconds, efficiency)


def _groups(questions: int, batch: int) -> list[tuple[int, int]]:
    """Return (number of batches, batch size) for the full batches and for a smaller last one."""
    full, rest = divmod(questions, batch)
    return [(count, size) for count, size in ((full, batch), (1, rest)) if count and size]


def _shorter(exam: Exam, context: int) -> str:
    """Return the fix that makes a prompt and its answer fit into the context."""
    room = context - exam.question_tokens - exam.answer_tokens
    return "give shorter answers" if room < 0 else f"give at most {room // exam.passage_tokens} passages"


def choices(
    model: Model,
    card: Card,
    exam: Exam | None = None,
    formats: Sequence[str] = FORMATS,
    batches: Sequence[int] = BATCHES,
) -> list[ExamPlan]:
    """Return a plan for each combination of format and batch size, whether it fits or not."""
    return [plan_exam(model, card, exam, f, b) for f in formats for b in batches]


def best(plans: Sequence[ExamPlan]) -> ExamPlan | None:
    """Return the plan with the most bits per weight that fits and is in time; of these, the fastest.

    Returns None if there is no such plan.
    """
    good = [p for p in plans if p.fits and p.in_time]
    return max(good, key=lambda p: (p.memory.weights, -p.minutes.high), default=None)


class Limit(NamedTuple):
    """The largest number of something with which a plan still works, if all else stays the same.

    because: what a larger number would exceed: "time", "memory", "context" or "nothing".
    """

    name: str
    most: int
    because: str


def limits(planned: ExamPlan) -> list[Limit]:
    """Return the largest numbers of passages, answer tokens and questions with which the plan still works.

    A plan works if it fits and is in time. A limit of -1 means that not even the smallest number works.
    """
    return [_limit(planned, name) for name in ("passages", "answer_tokens", "questions")]


def _limit(planned: ExamPlan, name: str) -> Limit:
    least = 0 if name == "passages" else 1
    low, high = least - 1, least
    while high < MAX_TRIED and not _broken(planned, name, high):
        low, high = high, 2 * high + 1
    if high >= MAX_TRIED:
        return Limit(name, MAX_TRIED, "nothing")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _broken(planned, name, middle) else (middle, high)
    return Limit(name, low if low >= least else -1, _broken(planned, name, high))


def _broken(planned: ExamPlan, name: str, number: int) -> str:
    """Return what the plan exceeds if `name` is set to `number`: see Limit.because; "" for nothing."""
    exam = replace(planned.exam, **{name: number})
    if exam.context > architecture(planned.model).context:
        return "context"
    memory = planned.memory
    new = plan_exam(
        planned.model, planned.card, exam, memory.weight_format, memory.batch, driver=memory.driver
    )
    if not new.fits:
        return "memory"
    return "" if new.in_time else "time"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def compared(plans: Sequence[ExamPlan]) -> str:
    """Return a table of plans: memory, minutes, and whether each fits and is in time."""
    rows = [
        [
            p.memory.weight_format,
            p.memory.batch,
            f"{p.memory.total / 2**30:.1f}",
            "yes" if p.fits else "no",
            *(map(_number, p.minutes) if p.fits else ["-"] * 3),
            ("yes" if p.in_time else "no") if p.fits else "-",
        ]
        for p in plans
    ]
    head = ["format", "batch", "memory, GiB", "fits", "minutes, least", "median", "most", "in time"]
    return table(head, rows)
