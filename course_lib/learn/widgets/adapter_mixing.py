"""The widget of chapter 05: compare a base model's answers with those of a weighted mix of LoRA adapters.

An adapter is a small file of trained weights that is added, times a weight, to those of the base model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from course_lib.learn.widgets.explorer import Choice, Control, Explorer, Output, Range
from course_lib.models import ModelManager
from course_lib.models.drivers.reply import Reply
from course_lib.models.schema import Generation, ModelSpec
from course_lib.rag.adapter_datasets import parse_styled
from course_lib.rag.answering import MAX_ANSWER_TOKENS

MAX_ADAPTERS = 3  # each has a control of its own
Weights = tuple[float, ...]  # one per adapter


def formula(weights: Mapping[str, float]) -> str:
    """Return the weights of the mixed model as a formula, in which W are the base model's weights.

    >>> formula({"knowledge": 1, "style": -0.5})
    'W + 1 x knowledge - 0.5 x style'
    """
    return "W" + "".join(
        f" {'-' if weight < 0 else '+'} {abs(weight):g} x {label}" for label, weight in weights.items()
    )


def describe(answer: Reply) -> str:
    """Return the answer, and whether it was truncated."""
    truncated = f" (cut after {answer.tokens} tokens)" if answer.finish_reason == "length" else ""
    return f"{answer or '(no words)'}{truncated}"


def describe_style(answer: str) -> str:
    """Return "no", or "yes" with the text in the JSON form that chapter 05's style adapter is trained for."""
    content = parse_styled(answer)
    return "no" if content is None else f"yes, and its answer is: {content or '(no words)'}"


def adapter_mixing(
    base: ModelSpec | str | dict[str, Any],
    adapters: Mapping[str, Any],
    questions: Mapping[str, str],
    manager: ModelManager | None = None,
) -> Explorer:
    """Return the widget.

    base: the base model. adapters: label -> source, such as a folder. questions: label -> prompt. manager:
    loads the models; None means the shared one.

    Answers are cached; call this once more after you retrain an adapter. After each answer the mixed model is
    unloaded; the base model stays loaded for the time that its keep_alive sets. Raises ValueError for no
    questions, for no adapters or more than MAX_ADAPTERS, and for an adapter labelled "question".
    """
    if not questions or not 0 < len(adapters) <= MAX_ADAPTERS or "question" in adapters:
        raise ValueError(
            f"{len(questions)} questions and the adapters {', '.join(adapters) or 'none'}; at least 1 "
            f"question and 1 to {MAX_ADAPTERS} adapters are needed, none of them called 'question'"
        )
    models = manager or ModelManager.shared()

    @lru_cache(maxsize=256)
    def answer(prompt: str, weights: Weights) -> Reply:
        spec = models.registry.spec(base)
        mixed = [
            {"source": source, "weight": w} for source, w in zip(adapters.values(), weights, strict=True) if w
        ]
        with models.use(spec, keep_alive=0 if mixed else None, adapters=[*spec.adapters, *mixed]) as engine:
            return engine.generate([prompt], Generation(max_output_length=MAX_ANSWER_TOKENS))[0]

    def show(question: str, **weights: float) -> Output:
        prompt, mix = questions[question], formula(weights)
        lines = [f"Question: {question}", f"Prompt: {prompt}"]
        base_answer = answer(prompt, (0.0,) * len(adapters))
        mix_answer = answer(prompt, tuple(weights.values()))
        lines += [
            f"The base, W, writes: {describe(base_answer)}",
            f"The mix, {mix}, writes: {describe(mix_answer)}",
        ]
        lines += [
            f"JSON of the style? {who}: {describe_style(text)}."
            for who, text in (("The base", base_answer), ("The mix", mix_answer))
        ]
        return Output("\n".join(lines))

    controls: dict[str, Control] = {"question": Choice("question", tuple(questions))}
    controls |= {label: Range(f"weight of {label}", -1, 2, 1, 0.25) for label in adapters}
    return Explorer("adapter-mixing", "Mix adapters", show, controls)
