"""Chapter 08's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import bisect
import itertools
import math

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge


def covering_by_rows(score, picture, patch):
    whole, rows = score(picture), []
    for top in range(0, len(picture), patch):
        row = []
        for left in range(0, picture.shape[1], patch):
            mask = np.zeros(picture.shape, bool)
            mask[top : top + patch, left : left + patch] = True
            row.append(whole - score(np.where(mask, 0.5, picture)))
        rows.append(row)
    return rows


def noise_by_points(x, sigma, points):
    exponents = [-sum((a - b) ** 2 for a, b in zip(x, p, strict=True)) / 2 / sigma**2 for p in points]
    weights = [math.exp(e - max(exponents)) for e in exponents]
    noises = [[(a - b) / sigma for a, b in zip(x, p, strict=True)] for p in points]
    total = sum(weights)
    return [sum(w * n[i] for w, n in zip(weights, noises, strict=True)) / total for i in (0, 1)]


def steps_by_counting(seconds, pictures, text, network, decode, guidance):
    spent = pictures * (text + decode) + (0 if guidance == 1 else text)
    steps = 0
    while (spent := spent + pictures * network * (1 if guidance == 1 else 2)) <= seconds + 1e-9:
        steps += 1
    return steps


def psnrs_by_pairs(values, chances):
    both = list(itertools.product(zip(values, chances, strict=True), repeat=2))
    drawn = sum(c * d * (v - w) ** 2 for (v, c), (w, d) in both)
    return [10 * math.log10(2 / drawn), -10 * math.log10(drawn)]


def split_by_blocks(large, truth, scale):
    seen = invented = 0.0
    for top in range(0, truth.shape[0], scale):
        for left in range(0, truth.shape[1], scale):
            block = (large - truth)[top : top + scale, left : left + scale]
            seen += scale**2 * block.mean() ** 2
            invented += scale**2 * block.var()
    return seen / truth.size, invented / truth.size


def threshold_by_trying(groups, most):
    candidates = sorted({d for distances in groups.values() for d in distances})

    def keeps(threshold):
        return all(bisect.bisect_left(sorted(d), threshold) <= most * len(d) + 1e-9 for d in groups.values())

    return max(c for c in candidates if keeps(c))


def alarms_by_logarithms(people, wanted, listed, far, frr):
    false = -(people - wanted) * math.expm1(listed * math.log1p(-far))
    return [false, 1 - (wanted - wanted * frr) / (false + wanted - wanted * frr)]


def memory_by_steps(parts):
    at_once = [sum(w for w, _ in parts) + work for _, work in parts]
    return [max(at_once), max(map(sum, parts))]


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("08.1", lambda *a: np.array(covering_by_rows(*a))),
        ("08.2", lambda *a: np.array(noise_by_points(*a))),
        ("08.3", steps_by_counting),
        ("08.4", psnrs_by_pairs),
        ("08.5", split_by_blocks),
        ("08.6", threshold_by_trying),
        ("08.7", alarms_by_logarithms),
        ("08.8", memory_by_steps),
    ],
)
def test_another_right_solution_is_right(exercise_id, answer):
    verdict, reply = judge(find_exercise(exercise_id), answer)
    assert verdict == "right", reply


@pytest.mark.parametrize("exercise_id", ["08.1", "08.2"])
def test_lists_in_place_of_arrays_are_right(exercise_id):
    answer = {"08.1": covering_by_rows, "08.2": noise_by_points}[exercise_id]
    verdict, reply = judge(find_exercise(exercise_id), answer)
    assert verdict == "right", reply


@pytest.mark.parametrize(
    ("exercise_id", "answer", "feedback"),
    [
        ("08.1", lambda score, picture, patch: None, "did you forget `return`?"),
        ("08.1", lambda *_: 1 / 0, "stopped with ZeroDivisionError"),
        ("08.1", lambda score, picture, patch: np.zeros(3), "it should give"),
        ("08.2", lambda x, sigma, points: 0.0, "it should give"),
        ("08.2", lambda x, sigma, points: 1 / 0, "stopped with ZeroDivisionError"),
        ("08.3", lambda *_: None, "did you forget `return`?"),
        ("08.4", lambda values, chances: 3.01, "it should give"),
        ("08.5", lambda large, truth, scale: (0, 0), "it should give"),
        ("08.6", lambda groups, most: 0.0, "it should give"),
        ("08.7", lambda *_: (0, 0), "it should give"),
        ("08.8", lambda parts: sum(map(sum, parts)), "it should give"),
    ],
)
def test_an_unusual_wrong_answer_gets_a_reply(exercise_id, answer, feedback):
    verdict, reply = judge(find_exercise(exercise_id), answer)
    assert verdict == "not yet" and feedback in reply, reply


def test_a_denoiser_that_fails_far_away_is_told_so():
    def naive(x, sigma, points):
        weights = np.exp(-((x - points) ** 2).sum(1) / (2 * sigma**2))
        if not weights.sum():
            raise ValueError("no weight")
        return (x - weights @ points / weights.sum()) / sigma

    assert "far from all points it stopped with ValueError" in judge(find_exercise("08.2"), naive)[1]
