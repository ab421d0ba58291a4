"""The Fréchet distance: scipy's matrix square root as oracle."""

import numpy as np
import pytest

from course_lib.measure.frechet import frechet_distance


def features(pictures=200, width=6, seed=0, mean=0.0, rank=None):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(rank or width, width))
    return rng.normal(size=(pictures, rank or width)) @ mixing + mean


@pytest.mark.parametrize("rank", [6, 3])  # 3: a covariance that has no inverse
def test_it_is_the_formula_with_scipys_square_root(rank):
    from scipy.linalg import sqrtm

    a, b = features(rank=rank), features(150, seed=1, mean=0.7, rank=rank)
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * np.real(sqrtm(c @ d)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-5)


def test_a_set_is_at_distance_0_from_itself_and_a_shift_at_its_square():
    a = features()
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2.0) == pytest.approx(6 * 4.0)


def test_of_one_dimension_it_is_the_difference_of_means_and_deviations():
    a, b = features(width=1), features(width=1, seed=3, mean=1.0)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(
    "a, b, message",
    [
        (features(), features(width=5), "one width"),
        (features(), features()[0], "one width"),
        (features(6), features(), "more than the 6 dimensions"),
    ],
)
def test_what_has_no_covariance_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
