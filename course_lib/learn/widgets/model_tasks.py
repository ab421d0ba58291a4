"""The widgets of chapter 08: draw a picture from a prompt; choose a threshold for recognising faces.

Guidance is how strongly a picture follows its prompt; above 1 it takes two passes of the network per step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course_lib.learn.widgets.explorer import Choice, Control, Explorer, Output, Range, Text
from course_lib.measure.verification import Pairs
from course_lib.plots import gallery, two_histograms


def painting(
    draw: Callable[..., Any], name: Callable[[Any], str], prompts: Sequence[str], *, most_steps: int = 50
) -> Explorer:
    """Return the widget that draws a prompt.

    draw: called as `draw(prompt, num_inference_steps=, guidance=, seed=)`, returns a picture. name: a
    classifier, which returns what a picture shows, worded like a prompt. prompts: the first is the initial
    one; `Explorer.drive` tries them all.
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


def error_rates(pairs: Pairs, threshold: float) -> tuple[float, float]:
    """Return the false accept rate and the false reject rate at a threshold.

    They are the share of the pairs of two persons whose distance is at most the threshold, and the share of
    the pairs of one person whose distance is above it. The distance is 1 - similarity. Raises ValueError if
    pairs of one kind are missing.
    """
    if pairs.same.all() or not pairs.same.any():
        raise ValueError("the rates need pairs of both kinds: of one person, and of two")
    accepted = 1 - pairs.similarity <= threshold
    return float(accepted[~pairs.same].mean()), float((~accepted)[pairs.same].mean())


def face_threshold(groups: Mapping[str, Pairs], pictures: Sequence[Any], start: float) -> Explorer:
    """Return the widget that shows the two error rates at a threshold.

    groups: name -> pairs of both kinds. pictures: the pictures of faces, to which the indices in the pairs
    refer. start: the initial threshold, a distance.
    """

    def show(group: str, threshold: float, pair: float) -> Output:
        pairs = groups[group]
        index = (int(pair) - 1) % len(pairs.same)
        distances = 1 - pairs.similarity
        accepts, rejects = error_rates(pairs, threshold)
        same, accepted = bool(pairs.same[index]), bool(distances[index] <= threshold)
        verdict = "right" if same == accepted else "a false accept" if accepted else "a false reject"
        persons = {True: "one person", False: "two persons"}
        text = (
            f"False accepts: {accepts:.2%} of {int((~pairs.same).sum()):,} pairs of two persons.\n"
            f"False rejects: {rejects:.2%} of {int(pairs.same.sum()):,} pairs of one person.\n"
            f"Pair {index + 1}: {persons[same]}, distance {distances[index]:.2f},"
            f" taken for {persons[accepted]}: {verdict}."
        )
        both = {"one person": distances[pairs.same], "two persons": distances[~pairs.same]}
        shown = (pictures[pairs.first[index]], pictures[pairs.second[index]])
        title = f"{group}: pair {index + 1}, and the distances of all pairs"
        drawn = two_histograms(both, x="distance", title=title, threshold=threshold, pair=shown)
        return Output(text, drawn)

    controls: dict[str, Control] = {
        "group": Choice("pairs", tuple(groups)),
        "threshold": Range("threshold", 0, 1.5, round(start, 4), 0.01),
        "pair": Range("look at pair", 1, max(len(pairs.same) for pairs in groups.values()), 1),
    }
    return Explorer("face-threshold", "Two kinds of error", show, controls)
