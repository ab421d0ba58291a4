"""Describe this machine's processor as a `Card` (cards.py), to predict the time that an exam takes on it.

Its memory bandwidth and its FLOP/s, the floating-point operations a second, are measured, and so is the speed
of a loaded model.
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
MIN_ANSWER_TOKENS = 16  # of a timed answer; the time of a shorter one would be mostly noise
# Repeated, it makes a prompt of any length.
SENTENCE = "The annual fee of the card is KRW 24,000, and it comes with travel insurance. "


def this_machine() -> Card:
    """Measure this machine's processor in about two seconds, and return it as a card without timed runs.

    The bandwidth is measured with a matrix-vector product; the matrix has 256 MiB, more than most caches. The
    FLOP/s are measured with a product of two float32 matrices of 1,024 x 1,024.
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
    """Return the card with its runs replaced by those of a measurement on this machine.

    model, measured: the measured model, and what `measure_engine` returned for it. weight_format, driver: as
    for `plan`; by default those of the model's files.
    """
    planned = plan(model, weight_format, driver=driver)
    more: dict[str, Any] = {"driver": planned.driver, "source": "measured here"}
    runs = []
    for r in measured.rounds:
        read, written = round(r.read / measured.prompts), round(r.written / measured.prompts)
        runs.append(Run(model, planned.weight_format, "read", read, r.read / r.short, **more))
        # r.short, r.long: seconds for an answer of one token, and for the full answer. r.written: the further
        # tokens of the full answer. On a busy machine r.short may be larger; such a round is left out.
        if r.long > r.short:
            speed = r.written / (r.long - r.short)
            runs.append(Run(model, planned.weight_format, "write", written, speed, context=read, **more))
    return replace(card, runs=tuple(runs))


def timed_here(engine: Engine, model: Model, exam: Exam) -> tuple[Card, str, Driver]:
    """Time a loaded model on a prompt and an answer as long as the exam's.

    Returns this machine as a card with these runs, the format of the weights in memory, and the driver, which
    is the software that runs the model.
    Raises CourseError for a model on a server, whose weight format is unknown, and for a model on another
    device than the processor.
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
    if chosen == "none":  # unquantized weights, or a .gguf file, whose own format `plan` finds (None)
        chosen = {32: "float32", 16: _sixteen_bit_format(engine)}.get(
            round(8 * engine.weight_bytes / engine.parameters)
        )
    planned = plan(model, chosen, driver=driver)
    # Both counts include the chat template, the tokens that a model wants around a message.
    once, eleven = (engine.count_tokens(SENTENCE * n) for n in (1, 11))
    each = (eleven - once) / 10
    prompt = SENTENCE * max(1, round((exam.prompt_tokens - (once - each)) / each))
    tokens = max(MIN_ANSWER_TOKENS, exam.answer_tokens)
    measured = measure_engine(engine, [prompt], new_tokens=tokens, repeats=5)
    card = calibrated(this_machine(), model, measured, weight_format=planned.weight_format, driver=driver)
    return card, planned.weight_format, driver


def _sixteen_bit_format(engine: Engine) -> str | None:
    """Return the weights' 16-bit type in transformers; None for llama.cpp, whose file states it."""
    return str(engine.model.dtype).removeprefix("torch.") if hasattr(engine, "model") else None
