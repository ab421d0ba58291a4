"""Diagrams of how a model runs: a test looks at what is drawn."""

import pytest

from course_lib.plots import cut_prompt, packed_block, shared_heads, timeline


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_a_timeline_has_a_line_for_every_piece():
    figure = timeline([300, 310, 325], x="ms", title="t")
    assert texts(figure) == ["reading (prefill): 300", "writing (decode), 3 pieces: 25"]
    assert len(figure.axes[0].collections[0].get_segments()) == 3 and figure.png()
    assert [bar.get_width() for bar in figure.axes[0].patches] == [300, 25]


def test_a_cut_prompt_loses_its_beginning():
    figure = cut_prompt(100, 60, [("first", 30), ("second", 60), ("question", 10)])
    assert {"cut off: 40 tokens", "read: 60 tokens", "first", "question"} <= set(texts(figure))
    below = [patch for patch in figure.axes[0].patches if patch.get_y() < 0]
    assert sum(p.get_width() for p in below if p.get_x() >= 40) == 60


def test_a_block_shows_every_code():
    figure = packed_block([*range(16), *range(16)], -0.25)
    assert sorted(t for t in texts(figure) if t.isdigit()) == sorted(map(str, [*range(16), *range(16)]))
    assert "-0.25" in texts(figure)


def test_heads_share_kv_heads():
    lines = shared_heads(8, 2).axes[0].lines
    assert sum(line.get_marker() == "o" for line in lines) == 8
    assert len({tuple(line.get_xdata()) for line in lines if line.get_marker() == "s"}) == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda: timeline([], x="ms", title="t"),
        lambda: cut_prompt(100, 100, [("all", 100)]),
        lambda: cut_prompt(100, 50, [("half", 50)]),
        lambda: packed_block([0] * 31, 1.0),
        lambda: packed_block([16] * 32, 1.0),
        lambda: shared_heads(8, 3),
        lambda: shared_heads(8, 0),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw):
    with pytest.raises(ValueError, match=r"\d|nothing"):
        draw()
