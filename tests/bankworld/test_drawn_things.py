"""Drawn things: the grammar of prompts, what is held out, and pictures that show what they say."""

import colorsys
import random

import numpy as np
import pytest
from bankworld.pictures.things import COLOURS, EVERYTHING, SEEN, SIZE, SYMBOLS, UNSEEN, Thing, draw_thing


def test_each_prompt_is_one_thing():
    assert len({thing.prompt for thing in EVERYTHING}) == len(EVERYTHING) == 432
    assert Thing("orange", "coin", 1, "cross").prompt == "an orange coin with a cross"
    assert Thing("blue", "card", 3, "cross").prompt == "a blue card with three crosses"
    assert Thing("red", "bag", 2, "heart").prompt == "a red bag with two hearts"


def test_every_colour_and_symbol_is_seen_but_six_pairs_of_them_are_not():
    pairs = {(thing.colour, thing.symbol) for thing in SEEN}
    left_out = {(thing.colour, thing.symbol) for thing in UNSEEN}
    assert len(pairs) == 30 and len(left_out) == 6 and not pairs & left_out
    assert {colour for colour, _ in left_out} == set(COLOURS) and {s for _, s in left_out} == set(SYMBOLS)
    assert len(SEEN) == 360 and len(UNSEEN) == 72


def test_a_picture_depends_on_its_seed_alone():
    thing = UNSEEN[0]
    one, same, other = (np.asarray(draw_thing(thing, random.Random(seed))) for seed in (1, 1, 2))
    assert one.shape == (SIZE, SIZE, 3) and (one == same).all() and (one != other).any()


@pytest.mark.parametrize("colour", COLOURS)
def test_the_thing_has_its_colour_and_nothing_else_has_a_strong_one(colour):
    for i, thing in enumerate(t for t in EVERYTHING if t.colour == colour):
        hue, saturation, value = hsv(draw_thing(thing, random.Random(i)))
        strong = (saturation > 0.5) & (value > 0.3)
        if colour == "black":
            assert (value < 0.3).sum() > 100 and strong.sum() == 0, thing
        else:
            away = np.abs((hue[strong] - COLOURS[colour][0] + 0.5) % 1 - 0.5)
            assert strong.sum() > 100 and away.max() < 0.05, thing


def hsv(picture):
    """Hue, saturation and value of each pixel, from 0 to 1."""
    pixels = np.asarray(picture).reshape(-1, 3) / 255
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels]).T


@pytest.mark.parametrize("count", [1, 2, 3])
def test_symbols_are_as_many_light_islands(count):
    from scipy.ndimage import label

    for i, thing in enumerate(
        t for t in EVERYTHING if (t.count, t.colour, t.thing) == (count, "black", "coin")
    ):
        islands, _ = label(np.asarray(draw_thing(thing, random.Random(i)).convert("L")) > 150)
        border = np.concatenate([islands[0], islands[-1], islands[:, 0], islands[:, -1]])
        assert len(np.setdiff1d(islands, [0, *border])) == count, thing
