"""Measurements of engines as numbers, as a table to read, as a data frame and as a picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from course_lib.errors import CourseError
from course_lib.measure.intervals import Estimate, mean_of, median_of, paired_ratio, three_digits
from course_lib.measure.memory import Memory
from course_lib.tables import table

if TYPE_CHECKING:
    import pandas as pd

    from course_lib.plots import Picture


class Round(NamedTuple):
    """One turn of an engine, summed over its prompts: seconds, and numbers of tokens.

    first: seconds to the first piece of a stream. short, long: of an answer of one token and of all tokens.
    read: tokens of the prompts. written: tokens of the long answers beyond those of the short ones.
    """

    first: float
    short: float
    long: float
    read: int
    written: int


class Column(NamedTuple):
    """A quantity: its column in the data frame, its title, and the factor from the stored unit."""

    name: str
    title: str
    factor: float


COLUMNS = {
    "ttft": Column("ttft_ms", "first piece (TTFT), ms", 1e3),
    "prefill": Column("prefill_tokens_per_s", "prefill, tokens/s", 1),
    "decode": Column("decode_tokens_per_s", "decode, tokens/s", 1),
    "weights": Column("weights_mb", "weights, MB", 1e-6),
    "added": Column("added_memory_mb", "first use adds, MB", 1e-6),
    "peak": Column("process_peak_mb", "process at its peak, MB", 1e-6),
    "load": Column("load_s", "load, s", 1),
    "quality": Column("quality_percent", "quality, %", 100),
}
WIDTH = 95  # characters of a line that a notebook shows unbroken
SPEEDS, OTHERS = ("ttft", "prefill", "decode"), ("weights", "added", "peak", "load", "quality")
ESTIMATED = (*SPEEDS, "quality")
REPEAT = "close other programs, and measure again"


@dataclass(frozen=True)
class EngineMeasurement:
    """One engine on given prompts. Times are medians over rounds, with exact intervals for these prompts.

    weights: bytes, None where a server holds them. memory: of this process in the first round, None likewise.
    load: seconds. scores: one for each answer, empty where quality was not measured.
    """

    model: str
    driver: str
    prompts: int
    new_tokens: int
    rounds: tuple[Round, ...] = field(repr=False)
    weights: int | None
    memory: Memory | None
    load: float | None
    scores: tuple[float, ...] = field(repr=False)

    def seconds(self, of: str) -> list[float]:
        """Seconds by round: to the first piece (ttft), per prompt token (prefill) or new token (decode)."""
        if of == "ttft":
            return [r.first / self.prompts for r in self.rounds]
        if of == "prefill":
            return [r.short / r.read for r in self.rounds]
        if of == "decode":
            return [(r.long - r.short) / r.written for r in self.rounds]
        raise ValueError(f"of={of!r}; one of {', '.join(SPEEDS)}")

    @cached_property
    def ttft(self) -> Estimate:
        """Seconds from the call to the first piece of a stream, a mean over the prompts.

        A piece is what the engine hands out: a token, where that is whole characters.
        """
        return median_of(self.seconds("ttft"))

    @cached_property
    def prefill(self) -> Estimate:
        """Prompt tokens per second of a one-token answer, with the time for tokenizing and for that token."""
        return median_of(self.seconds("prefill")).inverse()

    @cached_property
    def decode(self) -> Estimate:
        """Tokens written per second, from the difference of a long and a one-token answer of a round."""
        return median_of(self.seconds("decode")).inverse()

    @cached_property
    def quality(self) -> Estimate | None:
        """Mean of the scores; the interval is for other prompts of the same kind."""
        return mean_of(self.scores) if self.scores else None

    @property
    def added(self) -> int | None:
        """Bytes that the first round added at its peak: the KV cache, and libraries loaded on the way."""
        return self.memory.added if self.memory else None

    @property
    def peak(self) -> int | None:
        """Bytes of the process at the peak of the first round, with all engines that were loaded."""
        return self.memory.peak if self.memory else None

    def shown(self, quantity: str) -> Estimate | None:
        """A quantity in the unit of its column, None where it was not measured.

        Exact numbers are their own interval. Raises ValueError for an unknown quantity.
        """
        if quantity not in COLUMNS:
            raise ValueError(f"{quantity!r} is not measured; one of {', '.join(COLUMNS)}")
        value: Estimate | float | None = getattr(self, quantity)
        if value is None:
            return None
        estimate = value if isinstance(value, Estimate) else Estimate(value, value, value, 1.0)
        return estimate.scaled(COLUMNS[quantity].factor)

    @property
    def busy(self) -> tuple[str, ...]:
        """The speeds whose interval shows that the machine was disturbed."""
        return tuple(of for of in SPEEDS if getattr(self, of).noisy)


@dataclass(frozen=True, repr=False)
class Results:
    """Measurements by name, and the machine they were made on."""

    rows: Mapping[str, EngineMeasurement]
    machine: Mapping[str, str | int | float]

    def __getitem__(self, name: str) -> EngineMeasurement:
        return self.rows[name]

    def to_frame(self) -> pd.DataFrame:
        """A row for each engine, NaN for what was not measured; `attrs["machine"]` holds the machine.

        A column's name has its unit; `_low` and `_high` are the ends of its interval.
        """
        import pandas as pd

        frame = pd.DataFrame.from_dict({name: _flat(row) for name, row in self.rows.items()}, orient="index")
        frame.index.name = "engine"
        frame.attrs["machine"] = dict(self.machine)
        return frame

    def speedup(self, one: str, than: str, of: str = "decode") -> Estimate:
        """How many times as fast one engine is as another, from paired rounds: in decode, prefill or ttft.

        Raises CourseError where a round was so disturbed that its time for decode is not above 0.
        """
        slow, fast = self[than].seconds(of), self[one].seconds(of)
        if min(*slow, *fast) <= 0:
            raise CourseError(f"a round was disturbed for longer than its {of} took", REPEAT)
        return paired_ratio(slow, fast)

    def plot(self, x: str = "decode", y: str = "quality") -> Picture:
        """One quantity against another, a point for each engine; "disturbed" where its interval is endless.

        Raises CourseError where an engine has no value of them.
        """
        from course_lib.plots import named_points

        points = {self._label(name, x, y): (self._point(name, x), self._point(name, y)) for name in self.rows}
        across, up = COLUMNS[x].title, COLUMNS[y].title
        title = f"{up.split(',')[0].capitalize()} against {across.split(',')[0]}"
        return named_points(points, x=across, y=up, title=title)

    def _point(self, name: str, quantity: str) -> tuple[float, float, float]:
        estimate = self[name].shown(quantity)
        if estimate is None:
            raise CourseError(
                f"{quantity} of {name} was not measured", "plot another quantity, or measure it"
            )
        if not estimate.value < math.inf:
            raise CourseError(f"{quantity} of {name} drowned in disturbances", REPEAT)
        high = estimate.high if estimate.high < math.inf else estimate.value
        return estimate.value, estimate.low, high

    def _label(self, name: str, *quantities: str) -> str:
        estimates = [self[name].shown(quantity) for quantity in quantities]
        endless = any(estimate and estimate.high == math.inf for estimate in estimates)
        return f"{name} (disturbed)" if endless else name

    def __str__(self) -> str:
        parts = [self._table(SPEEDS)]
        if measured := [q for q in OTHERS if any(row.shown(q) is not None for row in self.rows.values())]:
            parts.append(self._table(measured))
        return "\n\n".join([*parts, "\n".join(textwrap.fill(note, WIDTH) for note in self._notes())])

    __repr__ = __str__

    def _table(self, quantities: Sequence[str]) -> str:
        rows = [[name, *(_cell(row, q) for q in quantities)] for name, row in self.rows.items()]
        return table(["engine", *(COLUMNS[q].title for q in quantities)], rows)

    def _notes(self) -> list[str]:
        row = next(iter(self.rows.values()))
        lengths = sorted({round(r.read / row.prompts) for row in self.rows.values() for r in row.rounds})
        span = " to ".join(f"{length:,}" for length in dict.fromkeys((lengths[0], lengths[-1])))
        prompts = f"{row.prompts} prompt{'s' * (row.prompts > 1)}"
        notes = [
            f"Times: medians of {len(row.rounds)} rounds, {prompts} of {span} tokens one at a time, up to "
            f"{row.new_tokens} tokens written; in brackets {row.ttft.coverage:.0%} intervals."
        ]
        if row.quality:
            answers, coverage = len(row.scores), row.quality.coverage
            notes.append(f"Quality: {answers} answers; in brackets {coverage:.0%} intervals.")
        if busy := [f"{name} ({', '.join(row.busy)})" for name, row in self.rows.items() if row.busy]:
            notes.append(f"The machine was busy, measure again: {'; '.join(busy)}.")
        return notes


def _cell(row: EngineMeasurement, quantity: str) -> str:
    estimate = row.shown(quantity)
    if estimate is None:
        return "-"
    return str(estimate) if quantity in ESTIMATED else three_digits(estimate.value)


def _flat(row: EngineMeasurement) -> dict[str, str | float | bool]:
    flat: dict[str, str | float | bool] = {"model": row.model, "driver": row.driver}
    for quantity, column in COLUMNS.items():
        estimate = row.shown(quantity) or Estimate(math.nan, math.nan, math.nan, math.nan)
        flat[column.name] = estimate.value
        if quantity in ESTIMATED:
            flat |= {f"{column.name}_low": estimate.low, f"{column.name}_high": estimate.high}
    return flat | {"noisy": bool(row.busy)}
