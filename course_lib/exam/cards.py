"""Graphics cards as what a plan needs of them: memory, bandwidth, operations a second, and efficiency."""

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
PUBLISHED = "Llama-3.1-8B"  # has the sizes of Llama 3 8B, and reads more tokens
Does = Literal["read", "write"]


class Range(NamedTuple):
    """A value between the lowest and the highest that were seen; it is no statement about probabilities."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Range:
        """Return the range in another unit."""
        return Range(self.low * factor, self.value * factor, self.high * factor)

    def under(self, seconds: float) -> Range:
        """Return seconds at full speed divided by this efficiency: the lowest one takes the longest."""
        return Range(seconds / self.high, seconds / self.value, seconds / self.low)


class Run(NamedTuple):
    """A run that somebody timed: tokens per second of all texts together.

    does: "read" a prompt, or "write" answers. tokens: so many for each text, after `context` others.
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
    """A card. memory: bytes. bandwidth: bytes a second. flops: operations a second. runs: timed on it."""

    name: str
    memory: int
    bandwidth: float
    flops: float
    source: str
    runs: tuple[Run, ...] = ()

    def share(self, run: Run) -> float:
        """Return which share of the roofline's speed a run reached."""
        if run.does == "read":
            work = reading(run.model, run.tokens, run.weight_format, driver=run.driver)
            took = run.tokens / run.tokens_per_second
        else:
            middle = run.context + max(1, run.tokens // 2)
            work = writing(run.model, middle, run.weight_format, run.batch, driver=run.driver)
            took = run.batch / run.tokens_per_second
        return work.seconds(self.bandwidth, self.flops) / took

    def efficiency(self, does: Does, weight_format: str, batch: int = 1) -> Range:
        """Return the median share of the runs most like this one, the lowest and the highest.

        Like it: as quantized or as whole, and one text or several; where no run is, the others count.
        Raises CourseError for a card without runs.
        """
        return _efficiency(self, does, _is_whole(weight_format), batch > 1)


@functools.lru_cache(maxsize=64)
def _efficiency(card: Card, does: Does, whole: bool, several: bool) -> Range:
    runs = [run for run in card.runs if run.does == does]
    if not runs:
        what = f"nobody has timed a model that {does}s on {card.name}"
        raise CourseError(what, "calibrated(card, model, measure_engine(engine, prompts))")
    runs = [r for r in runs if _is_whole(r.weight_format) == whole] or runs
    runs = [r for r in runs if (r.batch > 1) == several] or runs
    shares = [card.share(run) for run in runs]
    return Range(min(shares), median(shares), max(shares))


def _is_whole(weight_format: str) -> bool:
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
    more = {"batch": group.get("batch", 1), "context": group.get("context", 0)}
    kinds: tuple[Does, ...] = ("read", "write")
    for does in kinds:
        for tokens, speed in group.get(does, {}).items():
            yield Run(
                PUBLISHED, group["format"], does, tokens, speed, source=sources[group["source"]], **more
            )


def card(name: str) -> Card:
    """Return a card by its name or a part of it, such as "RTX 4090".

    Raises CourseError for an unknown card, and for a part of several names.
    """
    found = [known for key, known in cards().items() if name.strip() and name.strip().lower() in key.lower()]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} cards have {name!r} in their name" if found else f"no data sheet of a card {name!r}"
    raise CourseError(what, f"choose one of: {'; '.join(cards())}")
