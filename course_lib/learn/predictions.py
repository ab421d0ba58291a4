"""Predict before you measure: a guess is stored, and shown beside what came out."""

from __future__ import annotations

import math
import re
from typing import Any

from course_lib.learn import state


class Prediction:
    """A small input for one guess: a text field, so that no value is there before the reader has one."""

    def __init__(self, name: str, unit: str, low: float, high: float) -> None:
        import ipywidgets as widgets

        if not low < high or not math.isfinite(low + high):
            raise ValueError(
                f"prediction {name}: low={low}, high={high}; two finite numbers in order are needed"
            )
        self.name, self.unit, self.low, self.high = name, unit, low, high
        with state.change() as s:
            old = s.predictions.get(name)
            if (
                old is None or old.unit != unit or old.guess is None
            ):  # never asked so, or never answered: a new chance
                old = s.predictions[name] = state.Guess(unit=unit, low=low, high=high)
        self.field = widgets.Text(
            value="" if old.guess is None else f"{old.guess:g}",
            description="Your guess:",
            placeholder=f"{low:g} to {high:g}",
            continuous_update=False,
        )
        self.said = widgets.HTML()
        self.field.observe(lambda change: self._take(change["new"]), "value")
        self.box = widgets.VBox([widgets.HBox([self.field, widgets.Label(f"{unit}, then Enter")]), self.said])
        self.box.add_class("course-predict")
        self._say(f"{name}: between {low:g} and {high:g} {unit}.")

    def _say(self, text: str) -> None:
        import html

        self.said.value = f'<span role="status">{html.escape(text)}</span>'
        self.text = text

    def _take(self, typed: str) -> None:
        guess = number_typed(typed.strip().removesuffix(self.unit))
        if guess is None:
            return self._say(
                f"{typed!r} is not a number. Type one from {self.low:g} to {self.high:g}, such as 1.5 or 1,500."
            )
        if not self.low <= guess <= self.high:  # NaN lands here too
            return self._say(
                f"{guess:g} lies outside {self.low:g} to {self.high:g} {self.unit}. Guess again."
            )
        with state.change() as s:
            seen = s.predictions.setdefault(
                self.name, state.Guess(unit=self.unit, low=self.low, high=self.high)
            )
            if seen.measured is not None:
                return self._say("The measurement has been shown already, so this guess does not count.")
            seen.guess = guess
        return self._say(f"Noted: {guess:g} {self.unit}. Now measure.")

    def drive(self) -> int:
        """Type what people type, both ends of the range and what is no guess; how many were tried, for tests.

        Raises AssertionError where the line below the field says nothing new.
        """
        before, typed = (
            self.field.value,
            (f"{self.low:g}", f"{self.high:g}", "five", f"{self.high * 2 + 1:g}"),
        )
        for text in typed:
            said, self.text = self.text, ""
            self.field.value = text
            assert self.text, f"{self.name}: nothing is said about {text!r} (before: {said!r})"
        self.field.value = before
        return len(typed)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        plain = {"text/plain": f"Predict: {self.name}, between {self.low:g} and {self.high:g} {self.unit}"}
        return self.box._repr_mimebundle_(**kwargs) | plain


def number_typed(text: str) -> float | None:
    """A number as people type it; commas only between thousands, so that 1,5 is asked again and not taken for 15.

    >>> number_typed("1,500"), number_typed("1,5")
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
    """Ask for a guess between `low` and `high`, in `unit`. Raises ValueError for a range that is none."""
    return Prediction(name, unit, low, high)


def ratio(guess: float, measured: float) -> str:
    """How far off a guess is, in words.

    >>> ratio(10, 40)
    '0.25 times it'
    """
    if guess <= 0 or measured <= 0:
        return f"{guess - measured:+.3g} away"
    times = guess / measured
    if 0.8 <= times <= 1.25:
        return f"{times:.2f} times it: well guessed"
    return f"{times:.2g} times it"


def reveal(name: str, measured: float) -> None:
    """Show the guess beside the measurement. Without a guess it invites one and goes on.

    Raises ValueError for a measurement that is no number.
    """
    if not math.isfinite(measured):
        raise ValueError(f"prediction {name}: measured {measured}")
    with state.change() as s:
        known = s.predictions.get(name)
        if known is not None:
            known.measured = float(measured)
    if known is None or known.guess is None:
        print(f"measured: {measured:.3g} ({name}). No guess yet: next time, guess first.")
    else:
        print(
            f"your guess: {known.guess:.3g} {known.unit}   measured: {measured:.3g} {known.unit}   "
            f"the guess is {ratio(known.guess, measured)}"
        )
