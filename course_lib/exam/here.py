"""This machine's processor, described as a graphics card is (exam/cards.py), for plans of exams.

Memory bandwidth and FLOP/s are measured, and so are the tokens/s of a loaded model on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.exam.cards import Card, Run
from course_lib.exam.plan import Exam
from course_lib.measure import EngineMeasurement, measure, measure_engine
from course_lib.models.planner.buffers import Driver
from course_lib.models.planner.estimate import plan
from course_lib.models.planner.lookup import Model

if TYPE_CHECKING:
    from course_lib.models.drivers.engine import Engine

THIS_MACHINE = "this machine"
MIN_ANSWER_TOKENS = 16  # so that the noise of a timing is small beside the time of the answer
SENTENCE = "The annual fee of the card is KRW 24,000, and it comes with travel insurance. "


def this_machine() -> Card:
    """Measure this machine's processor, in about two seconds; no model has been timed on it yet.

    Bandwidth: of a matrix of 256 MiB times a vector, larger than most caches. FLOP/s: of the product of two
    matrices of 1,024 x 1,024 numbers of 32 bits.
    """
    import psutil
    import torch

    matrix, vector = torch.ones(4096, 16384), torch.ones(16384)
    bandwidth = matrix.nbytes / measure(lambda: matrix @ vector, repeats=5).median
    square = torch.ones(1024, 1024)
    flops = 2 * 1024**3 / measure(lambda: square @ square, repeats=5).median
    source = f"measured here, {torch.get_num_threads()} threads"
    return Card(THIS_MACHINE, psutil.virtual_memory().total, bandwidth, flops, source)


def calibrated(
    card: Card,
    model: Model,
    measured: EngineMeasurement,
    *,
    weight_format: str | None = None,
    driver: Driver | None = None,
) -> Card:
    """Return the card with the runs of a model that was measured on it, in place of its own runs.

    weight_format, driver: as for `plan`; by default those of the model's files.
    """
    planned = plan(model, weight_format, driver=driver)
    more: dict[str, Any] = {"driver": planned.driver, "source": "measured here"}
    runs = []
    for r in measured.rounds:
        read, written = round(r.read / measured.prompts), round(r.written / measured.prompts)
        runs.append(Run(model, planned.weight_format, "read", read, r.read / r.short, **more))
        # r.short and r.long: seconds of an answer of one token, and of all r.written tokens. r.read: tokens
        # of the prompts. On a busy machine the short one may take longer: then the round tells no speed.
        if r.long > r.short:
            speed = r.written / (r.long - r.short)
            runs.append(Run(model, planned.weight_format, "write", written, speed, context=read, **more))
    return replace(card, runs=tuple(runs))


def timed_here(engine: Engine, model: Model, exam: Exam) -> tuple[Card, str, Driver]:
    """Time a loaded model on a prompt and an answer as long as the exam's; describe this machine as a card.

    Also return the format of the weights in memory, and the driver. Raises CourseError for an engine that
    runs in a server, whose weights are not known, and for one on another device than the processor.
    """
    drivers: dict[str, Driver] = {"huggingface": "huggingface", "llamacpp": "llamacpp"}
    if engine.driver not in drivers:
        what = f"{engine.name} runs with {engine.driver}, which does not tell the format of its weights"
        raise CourseError(what, 'load(model, driver="llamacpp")')
    if engine.device != "cpu":
        what = f"{engine.name} runs on {engine.device}; only this machine's processor is measured"
        raise CourseError(what, 'load(model, device="cpu")')
    driver = drivers[engine.driver]
    chosen: str | None = engine.spec.quantization
    if chosen == "none":  # whole weights, or a .gguf file with a format of its own, which `plan` finds (None)
        chosen = {32: "float32", 16: _half(engine)}.get(round(8 * engine.weight_bytes / engine.parameters))
    planned = plan(model, chosen, driver=driver)
    once, eleven = (engine.count_tokens(SENTENCE * n) for n in (1, 11))  # a chat template is in both
    each = (eleven - once) / 10
    prompt = SENTENCE * max(1, round((exam.prompt_tokens - (once - each)) / each))
    tokens = max(MIN_ANSWER_TOKENS, exam.answer_tokens)
    measured = measure_engine(engine, [prompt], new_tokens=tokens, repeats=5)
    card = calibrated(this_machine(), model, measured, weight_format=planned.weight_format, driver=driver)
    return card, planned.weight_format, driver


def _half(engine: Engine) -> str | None:
    """The name of the 16-bit type of the weights in transformers; None for a file of llama.cpp."""
    return str(engine.model.dtype).removeprefix("torch.") if hasattr(engine, "model") else None
