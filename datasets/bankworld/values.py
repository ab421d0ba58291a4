"""The values that a fact can have, and how they are drawn at random.

They are independent of the language; `english.render` and `korean.render` turn them into words.
"""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Literal["minute", "hour", "day", "business day", "week", "month", "year"]
FAMILY_NAMES = [
    "kim",
    "lee",
    "park",
    "choi",
    "jung",
    "kang",
    "cho",
    "yoon",
    "jang",
    "lim",
    "han",
    "oh",
    "seo",
    "shin",
    "kwon",
    "hwang",
    "ahn",
    "song",
    "hong",
    "moon",
]
GIVEN_NAMES = [
    "minseo",
    "jihoon",
    "seoyeon",
    "haeun",
    "doyun",
    "yuna",
    "jiwoo",
    "sora",
    "taemin",
    "hyejin",
    "eunji",
    "sungho",
    "nari",
    "boram",
    "daehan",
    "mirae",
    "joon",
    "sujin",
    "wonbin",
    "ara",
    "gyuri",
    "inho",
    "kyung",
    "seulgi",
    "hana",
    "dongwook",
    "yejin",
    "minho",
    "bora",
    "chanwoo",
]


class Value(BaseModel):
    """One value: an amount, for some kinds with a unit, or a text (choice, code, phone, person, ISO date)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal[
        "money", "percent", "duration", "count", "time", "date", "phone", "code", "person", "choice"
    ]
    amount: float | None = None  # KRW, per cent, a number of units, or minutes after midnight
    unit: str | None = None
    key: str | None = None


class _Spec(BaseModel):
    """How the value of an attribute is drawn.

    changes: whether the fact also has an old value. exception: whether some customers have another value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    changes: bool = False
    exception: bool = False


class Ranged(_Spec):
    """A number drawn from `low`, `low + step`, ... `high`."""

    kind: Literal["money", "percent", "duration", "count", "time"]
    low: float
    high: float
    step: float = 1
    unit: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> Ranged:
        if self.kind in ("duration", "count") and not self.unit:
            raise ValueError(f"{self.kind} needs a unit")
        if self.steps < 3:
            raise ValueError(f"{self.low}..{self.high} step {self.step} leaves fewer than 4 values")
        return self

    @property
    def steps(self) -> int:
        step = 1 / 4 if self.kind == "time" else self.step  # times lie on quarters of an hour
        return round((self.high - self.low) / step)

    def draw(self, rng: random.Random) -> Value:
        i = rng.randint(0, self.steps)
        if self.kind == "time":
            return Value(kind="time", amount=self.low * 60 + 15 * i)
        return Value(kind=self.kind, amount=round(self.low + i * self.step, 4), unit=self.unit)


class Dated(_Spec):
    kind: Literal["date"]

    def draw(self, rng: random.Random) -> Value:
        return Value(kind="date", key=(date(2023, 1, 1) + timedelta(days=rng.randrange(365 * 4))).isoformat())


class Phone(_Spec):
    kind: Literal["phone"]

    def draw(self, rng: random.Random) -> Value:
        return Value(
            kind="phone",
            key=f"{rng.choice((1544, 1566, 1577, 1588, 1599, 1644, 1661, 1670))}-{rng.randint(1000, 9999)}",
        )


class Code(_Spec):
    kind: Literal["code"]
    prefix: str

    def draw(self, rng: random.Random) -> Value:
        return Value(kind="code", key=f"{self.prefix}-{rng.randint(100, 999)}")


class Person(_Spec):
    kind: Literal["person"]

    def draw(self, rng: random.Random) -> Value:
        return Value(kind="person", key=f"{rng.choice(GIVEN_NAMES)} {rng.choice(FAMILY_NAMES)}")


class Choice(_Spec):
    kind: Literal["choice"]
    of: list[str] = Field(min_length=4)

    def draw(self, rng: random.Random) -> Value:
        return Value(kind="choice", key=rng.choice(self.of))


Spec = Annotated[Ranged | Dated | Phone | Code | Person | Choice, Field(discriminator="kind")]


def draw_other(spec: Spec, rng: random.Random, *taken: Value) -> Value:
    """Draw a value different from every one in `taken`."""
    for _ in range(200):
        value = spec.draw(rng)
        if value not in taken:
            return value
    raise ValueError(f"no value of {spec} is left beside {len(taken)} taken ones")
