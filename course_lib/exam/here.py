"""This machine as a card: its bandwidth and operations measured, its efficiency that of a timed model."""

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
LEAST_TIMED = 16  # tokens of an answer, so that noise is shorter than the answer
SENTENCE = "The annual fee of the card is KRW 24,000, and it comes with travel insurance. "


def this_machine() -> Card:
    """Measure this machine's processor, in about two seconds; it has no runs yet.

    Bandwidth: of a matrix of 256 MB times a vector. Operations: of two matrices of 1,024 x 1,024, in 32 bits.
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
        if r.long > r.short:  # noise can be longer than a short answer
            speed = r.written / (r.long - r.short)
            runs.append(Run(model, planned.weight_format, "write", written, speed, context=read, **more))
    return replace(card, runs=tuple(runs))


def timed_here(engine: Engine, model: Model, exam: Exam) -> tuple[Card, str, Driver]:
    """Time a loaded model on a prompt and an answer as long as the exam's, and return this machine as a card.

    Also return the format of the weights as they are computed with, and the driver. Raises CourseError for an
    engine whose weights are in another program.
    """
    drivers: dict[str, Driver] = {"huggingface": "huggingface", "llamacpp": "llamacpp"}
    if engine.driver not in drivers:
        what = f"{engine.name} runs with {engine.driver}, which does not tell what it reads"
        raise CourseError(what, 'load(model, driver="llamacpp")')
    driver = drivers[engine.driver]
    chosen: str | None = engine.spec.quantization
    if chosen == "none":  # else a file's own format, as that of a .gguf file
        chosen = {32: "float32", 16: "bfloat16"}.get(round(8 * engine.weight_bytes / engine.parameters))
    planned = plan(model, chosen, driver=driver)
    prompt = SENTENCE * max(1, round(exam.prompt_tokens / engine.count_tokens(SENTENCE)))
    tokens = max(LEAST_TIMED, exam.answer_tokens)
    measured = measure_engine(engine, [prompt], new_tokens=tokens, repeats=5)
    card = calibrated(this_machine(), model, measured, weight_format=planned.weight_format, driver=driver)
    return card, planned.weight_format, driver
