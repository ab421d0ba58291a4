"""Verification of faces: scikit-learn's ROC as oracle, and intervals that cover."""

import numpy as np
import pytest

from course_lib.measure import verification
from course_lib.measure.verification import all_pairs, far_and_tar, roc, tar_at_far, threshold_at


def draw(identities=30, pictures=5, spread=0.9, seed=0):
    """Embeddings of identities that overlap."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(identities, 8)), pictures, axis=0)
    return centres + rng.normal(size=centres.shape) * spread, np.repeat(np.arange(identities), pictures)


PAIRS = all_pairs(*draw())


def test_pairs_are_all_pairs_with_their_cosine():
    embeddings, identities = draw(3, 2)
    pairs = all_pairs(embeddings, [f"person {i}" for i in identities])
    assert len(pairs.similarity) == 6 * 5 / 2 and pairs.same.sum() == 3
    i, j = pairs.first[4], pairs.second[4]
    norms = np.linalg.norm(embeddings[i]) * np.linalg.norm(embeddings[j])
    assert pairs.similarity[4] == pytest.approx(embeddings[i] @ embeddings[j] / norms)


def test_roc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_curve

    far, tar, thresholds = roc_curve(PAIRS.same, PAIRS.similarity, drop_intermediate=False)
    ours = roc(PAIRS)
    np.testing.assert_allclose(ours.far, far[1:])  # scikit-learn begins with a threshold of infinity
    np.testing.assert_allclose(ours.tar, tar[1:])
    np.testing.assert_allclose(ours.threshold, thresholds[1:])


@pytest.mark.parametrize("far", [0.3, 0.01, 1e-3, 1 / int((~PAIRS.same).sum())])
@pytest.mark.parametrize("decimals", [15, 2])  # rounded to two, many similarities are equal
def test_tar_at_far_is_that_of_scikit_learn(far, decimals):
    from sklearn.metrics import roc_curve

    pairs = all_pairs(*draw())
    pairs.similarity[:] = pairs.similarity.round(decimals)
    rates, tar, _ = roc_curve(pairs.same, pairs.similarity, drop_intermediate=False)
    found = tar_at_far(pairs, far)
    assert found.value == pytest.approx(tar[rates <= far + 1e-12].max())
    assert found.low <= found.value <= found.high
    rate, at_threshold = far_and_tar(pairs, threshold_at(pairs, far))
    assert rate.value <= far and at_threshold.value == pytest.approx(found.value)


def test_resampling_identities_is_the_same_as_copying_their_pictures(monkeypatch):
    """A resample's weights give the rates of a data set in which the drawn identities' pictures are repeated,
    without pairs of an identity's copies among each other."""
    embeddings, identities = draw(6, 3)
    pairs, seen = all_pairs(embeddings, identities), []
    monkeypatch.setattr(verification, "DRAWS", 1)
    verification._resample(pairs, seen.append)
    times = np.bincount(np.random.default_rng(0).integers(0, 6, 6), minlength=6)
    copies = [(identity, c) for identity in range(6) for c in range(times[identity])]
    same = different = 0
    for i, (a, x) in enumerate(copies):
        for b, y in copies[i:]:
            if a != b:
                different += int(((pairs.similarity >= 0.5) & is_pair(pairs, a, b)).sum())
            elif x == y:
                same += int(((pairs.similarity >= 0.5) & is_pair(pairs, a, a)).sum())
    accepted = seen[0] * (pairs.similarity >= 0.5)
    assert accepted[pairs.same].sum() == same and accepted[~pairs.same].sum() == different


def is_pair(pairs, a, b):
    sides = np.stack([pairs.identity[pairs.first], pairs.identity[pairs.second]])
    return (np.sort(sides, 0) == np.array([[min(a, b)], [max(a, b)]])).all(0)


def test_the_interval_covers_the_rate_of_the_population(monkeypatch):
    monkeypatch.setattr(verification, "DRAWS", 200)
    truth = far_and_tar(all_pairs(*draw(400, 4, seed=99)), 0.6)
    hits = np.zeros(2)
    for seed in range(40):
        for i, found in enumerate(far_and_tar(all_pairs(*draw(25, 4, seed=seed)), 0.6)):
            hits[i] += found.low <= truth[i].value <= found.high
    assert hits.min() >= 33, hits  # of 40, at 95%; below 33 in fewer than 1 in 1,000


def test_the_interval_is_wider_than_that_of_independent_pairs():
    from course_lib.measure import proportion_interval

    far, _ = far_and_tar(PAIRS, 0.5)
    different = int((~PAIRS.same).sum())
    low, high = proportion_interval(round(far.value * different), different)
    assert far.high - far.low > 1.5 * (high - low)


@pytest.mark.parametrize("far", [0, 1, -1, float("nan"), 1e-6])
def test_a_rate_that_the_pairs_cannot_show_is_refused(far):
    with pytest.raises(ValueError, match="different pairs"):
        tar_at_far(PAIRS, far)


@pytest.mark.parametrize(
    "embeddings, identities, message",
    [
        ([[1.0, 0.0]] * 3, [1, 2], "shape"),
        ([[1.0, 0.0]] * 3, [1, 2, 3], "same and different"),
        ([[1.0, 0.0]] * 3, [1, 1, 1], "same and different"),
        ([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], [1, 1, 2], "no direction"),
        ([[1.0, 0.0], [float("nan"), 0.0], [1.0, 1.0]], [1, 1, 2], "no direction"),
    ],
)
def test_what_makes_no_pairs_is_refused(embeddings, identities, message):
    with pytest.raises(ValueError, match=message):
        all_pairs(np.array(embeddings), identities)


def test_a_part_of_the_pairs_can_be_measured():
    dim = PAIRS.first % 2 == 0
    part = PAIRS.where(dim)
    assert len(part.similarity) == dim.sum() and (part.similarity == PAIRS.similarity[dim]).all()
    assert far_and_tar(part, 0.5)[1].value == (part.similarity[part.same] >= 0.5).mean()
