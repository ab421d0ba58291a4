"""The pictures of how models read: what is drawn is what was given."""

import numpy as np
import pytest

from course_lib.plots import alignment, ways_to_read
from course_lib.plots.diagrams import WAYS


def test_each_way_to_read_has_its_panel_and_its_parts():
    axes = ways_to_read().axes
    assert [a.get_title() for a in axes] == list(WAYS)
    words = [{t.get_text() for t in a.texts} - {""} for a in axes]
    assert words[0] == {"question", "passage", "model", "cosine", "in advance"}
    assert words[1] == {"question", "passage", "model", "best cosines, added", "in advance"}
    assert words[2] == {"question + passage", "model reads both", "score", "nothing in advance"}
    vectors = [[len(line.get_xdata()) for line in a.lines] for a in axes]
    assert vectors == [[1, 1], [5, 5], []]  # one for each text, one for each token, none


def test_the_best_of_each_row_has_a_frame():
    cosines = np.array([[0.1, 0.9, 0.2], [0.5, 0.4, 0.3]])
    axes = alignment(cosines, ["what", "$fee$"], ["a", "b", "##c"], title="T").axes[0]
    assert np.array_equal(axes.images[0].get_array(), cosines)
    assert list(zip(*axes.lines[0].get_data(), strict=True)) == [(1, 0), (0, 1)]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["what", "$fee$"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "##c"]


@pytest.mark.parametrize(
    ("cosines", "rows", "columns"),
    [
        ([[1.0]], ["a"], ["b", "c"]),
        (np.zeros((0, 1)), [], ["b"]),
        ([[float("nan")]], ["a"], ["b"]),
        (np.zeros((26, 1)), ["a"] * 26, ["b"]),
        (np.zeros((1, 61)), ["a"], ["b"] * 61),
    ],
)
def test_what_cannot_be_read_is_not_drawn(cosines, rows, columns):
    with pytest.raises(ValueError, match=r"cosines of shape|not finite"):
        alignment(cosines, rows, columns, title="T")


def test_what_looks_like_a_formula_is_drawn_as_it_stands():
    assert alignment([[0.5]], ["$x"], ["_y^"], title="T").png()
