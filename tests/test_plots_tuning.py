"""The pictures of how models learn: what is drawn is what was given, and sizes are to scale."""

import pytest
from matplotlib.colors import to_hex

from course_lib.models.planner.gpus import gpu_bytes
from course_lib.plots import COLOURS, losses, low_rank, training_memory
from course_lib.plots.diagrams import LONGEST_SIDE, THINNEST_SIDE
from course_lib.tuning.cost import Cost, adapter_weights, training_bytes


def rectangles(axes):
    """Name -> (height, width) of what is drawn."""
    return {patch.get_label(): (patch.get_height(), patch.get_width()) for patch in axes.patches}


def overlaps(figure):
    """Pairs of texts that lie on each other, and texts that reach out of the picture."""
    figure.draw_without_rendering()
    texts = [t for a in figure.axes for t in (*a.texts, a.title) if t.get_text()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    found = [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]
    return found + [
        a
        for a, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1
    ]


# -- an adapter


@pytest.mark.parametrize(
    ("outputs", "inputs", "rank"), [(256, 64, 8), (128, 512, 16), (512, 512, 6), (16, 16, 16), (100, 100, 1)]
)
def test_matrices_are_drawn_to_scale(outputs, inputs, rank):
    drawn, scale = rectangles(low_rank(outputs, inputs, rank).axes[0]), LONGEST_SIDE / max(outputs, inputs)
    sides = {"W": (outputs, inputs), "B": (outputs, rank), "A": (rank, inputs)}
    assert drawn == {
        name: pytest.approx((down * scale, across * scale)) for name, (down, across) in sides.items()
    }


def test_a_unit_is_as_long_across_as_up():
    figure = low_rank(128, 512, 16)
    (x0, y0), (x1, y1) = figure.axes[0].transData.transform([(0, 0), (100, 100)])
    assert x1 - x0 == pytest.approx(y1 - y0)


def test_what_is_too_thin_to_be_seen_is_thicker_and_told():
    drawn = rectangles(low_rank(4096, 4096, 8).axes[0])
    assert drawn == {
        "W": (LONGEST_SIDE, LONGEST_SIDE),
        "B": (LONGEST_SIDE, THINNEST_SIDE),
        "A": (THINNEST_SIDE, LONGEST_SIDE),
    }
    title = low_rank(4096, 4096, 8).axes[0].get_title()
    assert title == "Rank 8: 65,536 weights beside 16,777,216, 0.39%\nthin sides not to scale"
    assert rectangles(low_rank(4, 4096, 2).axes[0])["B"] == (THINNEST_SIDE, THINNEST_SIDE)
    assert [("not to scale" in low_rank(100, 100, rank).axes[0].get_title()) for rank in (1, 2)] == [
        False,
        False,
    ]
    assert [("not to scale" in low_rank(200, 200, rank).axes[0].get_title()) for rank in (1, 2)] == [
        True,
        False,
    ]


def test_weights_are_written_and_add_up():
    axes = low_rank(256, 64, 8).axes[0]
    assert [t.get_text() for t in axes.texts] == [
        "W: 256 x 64\n16,384 weights",
        "+",
        "B: 256 x 8\n2,048 weights",
        "x",
        "A: 8 x 64\n512 weights",
        "",
    ]
    assert (
        axes.get_title() == f"Rank 8: {adapter_weights({'W': (256, 64)}, 8):,} weights beside 16,384, 15.62%"
    )


@pytest.mark.parametrize(
    "sides", [(256, 64, 8), (128256, 64, 8), (128256, 16384, 64), (4, 4096, 2), (1, 1, 1), (14336, 4096, 16)]
)
def test_no_label_lies_on_another_or_outside(sides):
    figure = low_rank(*sides)
    assert overlaps(figure) == []
    for text, patch in zip(figure.axes[0].texts[::2], figure.axes[0].patches, strict=True):
        assert text.get_window_extent().y1 < patch.get_window_extent().y0, "a label stands below its matrix"


@pytest.mark.parametrize("rank", [0, -1, 65])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(ValueError, match=rf"rank {rank} for 256 x 64"):
        low_rank(256, 64, rank)


# -- memory

COSTS = {
    "full": training_bytes(7_000_000_000),
    "LoRA": training_bytes(7_000_000_000, 20_000_000),
    "QLoRA": training_bytes(7_000_000_000, 20_000_000, 4.5),
}
GPU = gpu_bytes("GeForce RTX 3090, 24 GB")


def test_bars_are_as_long_as_their_bytes_and_touch():
    axes = training_memory(COSTS, GPU).axes[0]
    assert len(axes.patches) == 9
    for row, cost in enumerate(COSTS.values()):
        bars = axes.patches[3 * row : 3 * row + 3]
        assert [bar.get_width() for bar in bars] == pytest.approx([part / 1e9 for part in cost])
        assert [bar.get_x() for bar in bars] == pytest.approx(
            [0, cost.weights / 1e9, (cost.weights + cost.gradients) / 1e9]
        )
        assert {bar.get_y() + bar.get_height() / 2 for bar in bars} == {row}
        assert [to_hex(bar.get_facecolor()) for bar in bars] == list(COLOURS[:3])
        assert [bar.get_hatch() for bar in bars] == ["", "//", ".."]
    assert axes.yaxis_inverted() and axes.get_xlim()[1] > 112 and axes.get_xlabel() == "GB"


def test_every_number_is_written():
    figure = training_memory(COSTS, GPU)
    assert [t.get_text() for t in figure.axes[0].texts] == [
        "full: 112.00 GB = 14.00 weights + 14.00 gradients + 84.00 optimiser",
        "LoRA: 14.32 GB = 14.04 weights + 0.04 gradients + 0.24 optimiser",
        "QLoRA: 4.26 GB = 3.98 weights + 0.04 gradients + 0.24 optimiser",
    ]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "weights",
        "gradients",
        "optimiser",
        "card: 25.77 GB",
    ]
    assert [patch.get_hatch() for patch in figure.legends[0].get_patches()] == ["", "//", ".."]
    assert overlaps(figure) == []


