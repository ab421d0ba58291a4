"""The checks of chapter 03: each takes an answer and returns None when it is right, else feedback."""

from __future__ import annotations

import math
import numbers
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from course_lib.learn.exercises.comparing import compare, known_mistake


def check_idf(idf: Callable[[int, int], float]) -> str | None:
    ratio = (100 - 3 + 0.5) / (3 + 0.5)
    right, base_2, base_10 = math.log(1 + ratio), math.log2(1 + ratio), math.log10(1 + ratio)
    plain, inverse, outside = math.log(100 / 3), math.log(1 + 1 / ratio), 1 + math.log(ratio)
    no_parentheses, one_parenthesis = math.log(1 + 97 + 0.5 / 3 + 0.5), math.log(1 + 97.5 / 3 + 0.5)
    may_be_negative, all_documents, no_log = math.log(ratio), math.log(1 + 100.5 / 3.5), 1 + ratio
    common = math.log(20.5 / 80.5)
    mistakes = {
        may_be_negative: (
            f"without the 1 + a word in 80 of 100 documents would weigh {common:.2f}: finding it would cost "
            "points"
        ),
        plain: (
            f"ln(n / df), {plain:.2f}, is the plain idf; Lucene's compares the documents without the word "
            f"with those that have it, {right:.2f}"
        ),
        base_2: f"{base_2:.2f} is the logarithm to base 2; the natural one, math.log, gives {right:.2f}",
        base_10: f"{base_10:.2f} is the logarithm to base 10; the natural one, math.log, gives {right:.2f}",
        no_log: (
            f"{no_log:.1f} still needs the logarithm: without it one rare word outweighs all others together"
        ),
        inverse: (
            f"upside down: a word in 3 of 100 documents would weigh {inverse:.2f}, one in 97 would weigh "
            f"{right:.2f}; the rare one says more"
        ),
        outside: f"{outside:.2f}: the 1 stands outside the logarithm; inside, no weight falls below 0",
        no_parentheses: "parentheses: all of n - df + 0.5 is divided by all of df + 0.5, 97.5 by 3.5",
        one_parenthesis: "parentheses: the second 0.5 belongs below the line, to df: 97.5 is divided by 3.5",
        all_documents: "above the line stand the documents without the word, n - df = 97, not all 100",
    }
    return compare("idf(3, 100)", idf(3, 100), right, mistakes) or compare(
        "idf(80, 100)", idf(80, 100), math.log(1 + 20.5 / 80.5)
    )


KOREAN = "카드를 잃은 후 카드 정지"
BIGRAMS = ["카드", "드를", "잃은", "후", "카드", "정지"]


def check_bigrams(bigrams: Callable[[str], Sequence[str]]) -> str | None:
    asked = f"bigrams({KOREAN!r})"
    given = bigrams(KOREAN)
    got = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if isinstance(given, str) or not all(isinstance(piece, str) for piece in got):
        return f"{asked} gave {given!r}; a list of strings is wanted"
    if Counter(got) == Counter(BIGRAMS):
        decomposed = list(bigrams(unicodedata.normalize("NFD", KOREAN)))
        if Counter(decomposed) == Counter(BIGRAMS):
            return None
        return (
            f"the same text came in NFD, where 잃 is three characters, and {len(decomposed)} pieces came "
            "back, not 6: first "
            'unicodedata.normalize("NFC", text)'
        )
    words = KOREAN.split()
    mistakes = (
        (
            [KOREAN[i : i + 2] for i in range(len(KOREAN) - 1)],
            "'를 ' holds a space: the pairs are of one word each, so split the text first",
        ),
        (
            [a + b for a, b in zip("".join(words), "".join(words)[1:], strict=False)],
            "'를잃' reaches across a space, from one word into the next: it stands in no word of the text",
        ),
        (
            [b for b in BIGRAMS if len(b) == 2],
            "후 is lost: a word of 1 syllable has no pair, and stays whole",
        ),
        (
            [w[i : i + 2] for w in words for i in range(0, len(w), 2)],
            "드를 is missing: pairs overlap, so go 1 syllable on each time, not 2",
        ),
        (
            [w[i : i + 2] for w in words for i in range(len(w))],
            (
                "the last syllable of every word came alone as well, such as 를: a word of 3 syllables has 2 "
                "pairs"
            ),
        ),
        (
            set(BIGRAMS),
            "카드 came once, and stands in the text twice: BM25 counts how often, so keep what is repeated",
        ),
        (
            [c for c in KOREAN if c != " "],
            "those are 10 single syllables; two neighbours together are wanted",
        ),
        (
            words,
            (
                "those are the 5 words; 카드를 should give 카드 and 드를, so that "
                "카드 finds it whatever ending it has"
            ),
        ),
    )
    return (
        known_mistake(got, mistakes, equal=lambda a, b: Counter(a) == Counter(b))
        or f"{asked} gave {got}; it should be {BIGRAMS}"
    )


