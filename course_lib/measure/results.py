"""What was measured of engines: as numbers, as a table to read, as a data frame and as a picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from course_lib.errors import CourseError
from course_lib.measure.intervals import Estimate, digits, mean_of, median_of, paired_ratio
from course_lib.measure.memory import Memory
from course_lib.tables import table

if TYPE_CHECKING:
    import pandas as pd

    from course_lib.plots import Picture


class Round(NamedTuple):
    """One turn of an engine, summed over its prompts: three times in seconds, and tokens.

    first: to the first piece of a stream. short: of one token. long: of all tokens. read: tokens of the prompts.
    written: tokens of the long generations beyond those of the short ones.
    """

    first: float
    short: float
    long: float
    read: int
    written: int


class Column(NamedTuple):
    """Of a quantity its column in the data frame, its title for a reader, and the factor from the unit it is kept in."""

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


@dataclass(frozen=True)
class EngineMeasurement:
    """One engine on given prompts. Times are medians over rounds, with exact intervals; they hold for these prompts.

    weights: bytes, None where a server holds them. memory: of this process in the engine's first round, None likewise.
    scores: one for each answer, empty where quality was not asked for.
    """

    model: str
    driver: str
    prompts: int
    new_tokens: int
    rounds: tuple[Round, ...]
    weights: int | None
    memory: Memory | None
    load: float | None
    scores: tuple[float, ...]

    def seconds(self, of: str) -> list[float]:
        """Round by round: seconds to the first piece (ttft), per token of the prompt (prefill), per token written (decode)."""
        if of not in SPEEDS:
            raise ValueError(f"of={of!r}; one of {', '.join(SPEEDS)}")
        each = {
            "ttft": lambda r: r.first / self.prompts,
            "prefill": lambda r: r.short / r.read,
            "decode": lambda r: (r.long - r.short) / r.written,
        }[of]
        return [each(r) for r in self.rounds]

    @cached_property
    def ttft(self) -> Estimate:
        """Seconds from the call to the first piece of a stream, a mean over the prompts.

        A piece is what the engine hands out: a token, where that is whole characters.
        """
        return median_of(self.seconds("ttft"))

    @cached_property
    def prefill(self) -> Estimate:
        """Tokens of the prompt per second of a one-token generation: its tokenizing, one choice and the call are in it."""
        return median_of(self.seconds("prefill")).inverse()

    @cached_property
    def decode(self) -> Estimate:
        """Tokens written per second, from the difference of a long and a one-token generation in the same round."""
        return median_of(self.seconds("decode")).inverse()

    @cached_property
    def quality(self) -> Estimate | None:
        """Mean of the scores; the interval is for other prompts of the same kind."""
        return mean_of(self.scores) if self.scores else None

    @property
    def added(self) -> int | None:
        """Bytes that the first round added to the process at its peak: the cache, and libraries loaded on the way."""
        return self.memory.added if self.memory else None

    @property
    def peak(self) -> int | None:
        """Bytes of the whole process at the peak of the first round, with every engine that was loaded by then."""
        return self.memory.peak if self.memory else None

    def shown(self, quantity: str) -> Estimate | float | None:
        """A quantity in the unit of its column; an Estimate where it has an interval. Raises ValueError for an unknown one."""
        if quantity not in COLUMNS:
            raise ValueError(f"{quantity!r} is not measured; one of {', '.join(COLUMNS)}")
        found: Estimate | float | None = getattr(self, quantity)
        factor = COLUMNS[quantity].factor
        if isinstance(found, Estimate):
            return found.scaled(factor)
        return None if found is None else found * factor

    @property
    def busy(self) -> tuple[str, ...]:
        """The speeds whose interval says that the machine was disturbed."""
        return tuple(of for of in SPEEDS if getattr(self, of).noisy)


@dataclass(frozen=True, repr=False)
class Results:
    """Measurements by name, and the machine they were made on."""

    rows: Mapping[str, EngineMeasurement]
    machine: Mapping[str, str | int | float]

    def __getitem__(self, name: str) -> EngineMeasurement:
        return self.rows[name]

    def to_frame(self) -> pd.DataFrame:
        """A row for each engine. A column's name says its unit; `_low` and `_high` are the ends of the interval beside it.

        What was not measured is NaN. `attrs["machine"]` holds the machine.
        """
        import pandas as pd

        frame = pd.DataFrame.from_dict({name: _flat(row) for name, row in self.rows.items()}, orient="index")
        frame.index.name = "engine"
        frame.attrs["machine"] = dict(self.machine)
        return frame

    def speedup(self, one: str, than: str, of: str = "decode") -> Estimate:
        """How many times as fast one engine is as another, round by round: in prefill, in decode or to the first piece.

        Raises CourseError where a round was so disturbed that its time for decode is not above 0.
        """
        slow, fast = self[than].seconds(of), self[one].seconds(of)
        if min(*slow, *fast) <= 0:
            raise CourseError(
                f"a round was disturbed for longer than its {of} took", "close other programs, measure again"
            )
        return paired_ratio(slow, fast)

    def plot(self, x: str = "decode", y: str = "quality") -> Picture:
        """One quantity against another, an engine a point; "disturbed" where its interval has no upper end to be drawn.

        Raises CourseError where an engine has no value of them.
        """
        from course_lib.plots import named_points

        points = {self._label(name, x, y): (self._point(name, x), self._point(name, y)) for name in self.rows}
        across, up = COLUMNS[x].title, COLUMNS[y].title
        return named_points(
            points, x=across, y=up, title=f"{up.split(',')[0].capitalize()} against {across.split(',')[0]}"
        )

    def _point(self, name: str, quantity: str) -> tuple[float, float, float]:
        ends = _ends(self[name].shown(quantity))
        if ends is None:
            raise CourseError(
                f"{quantity} of {name} was not measured", "plot another quantity, or measure it"
            )
        value, low, high = ends
        if not value < math.inf:
            raise CourseError(
                f"{quantity} of {name} drowned in disturbances", "close other programs, measure again"
            )
        return value, low, high if high < math.inf else value

    def _label(self, name: str, *quantities: str) -> str:
        """The name, and a word where an interval has no upper end that could be drawn."""
        endless = any((ends := _ends(self[name].shown(q))) and ends[2] == math.inf for q in quantities)
        return f"{name} (disturbed)" if endless else name

    def __str__(self) -> str:
        parts = [self._table(SPEEDS)]
        if measured := [q for q in OTHERS if any(row.shown(q) is not None for row in self.rows.values())]:
            parts.append(self._table(measured))
        return "\n\n".join([*parts, "\n".join(textwrap.fill(note, WIDTH) for note in self._notes())])

    __repr__ = __str__

    def _table(self, quantities: tuple[str, ...] | list[str]) -> str:
        rows = [[name, *(_cell(row.shown(q)) for q in quantities)] for name, row in self.rows.items()]
        return table(["engine", *(COLUMNS[q].title for q in quantities)], rows)

    def _notes(self) -> list[str]:
        row = next(iter(self.rows.values()))
        read = sorted({round(r.read / row.prompts) for row in self.rows.values() for r in row.rounds})
        span = f"{read[0]:,}" if len(read) == 1 else f"{read[0]:,} to {read[-1]:,}"
        notes = [
            f"Times: medians of {len(row.rounds)} rounds, {row.prompts} prompt{'s' * (row.prompts > 1)} of {span} tokens one at "
            f"a time, up to {row.new_tokens} tokens written; in brackets {row.ttft.coverage:.0%} intervals."
        ]
        if row.quality:
            notes.append(
                f"Quality: {len(row.scores)} answers; in brackets {row.quality.coverage:.0%} intervals."
            )
        if busy := [f"{name} ({', '.join(row.busy)})" for name, row in self.rows.items() if row.busy]:
            notes.append(f"The machine was busy, measure again: {'; '.join(busy)}.")
        return notes


def _cell(found: Estimate | float | None) -> str:
    return "-" if found is None else str(found) if isinstance(found, Estimate) else digits(found)


def _ends(found: Estimate | float | None) -> tuple[float, float, float] | None:
    """Value, low and high; thrice the value of a number without an interval."""
    if found is None:
        return None
    return (found.value, found.low, found.high) if isinstance(found, Estimate) else (found, found, found)


def _flat(row: EngineMeasurement) -> dict[str, str | float | bool]:
    flat: dict[str, str | float | bool] = {"model": row.model, "driver": row.driver}
    for quantity, column in COLUMNS.items():
        found = row.shown(quantity)
        value, low, high = _ends(found) or (float("nan"),) * 3
        flat |= {column.name: value} | (
            {f"{column.name}_low": low, f"{column.name}_high": high} if quantity in ESTIMATED else {}
        )
    return flat | {"noisy": bool(row.busy)}
