"""Plots of pictures: a test looks at what is drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from course_lib.plots import attention, clouds, gallery, two_histograms
from course_lib.plots.picture_charts import PALETTE

RED = Image.new("RGB", (12, 6), (255, 0, 0))


def test_a_gallery_shows_each_picture_with_its_caption():
    half = np.full((6, 12), 0.5)
    figure = gallery([("a red card", RED), ("half grey", half), ("a red card", RED)], title="t", columns=2)
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == ["a red card", "half grey", "a red card"]
    assert (drawn[0].images[0].get_array() == np.asarray(RED)).all()
    assert drawn[1].images[0].get_clim() == (0, 1)  # not stretched to the picture's own brightness
    assert figure.alt == "t. a red card. half grey"


def test_a_long_caption_is_wrapped_and_dollars_are_no_formula():
    caption = "a ticket with the number $24 and $31 of the branch"
    figure = gallery([(caption, RED)] * 6, title="t")
    title = figure.axes[0].title
    assert "\n" in title.get_text() and not title.get_parse_math()
    assert figure.axes[0].get_title().replace("\n", " ") == caption and figure.png()[:4] == b"\x89PNG"


def test_pictures_with_noise_make_small_files():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = gallery([("noise", noise)] * 6, title="t").png()
    drawn = Image.open(io.BytesIO(file))
    assert drawn.mode == "P" and len(drawn.getcolors()) <= PALETTE
    figure = gallery([("noise", noise)] * 6, title="t")
    figure.palette = None
    assert len(file) < len(figure.png()) / 2


def test_attention_covers_the_patches_by_their_weight():
    weights = {"card": [[0, 0.25], [0.5, 0]], "red": [[1, 1], [1, 1]]}
    figure = attention(RED, weights, title="t")
    cover = figure.axes[0].images[1].get_array()
    assert [round(float(a), 3) for a in cover[..., 3].ravel()] == [0, 0.425, 0.85, 0]
    assert figure.axes[0].images[1].get_extent() == [0, 12, 6, 0]
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["card", "red"]


def test_clouds_share_their_limits():
    figure = clouds({"a": [(0, 0), (1, 1)], "b": np.zeros((5, 2))}, title="t", limits=(-1, 2, -1, 2))
    first, second = figure.axes[:2]
    assert list(first.lines[0].get_xdata()) == [0, 1] and len(second.lines[0].get_xdata()) == 5
    assert first.get_xlim() == second.get_xlim() == (-1, 2)


def test_histograms_are_shares_of_their_own_kind():
    figure = two_histograms({"same": [0.1, 0.2], "different": [0.8] * 50}, x="d", title="t", threshold=0.5)
    axes = figure.axes[0]
    assert [sum(bar.get_height() for bar in kind) for kind in axes.containers] == pytest.approx([100, 100])
    assert list(axes.lines[0].get_xdata()) == [0.5, 0.5] and "same, different, threshold" in figure.alt


def test_a_pair_of_pictures_stands_beside_the_histograms():
    figure = two_histograms({"same": [0.1], "different": [0.8]}, x="d", title="t", pair=(RED, RED))
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 0] and figure.axes[2].get_title() == "t"


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (lambda: gallery([], title=""), "0 pictures"),
        (lambda: gallery([("a", RED)] * 49, title=""), "49 pictures"),
        (lambda: gallery([("a", RED)], title="", columns=13), "13 columns"),
        (lambda: attention(RED, {}, title=""), "0 words"),
        (lambda: attention(RED, {"a": [[-1.0]]}, title=""), "negative or not finite"),
        (lambda: clouds({"a": [(np.nan, 0)]}, title=""), "not finite"),
        (lambda: clouds({"a": np.zeros((2, 5))}, title=""), r"shape \(number, 2\), got \(2, 5\)"),
        (lambda: two_histograms({"a": [1]}, x="", title=""), "1 histograms"),
        (lambda: two_histograms({"a": [1], "b": []}, x="", title=""), "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, complaint):
    with pytest.raises(ValueError, match=complaint):
        draw()
