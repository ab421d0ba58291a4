"""The Fréchet distance of two sets of pictures: how far the one looks like the other as a whole.

It is computed from features, the vectors of numbers that a neural network computes for the pictures. With the
features of the network Inception it is the FID of research papers (Heusel et al. 2017, arXiv:1706.08500).
Chapter 08 uses the features of the course's own classifier; the two distances cannot be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def frechet_distance(features: NDArray[Any], others: NDArray[Any]) -> float:
    """Return the distance of two normal distributions fitted to features, (pictures, dimensions); 0 if equal.

    It is |m - n|^2 + trace(C + D - 2 (C D)^(1/2)) for means m, n and covariance matrices C, D. The fewer
    pictures, the more it overestimates, so compare only sets of equal size. Raises ValueError for shapes that
    do not match, and unless there are more pictures than dimensions.
    """
    a, b = np.asarray(features, np.float64), np.asarray(others, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features of shapes {a.shape} and {b.shape}; two tables of one width are needed")
    if min(len(a), len(b)) <= a.shape[1]:
        raise ValueError(f"{min(len(a), len(b))} pictures; more than the {a.shape[1]} dimensions are needed")
    c, d = np.cov(a, rowvar=False).reshape(2 * a.shape[1:]), np.cov(b, rowvar=False).reshape(2 * b.shape[1:])
    root = _root(c)
    # The eigenvalues of C D are those of C^(1/2) D C^(1/2), which is symmetric.
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ d @ root), 0, None)).sum()
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * cross
    return max(0.0, float(distance))


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