RANKING, GRADES = ["x", "b", "a", "y", "c"], {"b": 1, "d": 2, "a": 3, "c": 2}


def _dcg(gains: Iterable[float]) -> float:
    """Discounted cumulative gain, written out as the student writes it: the check needs no search engine."""
    return sum(gain / math.log2(1 + place) for place, gain in enumerate(gains, start=1))


def check_ndcg(ndcg: Callable[[list[str], dict[str, int], int], float]) -> str | None:
    gains, grades = [GRADES.get(id_, 0) for id_ in RANKING], sorted(GRADES.values(), reverse=True)
    dcg, ideal = _dcg(gains[:3]), _dcg(grades[:3])
    ideal_of_first = _dcg(sorted(gains[:3], reverse=True))
    ideal_of_found = _dcg(sorted(gains, reverse=True)[:3])
    exponential = _dcg(2**g - 1 for g in gains[:3]) / _dcg(2**g - 1 for g in grades[:3])
    older = (1 + 3 / math.log2(3)) / (3 + 2 + 2 / math.log2(3))  # places 1 and 2 count the same
    no_discount, binary = sum(gains[:3]) / sum(grades[:3]), _dcg(map(bool, gains[:3])) / _dcg([1, 1, 1])
    not_sorted = dcg / _dcg(list(GRADES.values())[:3])
    mistakes = {
        dcg / ideal_of_first: (
            "the ideal ranking was made of the first 3 places alone, so it costs nothing to miss c and d; "
            f"it holds all that is relevant, and gains {ideal:.3f}"
        ),
        dcg / ideal_of_found: (
            "the ideal ranking was made of what was found; d, of grade 2, was not, and belongs there"
        ),
        _dcg(gains) / ideal: "c at place 5 counted, but k is 3: cut the ranking",
        dcg / _dcg(grades): (
            "the ideal ranking is cut at k = 3, too: 4 relevant passages have no room in 3 places"
        ),
        _dcg(gains) / _dcg(grades): "neither ranking was cut: only the first k = 3 places count, of both",
        exponential: (
            "gains of 2 ** grade - 1 make grade 3 count 7 times as much as grade 1; here a gain is the "
            "grade itself"
        ),
        dcg: (
            f"{dcg:.3f} is the gain itself; divide by the ideal ranking's, {ideal:.3f}, so that 1 is the "
            "best that can be"
        ),
        no_discount: "every place counts the same: divide the gain at place 3 by log2(1 + 3) = 2",
        not_sorted: "1, 2, 3 is how the dict has them: the ideal ranking is sorted, 3 first",
        binary: "grade 3 counted no more than grade 1: the gain is the grade",
        older: (
            "place 2 was divided by log2(2) = 1, an older form, where place 2 counts as much as place 1; "
            "here it is log2(1 + 2) = 1.585"
        ),
    }
    first = (
        "the first place was divided by log2(1), which is 0: the place is counted from 1, and divided by "
        "log2(1 + place)"
    )
    try:
        got = ndcg(list(RANKING), dict(GRADES), 3)
    except ZeroDivisionError:
        return first
    if _is_nan(got):
        return first
    return compare(f"ndcg({RANKING}, {GRADES}, 3)", got, dcg / ideal, mistakes) or _check_ndcg_edges(ndcg)


