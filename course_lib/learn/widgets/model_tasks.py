"""The widgets of chapter 08: a prompt and steps make a picture; a threshold makes two kinds of error."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from course_lib.learn.widgets.explorer import Choice, Control, Explorer, Output, Range, Text
from course_lib.plots import gallery, two_histograms


def painting(
    draw: Callable[..., Any], name: Callable[[Any], str], prompts: Sequence[str], *, most_steps: int = 50
) -> Explorer:
    """Return the widget that draws a prompt.

    draw: called as `draw(prompt, num_inference_steps=, guidance=, seed=)`, returns a picture. name: says what
    a picture shows, in the words of a prompt. prompts: the first is the start, all are tried by tests.
    """

    def show(prompt: str, steps: float, guidance: float, seed: float) -> Output:
        begun = time.perf_counter()
        picture = draw(prompt, num_inference_steps=int(steps), guidance=guidance, seed=int(seed))
        seconds, seen = time.perf_counter() - begun, name(picture)
        passes = int(steps) * (1 if guidance <= 1 else 2)
        verdict = "as asked" if seen == prompt else "not as asked"
        text = (
            f"{prompt!r} in {steps:.0f} steps with guidance {guidance:g} and seed {seed:.0f}:"
            f" {passes} passes of the network, {seconds:.2f} s.\nThe classifier sees {seen!r}: {verdict}."
        )
        return Output(text, gallery([(prompt, picture)], title=f"{steps:.0f} steps", columns=3))

    controls: dict[str, Control] = {
        "prompt": Text("prompt", prompts[0], tuple(prompts)),
        "steps": Range("steps", 1, most_steps, min(20, most_steps)),
        "guidance": Range("guidance", 1, 15, 3, 0.5),
        "seed": Range("seed", 0, 999, 0),
    }
    return Explorer("painting", "Draw a prompt", show, controls)


class Pairs(NamedTuple):
    """Pairs of pictures of faces: arrays of length n.

    first, second: indices of the two pictures. same: whether they show one person. distances: of the two
    embeddings.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    distances: np.ndarray

    def only(self, mask: np.ndarray) -> Pairs:
        """The pairs for which `mask` is true."""
        return Pairs(*(values[mask] for values in self))


def error_rates(pairs: Pairs, threshold: float) -> tuple[float, float]:
    """Return the share of pairs of two persons below the threshold (false accepts), and the share of pairs of
    one person that are not (false rejects). Raises ValueError if there are no pairs of one of the kinds.

    >>> error_rates(Pairs(*map(np.array, ([0, 0, 0], [1, 2, 3], [True, False, False], [0.4, 0.6, 0.9]))), 0.7)
    (0.5, 0.0)
    """
    if pairs.same.all() or not pairs.same.any():
        raise ValueError("the rates need pairs of both kinds: of one person, and of two")
    accepted = pairs.distances < threshold
    return float(accepted[~pairs.same].mean()), float((~accepted)[pairs.same].mean())


def face_threshold(groups: Mapping[str, Pairs], pictures: Sequence[Any], start: float) -> Explorer:
    """Return the widget that shows the two error rates at a threshold.

    groups: name -> pairs; each has pairs of both kinds. pictures: of the faces, which the pairs' indices
    name. start: the threshold to begin with.
    """

    def show(group: str, threshold: float, pair: float) -> Output:
        pairs, at = groups[group], int(pair) - 1
        at %= len(pairs.same)
        accepts, rejects = error_rates(pairs, threshold)
        persons = "one person" if pairs.same[at] else "two persons"
        taken = "one person" if pairs.distances[at] < threshold else "two persons"
        error = {True: "right", False: "a false reject" if pairs.same[at] else "a false accept"}[
            persons == taken
        ]
        text = (
            f"False accepts: {accepts:.2%} of {int((~pairs.same).sum()):,} pairs of two persons.\n"
            f"False rejects: {rejects:.2%} of {int(pairs.same.sum()):,} pairs of one person.\n"
            f"Pair {at + 1}: {persons}, distance {pairs.distances[at]:.2f}, taken for {taken}: {error}."
        )
        both = {"one person": pairs.distances[pairs.same], "two persons": pairs.distances[~pairs.same]}
        shown = (pictures[pairs.first[at]], pictures[pairs.second[at]])
        title = f"{group}: pair {at + 1}, and the distances of all pairs"
        drawn = two_histograms(both, x="distance", title=title, threshold=threshold, pair=shown)
        return Output(text, drawn)

    controls: dict[str, Control] = {
        "group": Choice("pairs", tuple(groups)),
        "threshold": Range("threshold", 0, 2, round(start, 2), 0.02),
        "pair": Range("look at pair", 1, max(len(pairs.same) for pairs in groups.values()), 1),
    }
    return Explorer("face-threshold", "Two kinds of error", show, controls)
