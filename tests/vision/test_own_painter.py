"""haneul-painter and its judge: the committed weights keep what the card says."""

import json
import random

import pytest
from bankworld.pictures.things import EVERYTHING, SEEN, UNSEEN, draw_thing

from course_lib import data, load
from course_lib.errors import CourseError
from course_lib.vision.judge import Judge


@pytest.fixture(scope="module")
def painter():
    return load("haneul-painter")


@pytest.fixture(scope="module")
def judge():
    return Judge()


def test_the_judge_reads_fresh_drawings(judge):
    rng = random.Random("a fresh sample")
    things = [rng.choice(EVERYTHING) for _ in range(100)]
    seen = judge.seen([draw_thing(thing, rng) for thing in things])
    assert sum(s == thing.prompt for s, thing in zip(seen, things, strict=True)) >= 97
    assert sorted(judge.prompts()) == sorted(thing.prompt for thing in EVERYTHING)


def test_the_judge_does_not_see_what_is_not_there(judge):
    thing, other = EVERYTHING[0], EVERYTHING[-1]
    assert judge.seen([draw_thing(thing, random.Random(0))]) != [other.prompt]
    assert judge.features([draw_thing(thing, random.Random(i)) for i in range(3)]).shape == (3, 64)


@pytest.mark.parametrize("pictures, message", [([], "no picture to judge"), ("a.png", "list of pictures")])
def test_the_judge_wants_a_list_of_pictures(judge, pictures, message):
    with pytest.raises(CourseError, match=message):
        judge.seen(pictures)


def test_the_painter_draws_what_it_is_asked_for(painter, judge):
    """12 prompts of the training and 12 left out, in 8 steps; the card says how often each is right."""
    rng = random.Random("asked")
    asked = [t.prompt for t in rng.sample(SEEN, 12) + rng.sample(UNSEEN, 12)]
    drawn = painter.draw(asked, num_inference_steps=8, guidance=3)
    right = [seen == prompt for seen, prompt in zip(judge.seen(drawn), asked, strict=True)]
    assert sum(right[:12]) >= 11 and sum(right[12:]) >= 11, right
    assert all(picture.size == (32, 32) for picture in drawn)


def test_the_prompts_of_the_training_are_those_that_are_told():
    prompts = json.loads((data.MODELS / "haneul-painter" / "prompts.json").read_text("utf-8"))
    assert prompts == {"seen": [t.prompt for t in SEEN], "held_out": [t.prompt for t in UNSEEN]}
