"""Measure how similar two pictures are, and which facts a picture's caption states rightly. For chapter 08.

To compare whole captions, use `==`, or `course_lib.rag.token_f1` for the share of equal words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

PEAK = 255.0  # the largest value of a colour in 8 bits
SIGMA, RADIUS = 1.5, 5  # the Gaussian window of `ssim`, in pixels
K1, K2 = 0.01, 0.03  # keep `ssim` from dividing by 0, as in its paper


def psnr(picture: Image, reference: Image) -> float:
    """Return the peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared error of the colours).

    It is infinite for equal pictures. Raises ValueError for pictures of different sizes or modes.
    """
    a, b = _colours(picture, reference)
    error = float(((a - b) ** 2).mean())
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


def ssim(picture: Image, reference: Image) -> float:
    """Return the mean structural similarity, 1 for equal pictures.

    It compares means, variances and covariance of the colours in Gaussian windows of 11 x 11 pixels that lie
    within the picture (Wang et al. 2004, doi:10.1109/TIP.2003.819861). Raises ValueError for smaller
    pictures, and for different sizes or modes.
    """
    a, b = _colours(picture, reference)
    if min(a.shape[:2]) < 2 * RADIUS + 1:
        raise ValueError(
            f"a picture of {picture.width} x {picture.height}; SSIM needs at least 11 x 11 pixels"
        )
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a, variance_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    means = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((means * (2 * covariance + c2) / (variance_a + variance_b + c2)).mean())


def facts_right(caption: str, template: str, facts: Mapping[str, str]) -> dict[str, bool]:
    """Return for each fact that `template` names whether the caption states it in the right place.

    template: a caption with fields, as for `str.format`, such as "A card in {colour}: {product}, number
    {number}.". If the caption has another form, no fact is right.

    >>> facts_right("A ticket: number 201, counter 3.", "A ticket: number {number}, counter {counter}.",
    ...             {"number": "201", "counter": "8"})
    {'number': True, 'counter': False}
    """
    literal = re.split(r"\{(\w+)\}", template)
    pattern = "".join(f"(?P<{p}>.+?)" if i % 2 else re.escape(p) for i, p in enumerate(literal))
    match = re.fullmatch(pattern, caption)
    return {name: bool(match and match[name] == facts[name]) for name in literal[1::2]}


def bleu(captions: Sequence[str], references: Sequence[str]) -> float:
    """Return corpus BLEU, from 0 to 100 (Papineni et al. 2002, doi:10.3115/1073083.1073135).

    For n = 1 to 4 it takes the share of the runs of n words in all captions that are in the references too,
    then the geometric mean of the four, times a penalty if the captions are shorter than the references. Each
    caption has one reference; there is no smoothing. Raises ValueError for another number of references, and
    for no captions.
    """
    if not captions or len(captions) != len(references):
        raise ValueError(f"{len(captions)} captions and {len(references)} references; BLEU needs pairs")
    written, wanted = (
        [re.findall(r"\w+|[^\w\s]", text) for text in texts] for texts in (captions, references)
    )
    shares = []
    for n in range(1, 5):
        pairs = [(_runs(words, n), _runs(others, n)) for words, others in zip(written, wanted, strict=True)]
        count = sum(runs.total() for runs, _ in pairs)
        shares.append(sum((runs & known).total() for runs, known in pairs) / max(1, count))
    if not all(shares):
        return 0.0
    penalty = min(1.0, math.exp(1 - sum(map(len, wanted)) / sum(map(len, written))))
    return 100 * penalty * math.prod(shares) ** (1 / 4)


def _runs(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    """Return run of n words -> how often it occurs."""
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _colours(picture: Image, reference: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The colours of both pictures: (height, width, channels)."""
    import numpy as np

    if (picture.size, picture.mode) != (reference.size, reference.mode):
        sizes = [f"{p.width} x {p.height} {p.mode}" for p in (picture, reference)]
        raise ValueError(f"pictures of {sizes[0]} and {sizes[1]} cannot be compared")
    a, b = (np.atleast_3d(np.asarray(p, np.float64)) for p in (picture, reference))
    return a, b


def _smooth(values: NDArray[Any]) -> NDArray[Any]:
    """The Gaussian-weighted mean of every window that lies within the picture."""
    import numpy as np

    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(values, len(weights), axis)
        values = windows @ weights
    return values
