"""Chapter 08's widgets: what is drawn is what was asked for, and the two rates are counted right."""

import numpy as np
import pytest
from PIL import Image

from course_lib.learn.widgets.model_tasks import error_rates, face_threshold, painting
from course_lib.measure.verification import Pairs


def draw(prompt, *, num_inference_steps, guidance, seed):
    return Image.new("RGB", (4, 4), (len(prompt), num_inference_steps, seed % 256))


@pytest.fixture
def explorer():
    return painting(draw, lambda picture: "a red card", ["a red card", "a blue card", ""], most_steps=9)


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() == 13


def test_the_picture_and_the_text_are_of_what_was_asked(explorer):
    text, picture = explorer.output_for(steps=7, guidance=2.5, seed=5)
    assert "7 steps with guidance 2.5 and seed 5: 14 passes" in text and ": as asked" in text
    assert (picture.axes[0].images[0].get_array() == np.asarray(Image.new("RGB", (4, 4), (10, 7, 5)))).all()
    text, _ = explorer.output_for(prompt="a blue card", guidance=1)
    assert "9 passes" in text and "not as asked" in text


PERSONS = np.array([0, 0, 0, 1])  # of four pictures
PAIRS = Pairs(
    np.array([0, 0, 1, 0, 1]),
    np.array([1, 2, 2, 3, 3]),
    PERSONS,
    1 - np.array([0.3, 0.9, 0.5, 0.6, 1.4]),
)
FACES = [Image.new("RGB", (4, 4), (value, value, value)) for value in (0, 80, 160, 240)]


def test_the_two_rates_count_pairs_of_their_own_kind():
    assert error_rates(PAIRS, 0.7) == pytest.approx((1 / 2, 1 / 3))
    assert error_rates(PAIRS, 0.4) == pytest.approx((0, 2 / 3))
    with pytest.raises(ValueError, match="both kinds"):
        error_rates(PAIRS.where(PAIRS.same), 0.7)


def test_the_face_widget_says_which_error_a_pair_is():
    widget = face_threshold({"all": PAIRS, "later": PAIRS.where(np.arange(5) != 0)}, FACES, 0.7)
    assert widget.drive() == 9
    said = [widget.output_for(pair=number).text.splitlines()[-1] for number in (1, 2, 4, 5)]
    verdicts = ["right.", "a false reject.", "a false accept.", "right."]
    assert [line.rsplit(": ", 1)[1] for line in said] == verdicts
    text, picture = widget.output_for(pair=4)
    assert "False accepts: 50.00% of 2 pairs" in text and "False rejects: 33.33% of 3 pairs" in text
    assert [axes.images[0].get_array()[0, 0, 0] for axes in picture.axes[:2]] == [0, 240]