def test_the_card_is_a_dashed_line_and_may_be_left_out():
    (line,) = training_memory(COSTS, GPU).axes[0].lines
    assert list(line.get_xdata()) == [GPU / 1e9] * 2 and line.get_linestyle() == "--"
    assert training_memory({"a": COSTS["QLoRA"]}, GPU).axes[0].get_xlim()[1] > GPU / 1e9
    without = training_memory(COSTS)
    assert not without.axes[0].lines and len(without.legends[0].get_texts()) == 3


def test_small_models_have_more_digits_and_none_has_a_picture():
    (text,) = training_memory({"full $a$": training_bytes(4_000_000)}).axes[0].texts
    assert text.get_text() == "full $a$: 0.0640 GB = 0.0080 weights + 0.0080 gradients + 0.0480 optimiser"
    assert not text.get_parse_math()
    nothing = training_memory({"none": Cost(0, 0, 0)})
    assert nothing.png() and nothing.axes[0].texts[0].get_text().startswith("none: 0.00 GB = 0.00 weights")


@pytest.mark.parametrize(
    ("costs", "card"),
    [
        ({}, None),
        ({"a": (-1, 0, 0)}, None),
        ({"a": (float("nan"), 0, 0)}, None),
        ({"a": (1, 1, 1)}, -1),
        ({"a": (1, 1, 1)}, float("inf")),
    ],
)
def test_bytes_that_cannot_be_are_refused(costs, card):
    with pytest.raises(ValueError, match="nothing to draw, or a number"):
        training_memory(costs, card)


# -- losses

LINES = {"training": {step: 3 / step for step in range(1, 101)}, "validation": {50: 0.4, 100: 0.5}}


def test_every_loss_and_the_kept_step_are_drawn():
    figure = losses(LINES, {"validation": 50}, title="T")
    training, validation, kept = figure.axes[0].lines
    for line, points in ((training, LINES["training"]), (validation, LINES["validation"]), (kept, {50: 0.4})):
        assert dict(zip(*line.get_data(), strict=True)) == points
    assert (training.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    assert (training.get_marker(), validation.get_marker(), kept.get_marker()) == ("", "o", "*")
    assert kept.get_color() == validation.get_color() == COLOURS[1] != training.get_color()
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["training", "validation", "kept: step 50"]
    assert [t.get_color() for t in axes.texts[:2]] == [training.get_color(), validation.get_color()]
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("T", "step", "loss, nats per token")
    assert not figure.legends and "validation" in figure.alt


def test_names_beside_lines_stay_inside_the_axes():
    figure = losses({"from the left": {10: 1.0, 20: 0.7, 160: 0.5}, "to the right": {20: 0.8, 240: 0.1}})
    figure.draw_without_rendering()
    axes = figure.axes[0]
    inside = axes.get_window_extent()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 2 and all(inside.x0 <= b.x0 and b.x1 <= inside.x1 for b in boxes)


def test_four_lines_and_their_kept_steps_differ_without_colour():
    four = {str(i): {1: 1.0, 2: i} for i in range(4)}
    lines = losses(four, {name: 2 for name in four}).axes[0].lines
    assert (
        len({line.get_linestyle() for line in lines[:4]}) == 4
        and len({line.get_marker() for line in lines[4:]}) == 4
    )


def test_nothing_is_marked_where_nothing_was_kept():
    assert len(losses(LINES).axes[0].lines) == 2
    assert losses({"one": {5: 1.0}}).png()


def test_steps_are_whole_numbers():
    axes = losses({"a": {1: 1.0, 2: 0.5, 3: 0.4}}).axes[0]
    assert all(tick == int(tick) for tick in axes.get_xticks())


@pytest.mark.parametrize(
    ("lines", "best", "match"),
    [
        ({}, {}, "0 lines"),
        ({str(i): {1: 1.0} for i in range(5)}, {}, "5 lines"),
        ({"a": {}}, {}, "has no points"),
        ({"a": {1: float("nan")}}, {}, "not finite"),
        ({"a": {1: float("inf")}}, {}, "not finite"),
        ({"a": {1: 1.0}}, {"a": 2}, "kept step a: 2"),
        ({"a": {1: 1.0}}, {"b": 1}, "kept step b: 1"),
    ],
)
def test_losses_that_cannot_be_drawn_are_refused(lines, best, match):
    with pytest.raises(ValueError, match=match):
        losses(lines, best)
