"""Names in charts: in the finished picture each covers no line, no point and no other name."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from course_lib.learn.widgets.selection_guide import selection_guide
from course_lib.plots import bounded_choice, curves, lines_with_intervals, named_points, rankings, scatter
from course_lib.plots.labels import MOST_TRIED, within
from course_lib.plots.search_charts import WIDEST


def covered(figure):
    """What the names of a finished picture cover: lines, intervals, marked points, each other, the edge."""
    figure.png()
    (axes,) = figure.axes
    boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts if text.get_visible()}
    found = [(name, "outside") for name, box in boxes.items() if axes.bbox.count_contains(box.corners()) < 4]
    for i, (name, box) in enumerate(boxes.items()):
        found += [(name, other) for other, b in list(boxes.items())[:i] if box.overlaps(b)]
        for line in axes.lines:
            path = line.get_path().transformed(line.get_transform())
            joined = line.get_linestyle() != "None" and line.get_zorder() >= 2
            found += [(name, line.get_label())] * (joined and path.intersects_bbox(box, filled=False))
            marked = line.get_marker() not in ("None", "") and line.get_zorder() >= 2
            found += [(name, "a point")] * (marked and bool(box.padded(2).count_contains(path.vertices)))
        for lines in axes.collections:
            if isinstance(lines, LineCollection):
                paths = (path.transformed(axes.transData) for path in lines.get_paths())
                found += [(name, "an interval") for path in paths if path.intersects_bbox(box, filled=False)]
    return found


@pytest.mark.parametrize("limit", [3.0, 8.0, 21.4])
def test_a_limit_runs_through_no_name(limit):  # chapter 01
    models = {"haneul-300k": (1.38, 0.09), "haneul-1m": (5.5, 0.79), "haneul-4m": (17.8, 0.85)}
    assert not covered(bounded_choice(models, limit, "haneul-4m", x="", y="", title="t"))


FORMATS = {"300k q4_0": (0.2, 10), "300k q8_0": (0.37, 8), "300k float32": (1.38, 8), "1m q4_0": (0.78, 67)}
FORMATS |= {"1m q8_0": (1.47, 79), "1m float32": (5.51, 79), "4m q4_0": (2.52, 84), "4m q8_0": (4.74, 85)}
FORMATS |= {"4m nf4": (6.12, 84), "4m int8": (7.66, 85), "4m bfloat16": (8.92, 85), "4m float32": (17.8, 85)}


def test_names_of_a_dozen_points_that_lie_close():  # chapter 02
    points = {name: ((mb, mb, mb), (right, right - 8, right + 7)) for name, (mb, right) in FORMATS.items()}
    figure = named_points(points, x="MB", y="right, %", title="t")
    assert not covered(figure) and not figure.legends
    (axes,) = figure.axes
    arrows = [text.arrow_patch for text in axes.texts if text.arrow_patch.get_visible()]
    ends = [arrow.get_path().vertices for arrow in arrows]
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert arrows and len(arrows) < len(points)
    for start, *_, end in ends:
        along = start + np.linspace(0, 0.9, 50)[:, None] * (end - start)
        assert sum(bool(box.padded(-1).count_contains(along)) for box in boxes) <= 1  # its own


def weights(frequencies):
    return {df: float(np.log(1 + (252 - df + 0.5) / (df + 0.5))) for df in frequencies}


def test_names_of_a_bent_line_of_many_points_and_of_its_notes():  # chapter 03
    rare, common = range(1, 121), range(130, 253, 9)
    lines = {"rank-bm25, up to half": {df: float(np.log((252 - df + 0.5) / (df + 0.5))) for df in rare}}
    lines |= {"rank-bm25, above half": dict.fromkeys(common, 1.15), "Lucene": weights((*rare, *common))}
    notes = {"card": (48, lines["rank-bm25, up to half"][48]), "is": (220, 1.15), "the": (247, 1.15)}
    assert not covered(curves(lines, x="x", y="y", title="t", notes=notes, linear=True))


MIXTURES = {  # chapter 03, nDCG at eleven weights
    "theoretical": (0.888, 0.8915, 0.895, 0.899, 0.9045, 0.906, 0.9085, 0.9105, 0.904, 0.885, 0.818),
    "min-max": (0.888, 0.8985, 0.905, 0.907, 0.909, 0.9055, 0.898, 0.886, 0.868, 0.845, 0.818),
    "rrf": (0.888, 0.898, 0.891, 0.890, 0.888, 0.8845, 0.873, 0.865, 0.855, 0.842, 0.818),
}


def test_names_of_lines_that_cross():
    lines = {name: {i / 10: value for i, value in enumerate(row)} for name, row in MIXTURES.items()}
    assert not covered(curves(lines, x="alpha", y="nDCG", title="t", linear=True))


def test_names_of_lines_and_levels_on_logarithmic_axes():  # chapters 02 and 07
    waits = {"static": {0.1: 8.5, 0.2: 5.7, 0.3: 4.9, 0.4: 5.4, 0.5: 18, 0.9: 58}}
    waits |= {"continuous": {0.1: 0.87, 0.2: 0.92, 0.3: 0.96, 0.4: 1.01, 0.5: 1.06, 0.9: 1.75}}
    figure = curves(waits, x="x", y="y", title="t", levels={"a level, q8_0": 12})
    assert not covered(figure)
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels(which="minor")]
    assert "0.6" in ticks and "60" in ticks and not any("e" in tick for tick in ticks)


def test_names_of_lines_that_end_at_one_place():  # chapter 01
    lines = {"first": {1: (0.1, 0.0, 0.2), 9: (0.5, 0.4, 0.6)}, "second": {1: (0.4, 0.3, 0.5)}}
    lines["second"][9] = (0.51, 0.4, 0.6)
    assert not covered(lines_with_intervals(lines, x="", y="", title="t", ticks={1: "1", 9: "9"}))


def test_names_of_groups_and_of_a_star_cover_no_point_of_a_group():  # chapter 03
    rng = np.random.default_rng(0)
    middles = {"cards": (0.1, 0.3), "security": (-0.2, 0), "mortgages": (0.4, -0.3), "complaints": (0, -0.25)}
    groups = {name: [tuple(p) for p in rng.normal(at, 0.15, (16, 2))] for name, at in middles.items()}
    others = [tuple(p) for p in rng.normal(0, 0.2, (150, 2))]
    figure = scatter(groups, title="t", others=others, notes={"My card was stolen!": (-0.2, 0.15)})
    assert not covered(figure)


def test_long_titles_stand_in_two_lines_and_the_picture_is_no_wider_than_a_page():  # chapter 04
    long = "Refunds and red days in the Haneul Hearth Monthly Bills Plan"
    before = ["Bills that pay something back", long, "The reminder before a bill"]
    figure = rankings({"before": before, "after": before[::-1]}, [long], title="t")
    assert figure.get_figwidth() <= WIDEST
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text.split() for text in texts if "\n" in text] == [long.split()] * 2
    assert "Bills that pay something back" in texts and not covered(figure)


def test_every_bar_bears_its_size_where_it_can_be_read():
    figure = selection_guide().output_for().picture
    assert not [pair for pair in covered(figure) if "_" not in pair[1]]  # _child0 is the limit
    (axes,) = figure.axes
    assert len(axes.texts) == len(axes.patches) and "37.0 GiB" in {text.get_text() for text in axes.texts}
    for text, bar in zip(axes.texts, axes.patches, strict=True):
        filled = bar.get_fill() and bar.get_window_extent().overlaps(Text.get_window_extent(text))
        assert not filled, text.get_text()


def test_names_in_hangul_are_placed_with_the_font_that_draws_them(recwarn):
    """Another font has no such glyphs, which matplotlib tells, and another width."""
    groups = {"예금": [(0, 0), (1, 1), (0.5, 0.2)], "카드": [(3, 3), (4, 3), (3.5, 3.4)]}
    scatter(groups, title="두 무리")
    named_points(
        {"하늘": ((1, 1, 1), (2, 2, 2)), "바다": ((2, 2, 2), (1, 1, 1))}, x="값", y="점수", title="점"
    )
    curves({"하늘": {1: 1, 2: 2}, "바다": {1: 2, 2: 1}}, x="값", y="점수", title="선", linear=True)
    assert not [str(w.message) for w in recwarn if "Glyph" in str(w.message)]


def test_the_name_of_a_note_covers_no_dot_of_another_note():
    notes = {"a rather long name": (1.5, 1.2), "b": (1.62, 1.2), "c": (1.7, 1.35), "d": (1.4, 1.3)}
    figure = curves({"line": {1: 1, 2: 2}}, x="x", y="y", title="t", notes=notes, linear=True)
    figure.png()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in axes.texts if text.get_visible()]
    dots = axes.transData.transform(list(notes.values()))
    assert not [box for box in boxes if box.count_contains(dots)]


def test_many_points_take_no_longer_to_look_at_than_a_few(monkeypatch):
    rng = np.random.default_rng(0)
    assert len(within(rng.random((5_000, 2)))) <= 1 + MOST_TRIED
    tried = []
    monkeypatch.setattr("course_lib.plots.point_charts.within", tried.append)
    scatter({str(i): rng.random((300, 2)) for i in range(5)}, title="t")
    assert not tried, "names in a legend need no place"
