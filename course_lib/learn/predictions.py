"""Predictions: a chapter asks for a guess before it measures, and then shows both together."""

from __future__ import annotations

import math
import re
from typing import Any

from course_lib.learn import state


class Prediction:
    """A notebook widget with a text field for one guess. The field starts empty, to suggest no value."""

    def __init__(self, name: str, unit: str, low: float, high: float) -> None:
        import ipywidgets as widgets

        if not low < high or not math.isfinite(low + high):
            raise ValueError(
                f"prediction {name}: low={low}, high={high}; two finite numbers in order are needed"
            )
        self.name, self.unit, self.low, self.high = name, unit, low, high
        with state.change() as s:
            old = s.predictions.get(name)
            if old is None or old.unit != unit or old.guess is None:  # new, changed or never answered
                old = s.predictions[name] = state.PredictionRecord(unit=unit, low=low, high=high)
        self.field = widgets.Text(
            value="" if old.guess is None else f"{old.guess:g}",
            description="Your guess:",
            placeholder=f"{low:g} to {high:g}",
            continuous_update=False,
        )
        self.status = widgets.HTML()
        self.field.observe(lambda change: self._submit(change["new"]), "value")
        self.box = widgets.VBox(
            [widgets.HBox([self.field, widgets.Label(f"{unit}, then Enter")]), self.status]
        )
        self.box.add_class("course-predict")
        self._show_message(f"{name}: between {low:g} and {high:g} {unit}.")

    def _show_message(self, text: str) -> None:
        import html

        self.status.value = f'<span role="status">{html.escape(text)}</span>'
        self.text = text

    def _submit(self, typed: str) -> None:
        guess = parse_number(typed.strip().removesuffix(self.unit))
        if guess is None:
            ends = f"from {self.low:g} to {self.high:g}"
            return self._show_message(f"{typed!r} is not a number. Type one {ends}, such as 1.5 or 1,500.")
        if not self.low <= guess <= self.high:  # NaN lands here too
            return self._show_message(
                f"{guess:g} lies outside {self.low:g} to {self.high:g} {self.unit}. Guess again."
            )
        with state.change() as s:
            new = state.PredictionRecord(unit=self.unit, low=self.low, high=self.high)
            stored = s.predictions.setdefault(self.name, new)
            if stored.measured is not None:
                return self._show_message(
                    "The measurement has been shown already, so this guess does not count."
                )
            stored.guess = guess
        return self._show_message(f"Noted: {guess:g} {self.unit}. Now measure.")

    def drive(self) -> int:
        """Type both limits, a word and a number out of range, for tests; return how many texts were typed.

        Raises AssertionError if the widget shows no message for one of them.
        """
        start, typed = self.field.value, (f"{self.low:g}", f"{self.high:g}", "five", f"{self.high * 2 + 1:g}")
        for text in typed:
            before, self.text = self.text, ""
            self.field.value = text
            assert self.text, f"{self.name}: no message about {text!r} (before: {before!r})"
        self.field.value = start
        return len(typed)

    def __repr__(self) -> str:
        return f"Predict: {self.name}, between {self.low:g} and {self.high:g} {self.unit}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.box._repr_mimebundle_(**kwargs) | {"text/plain": repr(self)}


def parse_number(text: str) -> float | None:
    """Parse a number, or return None. Commas are allowed only as thousands separators: 1,5 is not 15.

    >>> parse_number("1,500"), parse_number("1,5")
    (1500.0, None)
    """
    text = text.strip()
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", text):
        text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        return None


def predict(name: str, *, unit: str, low: float, high: float) -> Prediction:
    """Return a widget that asks for a guess between `low` and `high`, in `unit`.

    Raises ValueError unless low < high and both are finite.
    """
    return Prediction(name, unit, low, high)


def describe_ratio(guess: float, measured: float) -> str:
    """Describe how far a guess is from the measured value.

    >>> describe_ratio(10, 40)
    '0.25 times it'
    """
    if guess <= 0 or measured <= 0:
        return f"{guess - measured:+.3g} away"
    times = guess / measured
    if 0.8 <= times <= 1.25:
        return f"{times:.2f} times it: well guessed"
    return f"{times:.2g} times it"


def reveal(name: str, measured: float) -> None:
    """Print the measured value with the stored guess, or with a reminder to guess if there is none.

    Raises ValueError for a measurement that is not finite.
    """
    if not math.isfinite(measured):
        raise ValueError(f"prediction {name}: measured {measured}")
    with state.change() as s:
        stored = s.predictions.get(name)
        if stored is not None:
            stored.measured = float(measured)
    if stored is None or stored.guess is None:
        print(f"measured: {measured:.3g} ({name}). No guess yet: next time, guess first.")
    else:
        print(
            f"your guess: {stored.guess:.3g} {stored.unit}   measured: {measured:.3g} {stored.unit}   "
            f"the guess is {describe_ratio(stored.guess, measured)}"
        )
