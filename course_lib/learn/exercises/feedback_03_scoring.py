"""Checkers of chapter 03's exercises on idf, bigrams and nDCG: return feedback, None if right."""

from __future__ import annotations

import itertools
import math
import numbers
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from course_lib.learn.exercises.comparing import compare, known_mistake


def check_idf(idf: Callable[[int, int], float]) -> str | None:
    df, n = 3, 100
    ratio = (n - df + 0.5) / (df + 0.5)
    expected, base_2, base_10 = math.log(1 + ratio), math.log2(1 + ratio), math.log10(1 + ratio)
    plain, inverse, outside = math.log(n / df), math.log(1 + 1 / ratio), 1 + math.log(ratio)
    no_parentheses = math.log(1 + (n - df) + 0.5 / df + 0.5)
    one_parenthesis = math.log(1 + (n - df + 0.5) / df + 0.5)
    all_documents = math.log(1 + (n + 0.5) / (df + 0.5))
    common_df = 80
    common_ratio = (n - common_df + 0.5) / (common_df + 0.5)
    mistakes = {
        math.log(ratio): (
            f"without the 1 + a word in {common_df} of {n} documents would weigh "
            f"{math.log(common_ratio):.2f}: a document would lose score for containing it"
        ),
        plain: (
            f"ln(n / df), {plain:.2f}, is the plain idf; Lucene divides the documents without the word by "
            f"those with it, which gives {expected:.2f}"
        ),
        base_2: f"{base_2:.2f} is the logarithm to base 2; the natural one, math.log, gives {expected:.2f}",
        base_10: (
            f"{base_10:.2f} is the logarithm to base 10; the natural one, math.log, gives {expected:.2f}"
        ),
        1 + ratio: (
            f"{1 + ratio:.1f} still needs the logarithm; without it one rare word outweighs all others "
            "together"
        ),
        inverse: (
            f"that is upside down: a rare word, in {df} of {n} documents, would weigh only {inverse:.2f}; "
            "divide the documents without the word by those with it"
        ),
        outside: (
            f"{outside:.2f} has the 1 outside the logarithm; put it inside, so that no weight is below 0"
        ),
        no_parentheses: "parentheses are missing: divide all of n - df + 0.5 by all of df + 0.5, 97.5 by 3.5",
        one_parenthesis: "a parenthesis is missing: the second 0.5 is added to df, so 97.5 is divided by 3.5",
        all_documents: "the numerator counts the documents without the word, n - df = 97, not all 100",
    }
    return compare(f"idf({df}, {n})", idf(df, n), expected, mistakes) or compare(
        f"idf({common_df}, {n})", idf(common_df, n), math.log(1 + common_ratio)
    )


KOREAN = "카드를 잃은 후 카드 정지"
BIGRAMS = ["카드", "드를", "잃은", "후", "카드", "정지"]


def _same_counts(a: Iterable[str], b: Iterable[str]) -> bool:
    """Whether both hold the same strings equally often, in any order."""
    return Counter(a) == Counter(b)


def check_bigrams(bigrams: Callable[[str], Sequence[str]]) -> str | None:
    call = f"bigrams({KOREAN!r})"
    result = bigrams(KOREAN)
    pieces = list(result) if isinstance(result, Iterable) and not isinstance(result, str) else [result]
    if isinstance(result, str) or not all(isinstance(piece, str) for piece in pieces):
        return f"{call} gave {result!r}; expected a list of strings"
    if _same_counts(pieces, BIGRAMS):
        decomposed = list(bigrams(unicodedata.normalize("NFD", KOREAN)))
        if _same_counts(decomposed, BIGRAMS):
            return None
        return (
            f"for the same text in NFD, where 잃 is three characters, {len(decomposed)} pieces came back "
            f'instead of {len(BIGRAMS)}: use unicodedata.normalize("NFC", text) first'
        )
    words = KOREAN.split()
    syllables = [character for character in KOREAN if character != " "]
    mistakes = (
        (
            [KOREAN[i : i + 2] for i in range(len(KOREAN) - 1)],
            "'를 ' holds a space: split the text into words first, and pair the syllables of each word",
        ),
        (
            [a + b for a, b in itertools.pairwise(syllables)],
            "'를잃' joins the end of one word to the start of the next: pair only syllables of the same word",
        ),
        (
            [piece for piece in BIGRAMS if len(piece) == 2],
            "후 is lost: a word of one syllable has no pair, so keep it as it is",
        ),
        (
            [word[i : i + 2] for word in words for i in range(0, len(word), 2)],
            "드를 is missing: pairs overlap, so move on by 1 syllable each time, not by 2",
        ),
        (
            [word[i : i + 2] for word in words for i in range(len(word))],
            "the last syllable of every word also came alone, such as 를: a word of 3 syllables has 2 pairs",
        ),
        (
            set(BIGRAMS),
            "카드 came once but is in the text twice: keep duplicates, because BM25 counts occurrences",
        ),
        (
            syllables,
            f"those are the {len(syllables)} single syllables; return pairs of neighbouring syllables",
        ),
        (
            words,
            "those are the words; split 카드를 into 카드 and 드를, so that a search for 카드 finds it",
        ),
    )
    return (
        known_mistake(pieces, mistakes, equal=_same_counts) or f"{call} gave {pieces}; it should be {BIGRAMS}"
    )


