"""The results of measuring engines (loaded models), shown as a text table, a data frame or a plot."""

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
    """Seconds and token counts of one engine in one round, summed over the prompts.

    first: Seconds to the first piece of a streamed answer. short: Seconds for an answer of one token.
    long: Seconds for the full answer. read: The number of tokens in the prompts. written: The number of
    tokens in the full answers minus that in the answers of one token.
    """

    first: float
    short: float
    long: float
    read: int
    written: int


class Column(NamedTuple):
    """How to show a quantity: data frame column, table title, factor from the stored to the shown unit."""

    name: str
    title: str
    factor: float


# ttft: time to first token. prefill: reading the prompt. decode: generating the answer.
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
WIDTH = 95  # characters that fit on one line of notebook output
SPEEDS, OTHER_QUANTITIES = ("ttft", "prefill", "decode"), ("weights", "added", "peak", "load", "quality")
WITH_INTERVALS = (*SPEEDS, "quality")
MEASURE_AGAIN = "close other programs and measure again"


@dataclass(frozen=True)
class EngineMeasurement:
    """The measurement of one engine. Times are medians over rounds; intervals hold for these prompts only.

    prompts: The number of timed prompts. new_tokens: The requested answer length. weights: Bytes, None if a
    server holds them. memory: The memory of this process in the first round, None if a server holds the
    weights. load: Seconds to load the model. scores: One per answer, empty if quality was not measured.
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

    def seconds(self, quantity: str) -> list[float]:
        """Return the seconds of each round: to the first piece (ttft), or per token (prefill, decode)."""
        if quantity == "ttft":
            return [r.first / self.prompts for r in self.rounds]
        if quantity == "prefill":
            return [r.short / r.read for r in self.rounds]
        if quantity == "decode":
            return [(r.long - r.short) / r.written for r in self.rounds]
        raise ValueError(f"quantity={quantity!r} must be one of {', '.join(SPEEDS)}")

    @cached_property
    def ttft(self) -> Estimate:
        """Seconds from the call to the first piece of a streamed answer, averaged over the prompts.

        A piece is the text of one token, or of several where one token is not a complete character.
        """
        return median_of(self.seconds("ttft"))

    @cached_property
    def prefill(self) -> Estimate:
        """Prompt tokens per second, from the time of a one-token answer (with tokenizing)."""
        return median_of(self.seconds("prefill")).inverse()

    @cached_property
    def decode(self) -> Estimate:
        """Tokens written per second, from the time difference between a full and a one-token answer."""
        return median_of(self.seconds("decode")).inverse()

    @cached_property
    def quality(self) -> Estimate | None:
        """The mean score; its interval covers the choice of prompts of this kind."""
        return mean_of(self.scores) if self.scores else None

    @property
    def added(self) -> int | None:
        """Bytes that the first round added at its peak: KV cache (of earlier tokens), buffers, libraries."""
        return self.memory.added if self.memory else None

    @property
    def peak(self) -> int | None:
        """Peak bytes of the whole process in the first round, including all loaded engines."""
        return self.memory.peak if self.memory else None

    def shown(self, quantity: str) -> Estimate | None:
        """Return a quantity in the unit of its column; None if it was not measured.

        The interval of an exact number has zero width. Raises ValueError for an unknown quantity.
        """
        if quantity not in COLUMNS:
            raise ValueError(f"{quantity!r} is not a quantity; choose one of {', '.join(COLUMNS)}")
        value: Estimate | float | None = getattr(self, quantity)
        if value is None:
            return None
        estimate = value if isinstance(value, Estimate) else Estimate(value, value, value, 1.0)
        return estimate.scaled(COLUMNS[quantity].factor)

    @property
    def noisy_speeds(self) -> tuple[str, ...]:
        """The times and speeds whose interval is so wide that the machine must have been busy."""
        return tuple(speed for speed in SPEEDS if getattr(self, speed).noisy)


@dataclass(frozen=True, repr=False)
class Results:
    """The measurements by engine name, and a description of the machine."""

    rows: Mapping[str, EngineMeasurement]
    machine: Mapping[str, str | int | float]

    def __getitem__(self, name: str) -> EngineMeasurement:
        return self.rows[name]

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame with one row per engine and NaN for values that were not measured.

        Column names end in the unit, or in `_low` and `_high` for the bounds of an interval.
        `attrs["machine"]` describes the machine.
        """
        import pandas as pd

        frame = pd.DataFrame.from_dict({name: _flat(row) for name, row in self.rows.items()}, orient="index")
        frame.index.name = "engine"
        frame.attrs["machine"] = dict(self.machine)
        return frame

    def speedup(self, engine: str, than: str, quantity: str = "decode") -> Estimate:
        """Return how many times as fast `engine` is as the engine `than`, in decode, prefill or ttft.

        Raises CourseError if noise made a decode time (a difference of two times) zero or negative.
        """
        slow, fast = self[than].seconds(quantity), self[engine].seconds(quantity)
        if min(*slow, *fast) <= 0:
            raise CourseError(f"noise in one round was larger than the {quantity} time itself", MEASURE_AGAIN)
        return paired_ratio(slow, fast)

    def plot(self, x: str = "decode", y: str = "quality") -> Picture:
        """Plot `y` against `x`, one point per engine, labelled "disturbed" if its interval is infinite.

        Raises CourseError if a quantity of an engine was not measured or is infinite.
        """
        from course_lib.plots import named_points

        points = {self._label(name, x, y): (self._point(name, x), self._point(name, y)) for name in self.rows}
        x_title, y_title = COLUMNS[x].title, COLUMNS[y].title
        title = f"{y_title.split(',')[0].capitalize()} against {x_title.split(',')[0]}"
        return named_points(points, x=x_title, y=y_title, title=title)

    def _point(self, name: str, quantity: str) -> tuple[float, float, float]:
        estimate = self[name].shown(quantity)
        if estimate is None:
            raise CourseError(
                f"{quantity} of {name} was not measured", "plot another quantity, or measure it"
            )
        if not estimate.value < math.inf:
            raise CourseError(
                f"{quantity} of {name} is infinite: the noise was larger than the time", MEASURE_AGAIN
            )
        high = estimate.high if estimate.high < math.inf else estimate.value
        return estimate.value, estimate.low, high

    def _label(self, name: str, *quantities: str) -> str:
        estimates = [self[name].shown(quantity) for quantity in quantities]
        infinite = any(estimate and estimate.high == math.inf for estimate in estimates)
        return f"{name} (disturbed)" if infinite else name

    def __str__(self) -> str:
        parts = [self._table(SPEEDS)]
        if measured := [
            q for q in OTHER_QUANTITIES if any(row.shown(q) is not None for row in self.rows.values())
        ]:
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
        if noisy_speeds := [
            f"{name} ({', '.join(row.noisy_speeds)})" for name, row in self.rows.items() if row.noisy_speeds
        ]:
            notes.append(f"The machine was busy, measure again: {'; '.join(noisy_speeds)}.")
        return notes


def _cell(row: EngineMeasurement, quantity: str) -> str:
    estimate = row.shown(quantity)
    if estimate is None:
        return "-"
    return str(estimate) if quantity in WITH_INTERVALS else three_digits(estimate.value)


def _flat(row: EngineMeasurement) -> dict[str, str | float | bool]:
    flat: dict[str, str | float | bool] = {"model": row.model, "driver": row.driver}
    for quantity, column in COLUMNS.items():
        estimate = row.shown(quantity) or Estimate(math.nan, math.nan, math.nan, math.nan)
        flat[column.name] = estimate.value
        if quantity in WITH_INTERVALS:
            flat |= {f"{column.name}_low": estimate.low, f"{column.name}_high": estimate.high}
    return flat | {"noisy": bool(row.noisy_speeds)}
