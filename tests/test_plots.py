"""Tables and pictures: a test looks at what is drawn."""

import warnings
from io import BytesIO

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from course_lib.errors import CourseError
from course_lib.plots import (
    COLOURS,
    bars,
    calibration,
    curves,
    dots,
    histograms,
    lines_with_intervals,
    named_points,
    rankings,
    scatter,
    stacked_bar,
)
from course_lib.plots.base import hangul_font
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
    assert [t.get_text() for t in axes.texts] == ["one passage", "none"]
    assert list(axes.containers[0].lines[0].get_ydata()) == [50, 90]
    first, second = (container.lines[0].get_xdata()[0] for container in axes.containers)
    assert 0.9e6 < first < 1e6 < second < 1.1e6  # apart, so that their intervals can be seen
    bar = axes.containers[0].lines[2][0].get_segments()[0]
    assert [round(float(y)) for _, y in bar] == [40, 60]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1M", "4M"]


def test_names_that_would_overlap_are_moved_apart():
    points = {"left": ((1, 1, 1), (50, 40, 60)), "right": ((9, 9, 9), (80, 70, 90))}
    near = points | {f"near {i}": ((9 + i / 10, 9, 9.9), (80, 70, 90)) for i in range(1, 5)}
    figure = named_points(near, x="", y="", title="")
    names = [text for text in figure.axes[0].texts if text.get_text()]
    assert [name.get_text() for name in names] == list(near) and not figure.legends
    boxes = [Text.get_window_extent(name) for name in names]
    assert not any(box.count_overlaps(boxes[:i]) for i, box in enumerate(boxes))


def test_names_that_find_no_place_stand_in_a_legend():
    crowded = {f"a long name of the point {i} " * 2: ((9, 9, 9), (80, 70, 90)) for i in range(12)}
    figure = named_points(crowded, x="", y="", title="")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(crowded)
    assert not any(text.get_text() for text in figure.axes[0].texts)


def test_a_level_bears_its_name_where_the_curve_is_far():
    axes = curves({"c": {1: 1, 64: 64}}, x="", y="", title="", levels={"low": 1.5, "high": 60}).axes[0]
    sides = {text.get_text(): text.get_ha() for text in axes.texts}
    assert sides["low"] == "right" and sides["high"] == "left"


def test_more_lines_than_colours_are_refused():
    with pytest.raises(ValueError, match="5 lines"):
        lines_with_intervals({str(i): {1: (0, 0, 0)} for i in range(5)}, x="", y="", title="", ticks={})


NAN = float("nan")


@pytest.mark.parametrize(
    ("draw", "lines", "match"),
    [
        (lines_with_intervals, {"a": {}}, "'a' has no points"),
        (curves, {"a": {}}, "'a' has no points"),
        (lines_with_intervals, {"a": {1: (NAN, 0.0, 1.0)}}, "not finite"),
    ],
)
def test_lines_that_cannot_be_drawn_are_refused(draw, lines, match):
    ticks = {"ticks": {}} if draw is lines_with_intervals else {}
    with pytest.raises(ValueError, match=match):
        draw(lines, x="", y="", title="", **ticks)


def test_points_are_joined_from_left_to_right():
    line = curves({"a": {4: 1.0, 1: 2.0, 2: 3.0}}, x="", y="", title="").axes[0].lines[0]
    assert list(line.get_xdata()) == [1, 2, 4] and list(line.get_ydata()) == [2.0, 3.0, 1.0]


def test_every_time_is_a_dot_and_the_median_a_bar():
    axes = dots({"cold": [3.0], "warm": [1.0, 1.2, 1.1]}, x="ms", title="t").axes[0]
    assert list(axes.lines[2].get_xdata()) == [1.0, 1.2, 1.1]
    assert list(axes.lines[3].get_xdata()) == [1.1, 1.1]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cold", "warm"]


@pytest.mark.parametrize("values", [{}, {"cold": [], "warm": [1.0]}])
def test_a_row_of_dots_without_a_value_is_refused(values):
    with pytest.raises(ValueError, match="no values to draw"):
        dots(values, x="", title="")


def test_a_picture_shows_itself_as_png():
    assert dots({"a": [1.0]}, x="", title="").png().startswith(b"\x89PNG")


POINTS = {"a": ((10, 8, 11), (50, 40, 70)), "b": ((90, 90, 90), (60, 50, 65))}