def _is_nan(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isnan(value)


def _check_ndcg_edges(ndcg: Callable[[list[str], dict[str, int], int], float]) -> str | None:
    nothing = "with no relevant passage the ideal is 0, and nothing can be divided by it: return 0 then"
    try:
        none = ndcg(["x", "y"], {"x": 0}, 3), ndcg(["x", "y"], {}, 3)
    except (ZeroDivisionError, ValueError):
        return nothing
    if any(map(_is_nan, none)):
        return nothing
    short = {"b": 1, "a": 3}
    return (
        compare('ndcg(["x", "y"], {"x": 0}, 3)', none[0], 0.0)
        or compare('ndcg(["x", "y"], {}, 3)', none[1], 0.0)
        or compare(f'ndcg(["a"], {short}, 10)', ndcg(["a"], dict(short), 10), 3 / _dcg([3, 1]))
    )


def _same(got: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return got.keys() == wanted.keys() and all(
        math.isclose(got[i], wanted[i], rel_tol=1e-6, abs_tol=1e-6) for i in wanted
    )


Scores = Mapping[str, float]


def _compare_scores(
    call: str, got: object, right: Scores, mistakes: Sequence[tuple[Scores, str]] = ()
) -> str | None:
    """None where the scores are right, else feedback."""
    if not isinstance(got, Mapping) or not all(isinstance(score, numbers.Real) for score in got.values()):
        return f"{call} gave {got!r}; a dict is wanted, from id to a number"
    if _same(got, right):
        return None
    rounded, wanted = ({id_: round(float(score), 4) for id_, score in s.items()} for s in (got, right))
    return known_mistake(got, mistakes, _same) or f"{call} gave {rounded}; it should be {wanted}"


def check_min_max(min_max: Callable[[dict[str, float]], dict[str, float]]) -> str | None:
    scores = {"a": 12.0, "b": 10.0, "c": 4.0}
    feedback = _compare_scores(
        f"min_max({scores})",
        min_max(dict(scores)),
        {"a": 1.0, "b": 0.75, "c": 0.0},
        [
            (
                {i: s / 12 for i, s in scores.items()},
                "c, the worst, got 0.333 and should get 0: take the lowest, 4, away first",
            ),
            ({i: s - 4 for i, s in scores.items()}, "a, the best, got 8 and should get 1: divide by 12 - 4"),
            (
                {i: (s - 4) / 12 for i, s in scores.items()},
                (
                    "a, the best, got 0.667 and should get 1: divide by the range, 12 - 4 = 8, not by the "
                    "highest score"
                ),
            ),
            ({i: (12 - s) / 8 for i, s in scores.items()}, "upside down: the best got 0, and the worst 1"),
            (
                {"a": 1.0, "b": 0.5, "c": 0.0},
                "b got 0.5 for its rank; its score, 10, lies nearer to 12 than to 4, and gives 0.75",
            ),
            (
                {i: s / 26 for i, s in scores.items()},
                "those are shares of the sum, 26; the best is to get 1, the worst 0",
            ),
        ],
    )
    if feedback:
        return feedback
    try:
        equal, one = min_max({"a": 0.7, "b": 0.7}), min_max({"a": 5.0})
    except ZeroDivisionError:
        return (
            "two scores of 0.7 have a range of 0, by which nothing can be divided: where all are equal, "
            "all get 1"
        )
    zero = "got 0, as if it had not been found; it was, and nothing better was: it gets 1"
    feedback = _compare_scores(
        "min_max({'a': 0.7, 'b': 0.7})",
        equal,
        {"a": 1.0, "b": 1.0},
        [({"a": 0.0, "b": 0.0}, f"each of two equal {zero}")],
    )
    feedback = feedback or _compare_scores(
        "min_max({'a': 5.0})", one, {"a": 1.0}, [({"a": 0.0}, f"the only hit {zero}")]
    )
    if feedback:
        return feedback
    try:
        return _compare_scores("min_max({})", min_max({}), {})
    except (ValueError, ZeroDivisionError, StopIteration, IndexError) as error:
        return (
            f"a leg may find 0 documents: {type(error).__name__} for an empty dict, and an empty one should "
            "come back"
        )


def check_rrf(rrf: Callable[..., dict[str, float]]) -> str | None:
    rankings = [["a", "b", "c"], ["b", "d"]]
    right = {"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 63, "d": 1 / 62}
    feedback = _compare_scores(
        f"rrf({rankings})",
        rrf([list(r) for r in rankings]),
        right,
        [
            (
                {"a": 1 / 60, "b": 1 / 61 + 1 / 60, "c": 1 / 62, "d": 1 / 61},
                "a got 1/60: ranks begin with 1, so it gets 1/61",
            ),
            (
                right | {"b": 1 / 61},
                "b stands in both rankings and got 1/61 alone, its last: add 1/62 and 1/61",
            ),
            (
                right | {"b": 1 / 62},
                "b stands in both rankings and got 1/62 alone, its first: add 1/62 and 1/61",
            ),
            (
                {"b": right["b"]},
                "b alone came back: what stands in only 1 of 2 rankings is kept, it gets less",
            ),
            ({i: right[i] for i in "abc"}, "d is lost, which stands in the 2nd ranking alone"),
            (
                {"a": 1 / 61 + 1 / 63, "b": right["b"], "c": 2 / 63, "d": 1 / 62 + 1 / 64},
                "a got 1/63 for the ranking in which it is missing; missing adds nothing",
            ),
            ({"a": 1.0, "b": 1.5, "c": 1 / 3, "d": 0.5}, "a got 1/1: k is added to the rank, 1/(60 + 1)"),
            (
                {"a": 61.0, "b": 123.0, "c": 63.0, "d": 62.0},
                "a got 61: the reciprocal is wanted, 1/61, so that the first gets most",
            ),
            (
                {"a": 1 / 60 + 1, "b": 2 / 60 + 3, "c": 1 / 60 + 3, "d": 1 / 60 + 2},
                "a got 1/60 + 1: parentheses, 1/(60 + 1); else the last of a ranking gets most",
            ),
            (
                {i: s / 2 for i, s in right.items()},
                "a got 0.0082, half of 1/61: it is the sum over the rankings, not the mean",
            ),
        ],
    )
    one = {"a": 1 / 2, "b": 1 / 3 + 1 / 2, "c": 1 / 4, "d": 1 / 3}
    return feedback or _compare_scores(
        f"rrf({rankings}, k=1)",
        rrf([list(r) for r in rankings], k=1),
        one,
        [(right, "k=1 was passed, and the result is that of 60: use k in the formula")],
    )


def _directions(degrees: Sequence[float]) -> np.ndarray:
    """Vectors of length 1, so many degrees away from (1, 0)."""
    turned = np.radians(np.asarray(degrees, dtype=np.float64))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def _compare_rows(
    call: str, got: object, right: list[int], mistakes: Sequence[tuple[list[int], str]] = ()
) -> str | None:
    """None where these row numbers are right, else feedback."""
    rows = np.asarray(list(got) if isinstance(got, Iterable) else [got])
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        return f"{call} gave {got!r}; a list of the rows' numbers is wanted, such as {right}"
    given = rows.tolist()
    if given == right:
        return None
    return known_mistake(given, mistakes) or f"{call} gave {given}; it should be {right}"


def check_nearest(nearest: Callable[[np.ndarray, np.ndarray, np.ndarray, int], list[int]]) -> str | None:
    vectors, query = _directions([80, 5, 40, 10, 60, 170]), np.array([1.0, 0.0])
    allowed = np.array([True, False, True, False, True, True])

    too_many = (
        "4 rows are allowed, and 5 came back: a row that is not allowed fills no place, even an empty one"
    )
    lost = "row 5 scores -0.98 and is lost: rows that are not allowed got 0, which is more; leave them out"

    def first(k: int) -> list[int]:
        return nearest(vectors.copy(), query.copy(), allowed.copy(), k)

    return (
        _compare_rows(
            "nearest, k=2, with rows 0, 2, 4 and 5 allowed,",
            first(2),
            [2, 4],
            [
                (
                    [],
                    (
                        "the 2 nearest of all rows, 1 and 3, were taken first, and the filter left neither: "
                        "filter first, then take k"
                    ),
                ),
                (
                    [1, 2],
                    (
                        "1 and 2 are places among the 4 rows that are allowed; their numbers in `vectors` "
                        "are 2 and 4"
                    ),
                ),
                ([1, 3], "rows 1 and 3 are the nearest of all, and are not allowed"),
                ([4, 2], "those are the right rows; the best one, 2, comes first"),
                (
                    [5, 0],
                    (
                        "5 and 0 are the farthest that are allowed: argsort begins with the smallest, so "
                        "sort by the negative"
                    ),
                ),
            ],
        )
        or _compare_rows(
            "nearest, k=5, with rows 0, 2, 4 and 5 allowed,",
            first(5),
            [2, 4, 0, 5],
            [
                *((rows, too_many) for rows in ([2, 4, 0, 5, 1], [2, 4, 0, 5, 3])),
                *((rows, lost) for rows in ([2, 4, 0, 1, 3], [2, 4, 0, 3, 1])),
            ],
        )
        or _check_nearest_of_many(nearest)
    )


def _check_nearest_of_many(
    nearest: Callable[[np.ndarray, np.ndarray, np.ndarray, int], list[int]],
) -> str | None:
    vectors, query = _directions(range(60)), np.array([1.0, 0.0])
    allowed = np.isin(np.arange(60), (50, 57))
    more = (
        "50 rows that are not allowed lie nearer: to fetch a few more before the filter is no cure; filter "
        "before the best k"
    )
    few, none = nearest(vectors, query, allowed, 2), nearest(vectors, query, np.zeros(60, dtype=bool), 2)
    return _compare_rows(
        "nearest, k=2, with rows 50 and 57 of 60 allowed,", few, [50, 57], [([], more)]
    ) or _compare_rows("nearest with no row allowed", none, [])


SUM = 242 * 0.039 - 459 * 0.009
CHOICES = {
    "a": "459 against 242 is how many questions of each kind were written, not how your customers ask; they "
    "type as the 242 do, and there hybrid gains 0.039, four times the 0.009 that it loses elsewhere",
    "b": None,
    "c": "the other way round: an interval that holds no 0 says that the difference is hardly chance, and "
    "neither holds it, -0.016 to -0.003 and +0.025 to +0.053",
    "d": f"the sum, 242 x 0.039 - 459 x 0.009 = {SUM:+.1f}, hangs on how many questions of each kind there "
    "are: with 1,100 of "
    'the first kind it would be negative, so "always" does not follow',
}