RANKING, GRADES = ["x", "b", "a", "y", "c"], {"b": 1, "d": 2, "a": 3, "c": 2}
K = 3


def _dcg(gains: Iterable[float]) -> float:
    """Discounted cumulative gain: the sum of gain / log2(1 + rank), with ranks from 1."""
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


def check_ndcg(ndcg: Callable[[list[str], dict[str, int], int], float]) -> str | None:
    gains, grades = [GRADES.get(id_, 0) for id_ in RANKING], sorted(GRADES.values(), reverse=True)
    dcg, ideal = _dcg(gains[:K]), _dcg(grades[:K])
    ideal_of_first = _dcg(sorted(gains[:K], reverse=True))
    ideal_of_found = _dcg(sorted(gains, reverse=True)[:K])
    exponential = _dcg(2**g - 1 for g in gains[:K]) / _dcg(2**g - 1 for g in grades[:K])
    undiscounted_second = _older_dcg(gains[:K]) / _older_dcg(grades[:K])
    no_discount, binary = sum(gains[:K]) / sum(grades[:K]), _dcg(map(bool, gains[:K])) / _dcg([1] * K)
    not_sorted = dcg / _dcg(list(GRADES.values())[:K])
    mistakes = {
        dcg / ideal_of_first: (
            f"your ideal ranking holds only the first {K} hits, so it costs nothing to miss c and d; it "
            f"must hold all relevant passages, which gives {ideal:.3f}"
        ),
        dcg / ideal_of_found: (
            "your ideal ranking holds only what was found; it must also hold d, of grade 2, which was not "
            "found"
        ),
        _dcg(gains) / ideal: f"c at rank 5 was counted, but k is {K}: cut the ranking after k",
        dcg / _dcg(grades): (
            f"cut the ideal ranking at k = {K} too: only {K} of the {len(grades)} relevant passages fit in it"
        ),
        _dcg(gains) / _dcg(grades): f"neither ranking was cut: count only the first k = {K} ranks of both",
        exponential: (
            "gains of 2 ** grade - 1 make grade 3 count 7 times as much as grade 1; here the gain is the "
            "grade itself"
        ),
        dcg: f"{dcg:.3f} is the DCG itself; divide by the ideal ranking's DCG, {ideal:.3f}",
        no_discount: "every rank counts the same; divide the gain at rank 3, for example, by log2(1 + 3) = 2",
        not_sorted: "your ideal ranking has the grades in the order of the dict; it must be sorted, 3 first",
        binary: "grade 3 counted no more than grade 1; use the grade as the gain",
        undiscounted_second: (
            "rank 2 was divided by log2(2) = 1, so it counts as much as rank 1 (an older form of DCG); "
            "divide it by log2(1 + 2) = 1.585"
        ),
    }
    first_rank = (
        "the first gain was divided by log2(1) = 0: ranks begin with 1, and the divisor is log2(1 + rank)"
    )
    try:
        result = ndcg(list(RANKING), dict(GRADES), K)
    except ZeroDivisionError:
        return first_rank
    if _is_nan(result):
        return first_rank
    return compare(f"ndcg({RANKING}, {GRADES}, {K})", result, dcg / ideal, mistakes) or _check_ndcg_edges(
        ndcg
    )


def _older_dcg(gains: Sequence[float]) -> float:
    """DCG in its first form (Järvelin and Kekäläinen, 2002): gain / log2(rank), whole at ranks 1 and 2."""
    return sum(gain / max(1, math.log2(rank)) for rank, gain in enumerate(gains, start=1))


def _is_nan(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isnan(value)


def _check_ndcg_edges(ndcg: Callable[[list[str], dict[str, int], int], float]) -> str | None:
    nothing_relevant = (
        "with no relevant passage the ideal DCG is 0, which cannot be divided by: return 0 then"
    )
    try:
        zero_grade, no_grades = ndcg(["x", "y"], {"x": 0}, 3), ndcg(["x", "y"], {}, 3)
    except (ZeroDivisionError, ValueError):
        return nothing_relevant
    if _is_nan(zero_grade) or _is_nan(no_grades):
        return nothing_relevant
    two_grades = {"b": 1, "a": 3}
    return (
        compare('ndcg(["x", "y"], {"x": 0}, 3)', zero_grade, 0.0)
        or compare('ndcg(["x", "y"], {}, 3)', no_grades, 0.0)
        or compare(f'ndcg(["a"], {two_grades}, 10)', ndcg(["a"], dict(two_grades), 10), 3 / _dcg([3, 1]))
    )