def test_a_named_point_has_its_marker_its_name_and_both_intervals():
    figure = named_points(POINTS, x="speed, tokens/s", y="quality, %", title="t")
    axes = figure.axes[0]
    assert not figure.legends and {t.get_text(): t.xy for t in axes.texts} == {"a": (10, 50), "b": (90, 60)}
    points = [line for line in axes.lines if line.get_label() in POINTS]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == [(10, 50), (90, 60)]
    across, up = (bar.get_segments()[0].tolist() for bar in axes.containers[0].lines[2])
    assert across == [[8, 50], [11, 50]] and up == [[10, 40], [10, 70]]
    assert axes.get_xscale() == "linear" and axes.get_xlim()[0] == axes.get_ylim()[0] == 0


def test_a_front_joins_its_points_in_order():
    axes = named_points(POINTS, x="", y="", title="", front=["b", "a"]).axes[0]
    assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"] == [[90, 10]]


def test_sixteen_points_can_be_told_apart_without_colours_alone():
    many = {str(i): POINTS["a"] for i in range(16)}
    lines = [
        line for line in named_points(many, x="", y="", title="").axes[0].lines if line.get_label() in many
    ]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 16
    assert len({line.get_marker() for line in lines[:4]}) == 4
    with pytest.raises(ValueError, match="17 points; 1 to 16"):
        named_points(many | {"16": POINTS["a"]}, x="", y="", title="")


def test_values_far_apart_are_drawn_on_a_logarithmic_axis_with_plain_numbers():
    figure = named_points(POINTS | {"c": ((2000, 1000, 3000), (1, 0, 2))}, x="ms", y="", title="")
    figure.canvas.draw()
    axes = figure.axes[0]
    assert (
        axes.get_xscale() == "log"
        and axes.get_xlabel() == "ms (log)"
        and "1,000" in [t.get_text() for t in axes.get_xticklabels()]
    )


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
def test_a_point_that_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match="negative or not finite"):
        named_points({"a": ((1, 1, wrong), (1, 1, 1))}, x="", y="", title="")
    with pytest.raises(ValueError, match="0 points"):
        named_points({}, x="", y="", title="")


def test_a_stacked_bar_has_its_parts_one_after_the_other_and_its_limit():
    figure = stacked_bar({"a": 2, "b": 0, "c": 3}, 4, x="GiB", title="t")
    axes = figure.axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 2), (2, 3)]
    assert list(axes.lines[0].get_xdata()) == [4, 4] and axes.get_xlim()[0] == 0 < 5 < axes.get_xlim()[1]
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {"a: 2.00", "c: 3.00", "limit: 4.00"}
    many = stacked_bar({str(i): 1 for i in range(12)}, 4, x="", title="").axes[0].patches
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in many}) == 12
    assert len({bar.get_hatch() for bar in many[:4]}) == 4  # four parts are told apart without colours
    assert len({bar.get_facecolor() for bar in many[:8]}) == 8  # a hatched bar has a colour of its own
    for wrong in ({}, {str(i): 1 for i in range(13)}, {"a": -1}, {"a": float("nan")}):
        with pytest.raises(ValueError, match=r"(0|13) parts; 1 to 12|negative or not finite"):
            stacked_bar(wrong, 1, x="", title="")


def test_every_number_is_in_its_histogram_and_all_share_an_axis():
    figure = histograms(
        {"wide": [[-1.0, 0.0], [0.0, 1.0]], "narrow": [0.0]}, x="x", title="t", levels={"wide": [0.5, -0.5]}
    )
    wide, narrow = figure.axes
    assert (
        sum(bar.get_height() for bar in wide.patches) == 4
        and sum(bar.get_height() for bar in narrow.patches) == 1
    )
    assert [line.get_xdata()[0] for line in wide.lines] == [0.5, -0.5] and not narrow.lines
    assert wide.get_yscale() == "log" and wide.get_xlim() == narrow.get_xlim()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["wide", "narrow"]


@pytest.mark.parametrize("values", [{}, {"none": []}, {"broken": [1.0, float("nan")]}])
def test_a_histogram_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="nothing to draw"):
        histograms(values, x="", title="")


