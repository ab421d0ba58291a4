"""Diagrams of how a model runs: reading and writing in time, a cut prompt, packed weights, shared heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.patches import Rectangle

from course_lib.plots.base import COLOURS, Picture, check_numbers, new_picture


def timeline(arrived: Sequence[float], *, x: str, title: str) -> Picture:
    """Draw when the pieces of a streamed answer arrived: a bar until the first, a line for each piece.

    Describe in the text below the figure: how long the prompt was read, and how long was written. Raises
    ValueError without pieces, and for a time that is negative or not finite.
    """
    check_numbers(arrived, low=0)
    first, last = arrived[0], arrived[-1]
    figure, axes = new_picture(7, 1.9, xlabel=x, title=title)
    axes.barh([0], [first], height=0.5, color=COLOURS[0], hatch="//", edgecolor="white")
    axes.barh([0], [last - first], left=[first], height=0.5, color="white", edgecolor=COLOURS[1])
    axes.vlines(arrived, -0.25, 0.25, color=COLOURS[1], linewidth=1)
    text: dict[str, Any] = {"va": "bottom", "fontsize": "medium"}
    axes.text(0, 0.33, f"reading (prefill): {first:.0f}", color=COLOURS[0], ha="left", **text)
    written = f"writing (decode), {len(arrived)} pieces: {last - first:.0f}"
    axes.text(last, 0.33, written, color=COLOURS[1], ha="right", **text)
    axes.set(ylim=(-0.4, 0.8), xlim=(0, 1.02 * last or 1), yticks=[])
    return figure


def cut_prompt(tokens: int, context: int, parts: Sequence[tuple[str, int]]) -> Picture:
    """Draw a prompt of named parts (name, tokens), above what is left when its beginning is cut off.

    Describe in the text below the figure: which parts are lost. context: the tokens that the model reads.
    Raises ValueError unless the parts add up to `tokens` and `context` is less.
    """
    if sum(size for _, size in parts) != tokens or not 0 < context < tokens:
        raise ValueError(f"{parts} in {context}: the parts must add up to {tokens}, more than the context")
    figure, axes = new_picture(7.5, 2.2, title="A prompt that is cut at its beginning")
    start, lost = 0, tokens - context
    for (name, size), colour in zip(parts, COLOURS * len(parts), strict=False):
        for row, left in ((1, start), (0, max(start, lost))):
            width = start + size - left
            if width > 0:
                axes.add_patch(
                    Rectangle((left, row - 0.3), width, 0.6, facecolor="white", edgecolor=colour, lw=2)
                )
                narrow = width < 0.1 * tokens
                axes.text(
                    left + width / 2,
                    row + 0.42 * narrow,
                    name if row or not narrow else "",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=9,
                )
        start += size
    axes.add_patch(Rectangle((0, -0.3), lost, 0.6, facecolor="none", edgecolor="grey", hatch="xx", ls=":"))
    axes.text(lost / 2, -0.5, f"cut off: {lost:,} tokens", ha="center", va="top", color="dimgrey")
    axes.text(lost + context / 2, -0.5, f"read: {context:,} tokens", ha="center", va="top")
    axes.set(xlim=(-0.01 * tokens, 1.01 * tokens), ylim=(-0.95, 1.4))
    axes.set_yticks([1, 0], ["sent", "read"])
    axes.set_xticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def packed_block(codes: Sequence[int], scale: float) -> Picture:
    """Draw how 32 weights are stored in the format Q4_0: 2 bytes of scale, then 16 with two 4-bit codes each.

    Describe in the text below the figure: 18 bytes for 32 weights; a byte holds the codes i and i + 16.
    Raises ValueError unless there are 32 codes from 0 to 15.
    """
    if len(codes) != 32 or not all(0 <= code < 16 for code in codes):
        raise ValueError(f"{len(codes)} codes; a block has 32, from 0 to 15")
    figure, axes = new_picture(9, 1.7, title="18 bytes for 32 weights: a block of Q4_0")
    axes.add_patch(Rectangle((0, 0), 2, 2, facecolor="white", edgecolor=COLOURS[1], lw=2, hatch="//"))
    axes.text(1, 1, f"{scale:.3g}", ha="center", va="center", fontsize=8, bbox={"fc": "white", "ec": "none"})
    for i in range(16):
        for row, code in ((1, codes[i]), (0, codes[16 + i])):
            axes.add_patch(Rectangle((2 + i, row), 1, 1, facecolor="white", edgecolor=COLOURS[0]))
            axes.text(2.5 + i, row + 0.5, str(code), ha="center", va="center", fontsize=9)
    axes.text(1, -0.2, "scale\n2 bytes", ha="center", va="top", color=COLOURS[1], fontsize=9)
    label = (
        "16 bytes, each with two codes: above of weight i (low 4 bits), below of weight i + 16 (high 4 bits)"
    )
    axes.text(10, -0.2, label, ha="center", va="top", color=COLOURS[0], fontsize=9)
    axes.set(xlim=(-0.1, 18.1), ylim=(-1.1, 2.1))
    axes.axis("off")
    return figure


def shared_heads(heads: int, kv_heads: int) -> Picture:
    """Draw which attention heads share a KV head, that is, stored keys and values (grouped-query attention).

    A head is a part of a layer that compares tokens. Describe in the text below the figure: how many share
    one. Raises ValueError unless kv_heads divides heads.
    """
    if not 0 < kv_heads <= heads or heads % kv_heads:
        raise ValueError(f"{heads} heads cannot share {kv_heads} KV heads evenly")
    figure, axes = new_picture(8, 1.9, title=f"{heads} heads share {kv_heads} KV heads")
    group = heads // kv_heads
    for head in range(heads):
        kv = head // group
        middle = kv * group + (group - 1) / 2
        axes.plot([head, middle], [1, 0], color="grey", linewidth=0.8)
        axes.plot([head], [1], "o", color=COLOURS[0], markersize=6)
        axes.plot([middle], [0], "s", color=COLOURS[1], markersize=11)
    axes.text(-1.2, 1, "heads", ha="right", va="center", color=COLOURS[0])
    axes.text(-1.2, 0, "stored: keys and values", ha="right", va="center", color=COLOURS[1])
    axes.set(xlim=(-0.32 * heads, heads), ylim=(-0.4, 1.4))
    axes.axis("off")
    return figure
