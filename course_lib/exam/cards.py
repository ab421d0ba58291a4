"""Graphics cards, with the speeds that llama.cpp reached on them, to predict the time of an exam.

`cards.yaml` holds each card's memory, bandwidth and operations per second, and runs that others have timed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from course_lib.errors import CourseError
from course_lib.exam.roofline import reading, writing
from course_lib.models.planner.buffers import Driver
from course_lib.models.planner.gpus import gpu_bytes
from course_lib.models.planner.lookup import Model
from course_lib.models.planner.memory import BITS_OF
from course_lib.models.planner.quants import BASES

DATA = Path(__file__).with_name("cards.yaml")
# The runs in `cards.yaml` were made with Llama 3 8B. This model has the same sizes, and a longer context.
PUBLISHED = "Llama-3.1-8B"
Does = Literal["read", "write"]  # read: process the prompt (prefill); write: generate the answer (decode)


class Range(NamedTuple):
    """The lowest, the typical and the highest of observed values. It is not a confidence interval."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Range:
        """Return the range multiplied by a factor, such as 1 / 60 for minutes instead of seconds."""
        return Range(self.low * factor, self.value * factor, self.high * factor)

    def under(self, seconds: float) -> Range:
        """Return the range of seconds that work takes, if this range holds efficiencies from 0 to 1.

        seconds: the time at full speed. The lowest efficiency gives the longest time.
        """
        return Range(seconds / self.high, seconds / self.value, seconds / self.low)


class Run(NamedTuple):
    """A run that somebody timed: tokens per second, summed over all texts of the batch.

    does: "read" (process prompts) or "write" (generate answers). tokens: how many tokens of each text were
    read or written. context: how many tokens of each text came before them. driver: the software that ran the
    model. weight_format: such as q4_k_m, llama.cpp's name for about 4.9 bits per weight.
    """

    model: Model
    weight_format: str
    does: Does
    tokens: int
    tokens_per_second: float
    batch: int = 1
    context: int = 0
    driver: Driver = "llamacpp"
    source: str = ""


@dataclass(frozen=True)
class Card:
    """A graphics card.

    memory: bytes. bandwidth: bytes per second. flops: operations per second. runs: timed on this card.
    """

    name: str
    memory: int
    bandwidth: float
    flops: float
    source: str
    runs: tuple[Run, ...] = ()

    def share(self, run: Run) -> float:
        """Return the run's efficiency: the least possible time (`roofline`) divided by its time."""
        if run.does == "read":
            work = reading(run.model, run.tokens, run.weight_format, driver=run.driver)
            took = run.tokens / run.tokens_per_second
        else:
            middle = run.context + max(1, run.tokens // 2)
            work = writing(run.model, middle, run.weight_format, run.batch, driver=run.driver)
            took = run.batch / run.tokens_per_second
        return work.seconds(self.bandwidth, self.flops) / took

    def efficiency(self, does: Does, weight_format: str, batch: int = 1) -> Range:
        """Return the lowest, the median and the highest efficiency of the card's most similar runs.

        Similar runs also read or wrote, also had weights of 16 bits or of fewer (quantized), and also had one
        text or several. If there is no such run, the last condition is dropped, then the one before it.
        Raises CourseError for a card without runs.
        """
        return _efficiency(self, does, _is_unquantized(weight_format), batch > 1)


@functools.lru_cache(maxsize=64)
def _efficiency(card: Card, does: Does, unquantized: bool, several: bool) -> Range:
    runs = [run for run in card.runs if run.does == does]
    if not runs:
        what = f"nobody has timed a model that {does}s on {card.name}"
        raise CourseError(what, "calibrated(card, model, measure_engine(engine, prompts))")
    runs = [r for r in runs if _is_unquantized(r.weight_format) == unquantized] or runs
    runs = [r for r in runs if (r.batch > 1) == several] or runs
    shares = [card.share(run) for run in runs]
    return Range(min(shares), median(shares), max(shares))


def _is_unquantized(weight_format: str) -> bool:
    """Whether the weights have 16 bits or more; BASES names the format of which another is a mixture."""
    return BITS_OF[BASES.get(weight_format, weight_format)] >= 16


@functools.cache
def cards() -> dict[str, Card]:
    """Return the cards of `cards.yaml` by name."""
    import yaml

    data: Any = yaml.safe_load(DATA.read_text("utf-8"))
    sources = data["sources"]
    return {
        name: Card(
            name=name,
            memory=gpu_bytes(name),
            bandwidth=1e9 * row["gigabytes_per_second"],
            flops=1e12 * row["teraflops"],
            source=sources[row["source"]],
            runs=tuple(run for group in row["runs"] for run in _runs(group, sources)),
        )
        for name, row in data["cards"].items()
    }


def _runs(group: Mapping[str, Any], sources: Mapping[str, str]) -> Iterator[Run]:
    sizes = {"batch": group.get("batch", 1), "context": group.get("context", 0)}
    kinds: tuple[Does, ...] = ("read", "write")
    for does in kinds:
        for tokens, speed in group.get(does, {}).items():
            yield Run(
                PUBLISHED, group["format"], does, tokens, speed, source=sources[group["source"]], **sizes
            )


def card(name: str) -> Card:
    """Return the card whose name contains a text, such as "RTX 4090".

    Raises CourseError if no card's name contains it, or if several do.
    """
    fits = [known for key, known in cards().items() if name.strip() and name.strip().lower() in key.lower()]
    if len(fits) == 1:
        return fits[0]
    what = f"{len(fits)} cards have {name!r} in their name" if fits else f"no data sheet of a card {name!r}"
    raise CourseError(what, f"choose one of: {'; '.join(cards())}")