def test_bars_stand_in_their_order_from_above():
    axes = bars({"first": 3.0, "second": 1.0}, x="x", title="t", line=2.0).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [3.0, 1.0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["first", "second"] and axes.yaxis_inverted()
    assert axes.lines[0].get_xdata()[0] == 2.0


@pytest.mark.parametrize("values", [{}, {"a": -1.0}, {"a": float("inf")}])
def test_bars_that_cannot_be_drawn_are_refused(values):
    with pytest.raises(ValueError, match="nothing to draw"):
        bars(values, x="", title="")


def test_curves_go_through_their_points_and_levels_lie_across():
    axes = curves({"cache": {1024: 1.0, 2048: 2.0}}, x="x", y="y", title="t", levels={"weights": 1.5}).axes[0]
    line, level = axes.lines
    assert list(line.get_xdata()) == [1024, 2048] and list(line.get_ydata()) == [1.0, 2.0]
    assert list(level.get_ydata()) == [1.5, 1.5]
    assert [t.get_text() for t in axes.texts] == ["cache", "weights"]


def test_a_curve_bears_its_name_where_it_is_farthest_from_the_others():
    lines = {
        "up": {0: 0.0, 1: 1.0, 2: 3.0},
        "level": {0: 0.0, 1: 0.0, 2: 0.0},
        "down": {0: 0.0, 1: -4.0, 2: -1.0},
    }
    axes = curves(lines, x="", y="", title="", linear=True, notes={"here": (1, 1.0)}).axes[0]
    places = {t.get_text(): tuple(t.xy) for t in axes.texts}
    assert places == {"up": (2, 3), "level": (1, 0), "down": (1, -4), "here": (1, 1)}
    assert (
        len({line.get_linestyle() for line in axes.lines})
        == len({line.get_marker() for line in axes.lines})
        == 3
    )


@pytest.mark.parametrize(
    ("lines", "levels"), [({}, {}), ({"a": {1: 0.0}}, {}), ({"a": {1: 1.0}}, {"b": -1.0})]
)
def test_curves_that_cannot_be_drawn_are_refused(lines, levels):
    with pytest.raises(ValueError, match=r"0 lines|cannot be drawn"):
        curves(lines, x="", y="", title="", levels=levels)


def test_linear_curves_take_numbers_of_any_sign():
    figure = curves(
        {"gain": {0.0: -0.1, 0.5: 0.0, 1.0: 0.2}}, x="", y="", title="", levels={"none": 0.0}, linear=True
    )
    figure.canvas.draw()
    axes = figure.axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "linear"
    assert list(axes.lines[0].get_ydata()) == [-0.1, 0.0, 0.2] and "0.2" in [
        t.get_text() for t in axes.get_xticklabels()
    ]


def test_a_logarithmic_axis_between_two_powers_of_ten_has_plain_numbers():
    figure = curves({"loss": {1: 0.64, 16: 0.29}}, x="", y="", title="")
    figure.canvas.draw()
    assert {"0.3", "0.6"} <= {t.get_text() for t in figure.axes[0].get_yticklabels(which="minor")}


@pytest.mark.parametrize(
    ("linear", "wrong"), [(False, 0.0), (True, float("nan")), (True, float("inf")), (False, -1.0)]
)
def test_what_has_no_place_on_the_axes_is_refused(linear, wrong):
    for lines, levels in (
        ({"a": {1.0: wrong}}, {}),
        ({"a": {wrong: 1.0}}, {}),
        ({"a": {1.0: 1.0}}, {"b": wrong}),
    ):
        with pytest.raises(ValueError, match="cannot be drawn on these axes"):
            curves(lines, x="", y="", title="", levels=levels, linear=linear)


RANKINGS = {"words": ["a", "b", "c"], "both": ["b", "x", "a"], "meaning": ["x", "y"]}


def test_names_at_the_edges_stay_inside_the_axes():
    points = {"a rather long name": ((9, 9, 9), (0.9, 0.8, 0.9)), "b": ((1, 1, 1), (0.8, 0.7, 0.9))}
    figures = [
        named_points(points, x="", y="", title="t", from_zero=False),
        curves({"a": {1: 1.0, 9: 2.0}}, x="", y="", title="t", notes={"a long note": (9, 2.0)}, linear=True),
    ]
    for figure in figures:
        figure.png()
        (axes,) = figure.axes
        boxes = [text.get_window_extent() for text in axes.texts]
        assert all(box.x1 <= axes.bbox.x1 and box.y1 <= axes.bbox.y1 for box in boxes)
    low, high = figures[0].axes[0].get_ylim()
    assert low > 0.6 and high < 1


def test_every_id_stands_in_its_column_at_its_place():
    drawn = rankings(RANKINGS, {"a"}, title="t").axes[0].texts
    texts = {(round(t.get_position()[0]), t.get_position()[1]): t for t in drawn}
    for x, (name, ids) in enumerate(RANKINGS.items()):
        assert texts[x, -1].get_text() == name
        assert [texts[x, y].get_text() for y in range(len(ids))] == ids
    assert [t.get_text() for (x, _), t in texts.items() if x < 0] == ["1", "2", "3"]
    bold = {(t.get_text(), t.get_color()) for t in texts.values() if t.get_weight() == "bold"}
    assert bold == {("a", COLOURS[0])}


def test_a_line_leads_an_id_from_column_to_column():
    axes = rankings(RANKINGS, ["a"], title="t").axes[0]
    lines = {
        (int(sum(line.get_xdata()) / 2), tuple(line.get_ydata())): line for line in axes.lines
    }  # left column, places
    assert lines.keys() == {(0, (0, 2)), (0, (1, 0)), (1, (1, 0))}
    assert lines[0, (0, 2)].get_color() == COLOURS[0] and lines[0, (1, 0)].get_color() != COLOURS[0]
    assert axes.yaxis_inverted()


@pytest.mark.parametrize(
    "long", ["cards-07", "a-rather-long-name-of-a-passage-01", "$a long name of x$ and y"]
)
def test_no_label_is_cut_or_runs_into_a_line_or_its_neighbour(long):
    orders = {"a": range(25), "b": range(24, -1, -1), "c": range(25), "d": ()}
    figure = rankings(
        {name: [f"{long}{i}" for i in order] for name, order in orders.items()}, [f"{long}3"], title="t"
    )
    figure.png()
    axes, whole = figure.axes[0], figure.bbox
    boxes = [t.get_window_extent() for t in axes.texts]
    assert all(
        whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1
        for box in boxes
    )
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for line in axes.lines:
        (left, _), (right, _) = axes.transData.transform(line.get_xydata())
        assert left < right and not any(left <= x <= right for box in boxes for x in (box.x0, box.x1))


@pytest.mark.parametrize(
    "columns",
    [{}, {"a": []}, {"a": ["x", "x"]}, {"a": [str(i) for i in range(26)]}, {str(i): ["x"] for i in range(5)}],
)
def test_rankings_that_cannot_be_read_are_refused(columns):
    with pytest.raises(ValueError, match=r"columns of \d+ rows"):
        rankings(columns, [], title="")


def test_a_map_has_a_look_for_every_group_and_no_numbers():
    groups = {str(i): [(i, 0.0), (i, -1.0)] for i in range(16)}
    figure = scatter(groups, title="t", notes={"my $5 question": (15.0, 3.0), "other": (0.0, -3.0)})
    figure.png()
    axes = figure.axes[0]
    looks = {
        line.get_label(): (line.get_color(), line.get_marker())
        for line in axes.lines
        if line.get_label() in groups
    }
    assert len(set(looks.values())) == 16
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(groups)
    assert list(axes.lines[3].get_xdata()) == [3, 3] and list(axes.lines[3].get_ydata()) == [0, -1]
    stars = next(line for line in axes.lines if line.get_marker() == "*")
    assert list(zip(stars.get_xdata(), stars.get_ydata(), strict=True)) == [(15, 3), (0, -3)]
    assert {t.get_text(): t.xy for t in axes.texts} == {"my $5 question": (15, 3), "other": (0, -3)}
    assert not list(axes.get_xticks()) and not list(axes.get_yticks())
    frame = axes.get_window_extent()
    assert all(
        frame.x0 <= t.get_window_extent().x0 and t.get_window_extent().x1 <= frame.x1 for t in axes.texts
    )


@pytest.mark.parametrize(
    ("groups", "notes"),
    [
        ({}, {}),
        ({str(i): [(0, 0)] for i in range(17)}, {}),
        ({"a": []}, {}),
        ({"a": [(0, float("nan"))]}, {}),
        ({"a": [(0, 0)]}, {"b": (float("inf"), 0)}),
    ],
)
def test_a_map_that_cannot_be_drawn_is_refused(groups, notes):
    with pytest.raises(ValueError, match=r"groups; 1 to 16|without points|not finite"):
        scatter(groups, title="", notes=notes)


def test_a_picture_has_an_alternative_text():
    png, metadata = dots({"small": [1.0, 2.0], "large": [3.0]}, x="ms", title="Every run")._repr_png_()
    assert png.startswith(b"\x89PNG") and metadata["alt"] == "Every run. x: ms. shown: small, large"


def test_few_groups_bear_their_names_and_other_points_are_grey():
    figure = scatter({"cards": [(0, 0), (2, 2), (4, 1)]}, title="t", others=[(9.0, 9.0)])
    (name,) = figure.axes[0].texts
    assert name.get_text() == "cards" and list(name.xy) == [2, 1] and not figure.legends
    assert (
        list(figure.axes[0].lines[1].get_xdata()) == [9]
        and figure.axes[0].lines[1].get_color() == "lightgrey"
    )


def test_hangul_is_drawn_and_not_as_empty_boxes():
    def drawn(name):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # matplotlib warns of a glyph that no font has
            return rankings({"a": [name]}, [name], title="").png()

    assert drawn("하늘은행") != drawn("가나다라")


def test_without_a_font_for_hangul_an_error_says_so(monkeypatch):
    monkeypatch.setattr("course_lib.plots.base.find_spec", lambda name: None)
    hangul_font.cache_clear()
    with pytest.raises(CourseError, match="koreanize-matplotlib"):
        dots({"가": [1.0]}, x="", title="").png()


def boxes_of_texts(axes):
    """The boxes of texts, without the leaders of annotations."""
    axes.figure.draw_without_rendering()
    return [Text.get_window_extent(text) for text in axes.texts]


def test_a_name_covers_no_line_not_even_its_own():
    right, ring = {1: 94, 2: 100, 4: 100, 8: 100, 16: 100}, {1: 3, 2: 26, 4: 87, 8: 96, 16: 97}
    note = {"your choice": (2, 26)}
    axes = curves({"right": right, "ring": ring}, x="x", y="y", title="t", linear=True, notes=note).axes[0]
    paths = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
    for box in boxes_of_texts(axes):
        assert not any(path.intersects_bbox(box.padded(-1), filled=False) for path in paths)


TRADES = {  # chapter 06, what a threshold refuses
    "model alone": {0.175: 0.583, 0.2: 0.667, 0.225: 0.694, 0.25: 0.722, 0.3: 0.75, 0.325: 0.75, 0.35: 0.778}
    | {0.4: 0.833, 0.45: 0.861, 0.5: 0.861, 0.625: 1.0, 1.0: 1.0},
    "model and search": {0.175: 0.639, 0.2: 0.639, 0.225: 0.722, 0.25: 0.833, 0.275: 0.833, 0.3: 0.861}
    | {0.325: 0.889, 0.35: 0.889, 0.4: 0.889, 0.425: 0.944, 0.5: 0.944, 0.65: 1.0, 0.775: 1.0, 1.0: 1.0},
    "read on, three signals": {0.075: 0.5, 0.1: 0.722, 0.125: 0.722, 0.15: 0.806, 0.175: 0.806, 0.2: 0.806}
    | {0.25: 0.833, 0.275: 0.861, 0.3: 0.944, 0.35: 0.972, 0.375: 1.0, 0.475: 1.0, 0.625: 1.0, 1.0: 1.0},
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0, -1])
def test_dots_and_ratios_that_cannot_be_placed_are_refused(bad):
    with pytest.raises(ValueError, match="positive and finite"):
        calibration({"guess": bad})
    if not np.isfinite(bad):
        with pytest.raises(ValueError, match="not finite"):
            dots({"a": [1, bad]}, x="", title="")


