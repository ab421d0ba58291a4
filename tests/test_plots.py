"""Tables and pictures: a test looks at what is drawn."""

import pytest

from course_lib.plots import dots, lines_with_intervals
from course_lib.tables import table


def test_numbers_stand_to_the_right_and_words_to_the_left():
    text = table(["model", "MB"], [["a", 7], ["bcd", 12]])
    assert text.splitlines() == ["model  MB", "a       7", "bcd    12"]
    assert table(["only", "header"], []) == "only  header"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        table(["a", "b"], [["1"]])


def test_every_point_and_interval_is_drawn():
    lines = {"one passage": {1e6: (0.5, 0.4, 0.6), 4e6: (0.9, 0.85, 0.95)}, "none": {1e6: (0.0, 0.0, 0.02)}}
    figure = lines_with_intervals(lines, x="weights", y="right, %", title="t", ticks={1e6: "1M", 4e6: "4M"})
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["one passage", "none"]
    assert list(axes.containers[0].lines[0].get_ydata()) == [50, 90]
    bar = axes.containers[0].lines[2][0].get_segments()[0]
    assert [round(float(y)) for _, y in bar] == [40, 60]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1M", "4M"]


def test_more_lines_than_colours_are_refused():
    with pytest.raises(ValueError, match="5 lines"):
        lines_with_intervals({str(i): {1: (0, 0, 0)} for i in range(5)}, x="", y="", title="", ticks={})


def test_every_time_is_a_dot_and_the_median_a_bar():
    axes = dots({"cold": [3.0], "warm": [1.0, 1.2, 1.1]}, x="ms", title="t").axes[0]
    assert list(axes.lines[2].get_xdata()) == [1.0, 1.2, 1.1]
    assert list(axes.lines[3].get_xdata()) == [1.1, 1.1]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cold", "warm"]


def test_a_picture_shows_itself_as_png():
    assert dots({"a": [1.0]}, x="", title="")._repr_png_().startswith(b"\x89PNG")
