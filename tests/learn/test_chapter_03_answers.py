"""Chapter 03's exercises accept other right solutions, and say what they expect for unusual wrong answers."""

import re
import unicodedata
from collections import Counter, defaultdict

import numpy as np
import pytest

from course_lib.learn.exercises import find_exercise
from course_lib.learn.exercises.engine import judge
from course_lib.retrieval import Tokenizer, fusion

OTHER_CASES = {
    "A": [["a", "b", "c"], {"a": 1, "b": 1, "d": 9}, 3],
    "B": (("x", "y", "a"), Counter(a=2), 3),
    "C": (["c", "a"], {"a": 1, "b": 1, "c": 1}, 1),
}
OTHER_COLLECTION = (["a b", "a c", "a r g", "a d", "r e", "r f"], "r a")


def marked_pieces(text):
    """Tokens may carry marks, and an order of their own."""
    for word in re.findall(r"[^\W\da-z]+|[a-z]+|\d+", unicodedata.normalize("NFKC", text).lower()):
        if word[0] < "가":
            yield word
            continue
        stem = next((word[: -len(p)] for p in ("에서", "으로", "까지", "부터") if word.endswith(p)), word)
        if len(stem) == 2 and stem[1] in "은는이가을를의에로와과도만":
            yield f"_{stem[0]}"  # beside the pair, for it may be a noun, such as 한도
        yield from {f"_{stem[i : i + 2]}" for i in range(max(1, len(stem) - 1))}


def with_defaultdict(words, meaning, alpha):
    fused = defaultdict(float)
    for leg, weight in ((words, 1 - alpha), (meaning, alpha)):
        for id_, score in fusion.min_max(leg).scores.items():
            fused[id_] += np.float64(weight * score)
    return fused


def by_gain(by_alpha, words, halves):
    """The alpha of the highest gain is that of the highest mean."""
    gains = {a: {i: nd - words[i] for i, nd in v.items()} for a, v in by_alpha.items()}
    first, second = halves
    left, right = (max(gains.values(), key=lambda g: sum(g[i] for i in half)) for half in (first, second))
    return (sum(right[i] for i in first) + sum(left[i] for i in second)) / len(words)


def sorted_by_distance(vectors, query, allowed, k):
    return sorted(np.flatnonzero(allowed), key=lambda i: np.linalg.norm(vectors[i] - query))[:k]


def as_array(vectors, query, allowed, k):
    scores_of_allowed = np.where(allowed, vectors @ query, -np.inf)
    return np.argsort(-scores_of_allowed)[: min(k, int(allowed.sum()))]


@pytest.mark.parametrize(
    ("id_", "answer"),
    [
        ("03.1", OTHER_CASES),
        ("03.2", OTHER_COLLECTION),
        ("03.3", marked_pieces),
        ("03.3", Tokenizer("bigrams")),
        ("03.4", with_defaultdict),
        ("03.5", lambda k, n: 1 / (1 + (k + 1) / (k + n))),
        ("03.6", by_gain),
        ("03.7", sorted_by_distance),
        ("03.7", as_array),
    ],
)
def test_another_right_solution_is_accepted(id_, answer):
    assert judge(find_exercise(id_), answer) == ("right", find_exercise(id_).title)


def fails_without_rows(vectors, query, allowed, k):
    """Take some candidates more, then filter; an error where nothing is allowed."""
    if not allowed.any():
        raise IndexError("no row")
    nearest = np.argsort(-(vectors @ query))[: 4 * k]
    return [int(row) for row in nearest if allowed[row]][:k]


@pytest.mark.parametrize(
    ("id_", "answer", "expected"),
    [
        ("03.1", [1, 2, 3], 'the keys "A", "B" and "C"'),
        ("03.1", dict.fromkeys("ABC", ("a", {"a": 1}, 1)), "a list of ids"),
        ("03.2", (["a b", ""], "a b"), "of 1 to 6 words each"),
        ("03.3", lambda text: text, "expected a list of strings"),
        ("03.3", lambda text: None, "expected a list of strings"),
        ("03.3", lambda text: [("카", "드")], "expected a list of strings"),
        ("03.4", lambda words, meaning, alpha: list(words), "it should give {"),
        ("03.4", lambda words, meaning, alpha: None, "returned None"),
        ("03.5", lambda k, n: "0.58", "it should give 0.582"),
        ("03.6", lambda *case: (0.4, 0.1), "it should give"),
        ("03.7", lambda v, q, allowed, k: allowed, "row indices"),
        ("03.7", lambda v, q, allowed, k: None, "row indices"),
        (
            "03.7",
            lambda v, q, allowed, k: ([2, 4], [0.9]),
            "gave ([2, 4], [0.9]); expected a list of row indices",
        ),
        ("03.7", lambda v, q, allowed, k: np.array(2), "gave array(2); expected a list of row indices"),
        ("03.7", fails_without_rows, "rows that are not allowed are nearer"),
        ("03.7", lambda v, q, allowed, k: [0], "gave [0]; it should be [2, 4]"),
    ],
)
def test_an_unusual_wrong_answer_gets_feedback(id_, answer, expected):
    verdict, reply = judge(find_exercise(id_), answer)
    assert verdict == "not yet" and expected in reply
