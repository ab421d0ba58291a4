"""The widget of chapter 09: how long a model takes for an exam, on a GPU, with given passages and answers.

Efficiency is the least possible time divided by the time that the card was observed to take.
"""

from __future__ import annotations

from collections.abc import Sequence

from course_lib.exam.cards import card as find_card
from course_lib.exam.cards import cards
from course_lib.exam.plan import FORMATS, Exam, ExamPlan, limits, plan_exam
from course_lib.learn.widgets.explorer import Choice, Control, Explorer, Output, Range
from course_lib.models.planner import architecture
from course_lib.plots import Picture, stacked_bar

# Offered models, whose sizes the planner knows.
MODELS = (
    "EXAONE-3.0-7.8B",
    "EXAONE-3.5-2.4B",
    "EXAONE-3.5-7.8B",
    "EXAONE-3.5-32B",
    "Llama-3.1-8B",
    "Qwen2.5-7B",
    "Qwen2.5-14B",
    "Qwen2.5-32B",
    "Qwen3-30B-A3B",
    "SOLAR-10.7B",
    "gemma-3-12b",
)
ENDS = {  # what limits a plan -> its description
    "time": "then the time is over",
    "memory": "then the memory is full",
    "context": "the model reads no longer text",
    "nothing": "and more",
}
NAMES = {"passages": "passages", "answer_tokens": "tokens of an answer", "questions": "questions"}


def describe(planned: ExamPlan) -> str:
    """Describe a plan, and the most passages, answer tokens and questions that it allows."""
    if not planned.fits:
        return str(planned)
    lines = [
        f"- {'none' if limit.most < 0 else f'{limit.most:,}'} {NAMES[limit.name]}, {ENDS[limit.because]}"
        for limit in limits(planned)
    ]
    return "\n".join([str(planned), "At most, all else as it is, at the lowest efficiency:", *lines])


def minutes_bar(planned: ExamPlan) -> Picture:
    """Draw the minutes of searching, reading and writing at the median efficiency, and the limit."""
    parts = {name: part.value / 60 for name, part in planned.seconds.items()}
    title = f"{planned.memory.model}, {planned.memory.weight_format}, {planned.exam.questions:,} questions"
    return stacked_bar(parts, planned.exam.minutes, x="minutes", title=title)


def exam_plan(models: Sequence[str] = MODELS, exam: Exam | None = None) -> Explorer:
    """Return the widget for well-known models. exam: gives the settings for which there is no control.

    Raises CourseError for an unknown model, ValueError if `models` is empty.
    """
    if not models:
        raise ValueError("no models to plan for")
    start = exam or Exam()
    sizes = {a.name: a for a in map(architecture, models)}

    def show(
        model: str, card: str, weight_format: str, batch: float, passages: float, answer_tokens: float
    ) -> Output:
        sizes_of_exam = vars(start) | {"passages": int(passages), "answer_tokens": int(answer_tokens)}
        planned = plan_exam(sizes[model], find_card(card), Exam(**sizes_of_exam), weight_format, int(batch))
        return Output(describe(planned), minutes_bar(planned))

    controls: dict[str, Control] = {
        "model": Choice("model", tuple(sizes)),
        "card": Choice("card", tuple(cards())),
        "weight_format": Choice("format", tuple(reversed(FORMATS))),
        "batch": Range("questions at a time", 1, 64, 1),
        "passages": Range("passages", 0, max(50, start.passages), start.passages),
        "answer_tokens": Range("answer", 1, max(4000, start.answer_tokens), start.answer_tokens, 1, "tokens"),
    }
    return Explorer("exam-plan", f"Minutes for {start.questions:,} questions", show, controls)