def test_the_names_of_lines_that_lie_close_cover_no_point():
    axes = curves(TRADES, x="refused falsely", y="refused rightly", title="t", linear=True).axes[0]
    points = np.vstack([axes.transData.transform(line.get_xydata()) for line in axes.lines])
    boxes = boxes_of_texts(axes)
    assert len(boxes) == 3 and not any(box.padded(2).count_contains(points) for box in boxes)


def test_a_name_covers_no_interval_of_another_point():
    points = {"haneul-4m, q8": ((220, 200, 240), (80, 65, 90)), "another": ((430, 390, 460), (77, 62, 88))}
    points |= {"a fast one": ((1040, 960, 1320), (80, 65, 90))}
    axes = named_points(points, x="x", y="y", title="t").axes[0]
    (x, low), (_, high) = axes.transData.transform([(430, 62), (430, 88)])
    first = boxes_of_texts(axes)[0]
    assert first.x1 < x or first.y0 > high or first.y1 < low


def test_a_narrow_part_of_a_bar_keeps_its_colour():
    figure = stacked_bar({"search": 3.4, "read": 0.8, "write": 3.2}, 270, x="minutes", title="t")
    pixels = np.asarray(Image.open(BytesIO(figure.png())).convert("RGB"))
    rows = pixels[60:150, :60]  # not the legend, which has the colour, too
    colour = [int(COLOURS[1][i : i + 2], 16) for i in (1, 3, 5)]
    assert (abs(rows.astype(int) - colour).max(axis=2) < 40).any()
