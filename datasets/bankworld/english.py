"""Render the values of facts as English words, and parse them. `korean` does the same in Korean."""

from __future__ import annotations

from datetime import date

from bankworld import schema
from bankworld.values import Ranged, Value

LANGUAGE = "en"


def plural(unit: str, amount: float) -> str:
    """'1 day', '3 days'; 'y' after a consonant becomes 'ies'."""
    if amount == 1:
        return unit
    if unit.endswith("y") and unit[-2] not in "aeiou":
        return unit[:-1] + "ies"
    return unit + ("es" if unit.endswith(("s", "x", "ch", "sh")) else "s")


def day(iso: str) -> str:
    d = date.fromisoformat(iso)
    return f"{d.day} {schema.common()['months'][d.month - 1]} {d.year}"


def render(value: Value, choices: dict[str, str]) -> str:
    """Return a value in words. choices: key of a choice -> its words, for the attribute."""
    if value.kind == "choice":
        return choices[str(value.key)]
    if value.kind in ("phone", "code"):
        return str(value.key)
    if value.kind == "date":
        return day(str(value.key))
    if value.kind == "person":
        return str(value.key).title()
    amount = value.amount or 0.0
    if value.kind == "money":
        return f"KRW {amount:,.0f}"
    if value.kind == "percent":
        return f"{amount:.2f}%"
    if value.kind == "time":
        return f"{int(amount) // 60:02d}:{int(amount) % 60:02d}"
    return f"{amount:g} {plural(str(value.unit), amount)}"


def render_for(kind: str, attribute: str, value: Value) -> str:
    return render(value, schema.texts()[kind].attributes[attribute].choices)


def group(key: str) -> str:
    return schema.common()["groups"][key]


def parse(words: str, kind: str, attribute: str) -> Value:
    """Return the value for which `render` gives `words`. Raises ValueError if there is none."""
    spec = schema.specs()[kind][attribute]
    if spec.kind == "choice":
        keys = [k for k, text in schema.texts()[kind].attributes[attribute].choices.items() if text == words]
        value = Value(kind="choice", key=keys[0] if keys else None)
    elif isinstance(spec, Ranged):
        value = Value(kind=spec.kind, amount=_amount(words), unit=spec.unit)
    else:
        keys_of = {"date": parse_day, "person": str.lower}
        value = Value(kind=spec.kind, key=keys_of.get(spec.kind, str)(words))
    if (value.key is None and value.amount is None) or render_for(kind, attribute, value) != words:
        raise ValueError(f"{words!r} renders no value of {kind}.{attribute}")
    return value


def parse_day(words: str) -> str:
    """'4 May 2025' -> '2025-05-04'."""
    number, month, year = words.split()
    return date(int(year), schema.common()["months"].index(month) + 1, int(number)).isoformat()


def _amount(words: str) -> float:
    if ":" in words:
        hours, minutes = words.split(":")
        return float(int(hours) * 60 + int(minutes))
    digits = "".join(
        c for c in words.split(" ")[-1 if words.startswith("KRW") else 0] if c.isdigit() or c == "."
    )
    return float(digits)
