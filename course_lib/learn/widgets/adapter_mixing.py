"""Chapter 05: what does a mix of adapters answer? One question, asked of the base and of the base with its adapters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from course_lib.errors import CourseError
from course_lib.learn.widgets.explorer import Choice, Explorer, Range, Shown
from course_lib.models import ModelManager
from course_lib.models.drivers.reply import Reply
from course_lib.models.schema import Generation, ModelSpec
from course_lib.rag.adapter_datasets import parse_styled
from course_lib.rag.answering import MAX_ANSWER_TOKENS

MOST = 3  # adapters
Weights = tuple[float, ...]  # of each adapter


def formula(weights: Mapping[str, float]) -> str:
    """The weights of the mix, W being those of the base.

    >>> formula({"knowledge": 1, "style": -0.5})
    'W + 1 x knowledge - 0.5 x style'
    """
    return "W" + "".join(
        f" {'-' if weight < 0 else '+'} {abs(weight):g} x {label}" for label, weight in weights.items()
    )


def say(answer: Reply) -> str:
    """The answer, and whether it was cut."""
    return f"{answer or '(no words)'}{f' (cut after {answer.tokens} tokens)' if answer.finish_reason == 'length' else ''}"


def styled(answer: str) -> str:
    """Whether an answer is JSON of the style's schema, and what it then says."""
    found = parse_styled(answer)
    return "no" if found is None else f"yes, and its answer is: {found or '(no words)'}"


def adapter_mixing(
    base: ModelSpec | str | dict[str, Any],
    adapters: Mapping[str, Any],
    questions: Mapping[str, str],
    manager: ModelManager | None = None,
) -> Explorer:
    """The explorer. adapters: label -> source, such as a folder; questions: label -> prompt; manager: the shared one if none.

    A mix answers a question once. Then its adapters are given back; the base stays for its own keep_alive. Raises ValueError for
    no questions, for no adapters or more than 3, and for an adapter with the label "question".
    """
    if not questions or not 0 < len(adapters) <= MOST or "question" in adapters:
        raise ValueError(
            f"{len(questions)} questions and the adapters {', '.join(adapters) or 'none'}; at least 1 question and "
            f"1 to {MOST} adapters are needed, none of them called 'question'"
        )
    models = manager or ModelManager.shared()

    @lru_cache(maxsize=256)
    def answer(prompt: str, weights: Weights) -> Reply:
        spec = models.registry.spec(base)
        mixed = [
            {"source": source, "weight": w} for source, w in zip(adapters.values(), weights, strict=True) if w
        ]
        with models.use(spec, 0 if mixed else None, adapters=[*spec.adapters, *mixed]) as engine:
            return engine.generate([prompt], Generation(max_output_length=MAX_ANSWER_TOKENS))[0]

    def show(question: str, **weights: float) -> Shown:
        prompt, mix = questions[question], formula(weights)
        lines = [f"Question: {question}", f"Prompt: {prompt}"]
        try:
            alone, mixed = (answer(prompt, w) for w in ((0.0,) * len(adapters), tuple(weights.values())))
        except CourseError as error:
            return Shown("\n".join([*lines, f"{mix}: {error.what}: {error.fix}."]))
        lines += [f"The base, W, writes: {say(alone)}", f"The mix, {mix}, writes: {say(mixed)}"]
        lines += [
            f"JSON of the style? {who}: {styled(text)}."
            for who, text in (("The base", alone), ("The mix", mixed))
        ]
        return Shown("\n".join(lines))

    return Explorer(
        "adapter-mixing",
        "Mix adapters",
        show,
        {
            "question": Choice("question", tuple(questions)),
            **{label: Range(f"weight of {label}", -1, 2, 1, 0.25) for label in adapters},
        },
    )
