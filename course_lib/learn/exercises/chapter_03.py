"""Exercises of chapter 03: a word's weight, bigrams, nDCG, two ways to fuse, a filter, and a choice that intervals decide."""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise, Wrong, letter
from course_lib.learn.exercises.replies_03 import (
    CHOICES,
    bigrams_reply,
    idf_reply,
    min_max_reply,
    ndcg_reply,
    nearest_reply,
    rrf_reply,
)

WORDS = 'words = unicodedata.normalize("NFC", text).split()\n'
DCG = (
    "def dcg(gains):\n    return sum(g / math.log2(1 + place) for place, g in enumerate(gains, start=1))\n\n"
)
FOUND = DCG + "found = [grades.get(id, 0) for id in ranking[:k]]\n"
BEST = FOUND + "best = sorted(grades.values(), reverse=True)[:k]\n"
SPAN = "if not scores:\n    return {}\nlow, high = min(scores.values()), max(scores.values())\n"
EQUAL = SPAN + "if low == high:\n    return dict.fromkeys(scores, 1.0)\n"
SUM = (
    "fused = {}\nfor ranking in rankings:\n    for rank, id in enumerate(ranking, start=1):\n"
    "        fused[id] = fused.get(id, 0) + "
)
ROWS = "rows = np.flatnonzero(allowed)\n"

EXERCISES = (
    Exercise(
        "03.1",
        "nDCG by hand",
        (
            "The gain of a passage is its grade, 0 without one; at place 1, 2, 3 it is divided by log2(2), log2(3), log2(4).",
            "Do the same for the best ranking that could be: all grades, highest first, cut at k.",
            "Divide the one by the other; where the best is 0, return 0.",
        ),
        ndcg_reply,
        {
            "log2(place)": Wrong(
                "found = [grades.get(id, 0) for id in ranking[:k]]\n"
                "return sum(g / math.log2(place) for place, g in enumerate(found, start=1))",
                "log2(1)",
            ),
            "ideal of the first k": Wrong(
                FOUND + "return dcg(found) / dcg(sorted(found, reverse=True))", "to miss c and d"
            ),
            "ideal of the found": Wrong(
                FOUND + "best = sorted((grades.get(id, 0) for id in ranking), reverse=True)[:k]\n"
                "return dcg(found) / dcg(best)",
                "d, of grade 2",
            ),
            "ranking not cut": Wrong(
                BEST + "return dcg(grades.get(id, 0) for id in ranking) / dcg(best)", "c at place 5"
            ),
            "ideal not cut": Wrong(
                FOUND + "return dcg(found) / dcg(sorted(grades.values(), reverse=True))", "4 relevant"
            ),
            "nothing cut": Wrong(
                DCG + "best = sorted(grades.values(), reverse=True)\n"
                "return dcg(grades.get(id, 0) for id in ranking) / dcg(best)",
                "neither ranking was cut",
            ),
            "exponential": Wrong(
                BEST + "return dcg(2**g - 1 for g in found) / dcg(2**g - 1 for g in best)", "7 times"
            ),
            "not divided": Wrong(FOUND + "return dcg(found)", "divide by the ideal"),
            "no discount": Wrong(BEST + "return sum(found) / sum(best)", "log2(1 + 3) = 2"),
            "not sorted": Wrong(
                FOUND + "return dcg(found) / dcg(list(grades.values())[:k])", "sorted, 3 first"
            ),
            "relevant or not": Wrong(
                BEST + "return dcg(map(bool, found)) / dcg(map(bool, best))", "no more than grade 1"
            ),
            "nothing relevant": Wrong(BEST + "return dcg(found) / dcg(best)", "return 0 then"),
        },
    ),
    Exercise(
        "03.2",
        "the weight of a word",
        (
            "Divide how many documents lack the word by how many have it, each with 0.5 added.",
            "1 + that, and of the sum the natural logarithm: math.log.",
            "math.log(1 + (n - df + 0.5) / (df + 0.5))",
        ),
        idf_reply,
        {
            "nothing added": Wrong("return math.log((n - df + 0.5) / (df + 0.5))", "weigh -1.37"),
            "plain": Wrong("return math.log(n / df)", "the plain idf"),
            "base 2": Wrong("return math.log2(1 + (n - df + 0.5) / (df + 0.5))", "to base 2"),
            "base 10": Wrong("return math.log10(1 + (n - df + 0.5) / (df + 0.5))", "to base 10"),
            "no logarithm": Wrong("return 1 + (n - df + 0.5) / (df + 0.5)", "still needs the logarithm"),
            "upside down": Wrong(
                "return math.log(1 + (df + 0.5) / (n - df + 0.5))", "the rare one says more"
            ),
            "1 outside": Wrong("return 1 + math.log((n - df + 0.5) / (df + 0.5))", "stands outside"),
            "no parentheses": Wrong("return math.log(1 + n - df + 0.5 / df + 0.5)", "97.5 by 3.5"),
            "one of two parentheses": Wrong(
                "return math.log(1 + (n - df + 0.5) / df + 0.5)", "the second 0.5"
            ),
            "all documents": Wrong("return math.log(1 + (n + 0.5) / (df + 0.5))", "not all 100"),
        },
    ),
    Exercise(
        "03.3",
        "pairs of syllables",
        (
            'First unicodedata.normalize("NFC", text), so that a syllable is one character; then .split().',
            "A word of n syllables has n - 1 pairs: word[i : i + 2] for i in range(n - 1). What has a word of one?",
            "Go through range(max(1, len(word) - 1)): then a word of one syllable gives word[0:2], which is all of it.",
        ),
        bigrams_reply,
        {
            "with spaces": Wrong(
                'text = unicodedata.normalize("NFC", text)\n'
                "return [text[i : i + 2] for i in range(len(text) - 1)]",
                "holds a space",
            ),
            "across spaces": Wrong(
                'text = unicodedata.normalize("NFC", text).replace(" ", "")\n'
                "return [text[i : i + 2] for i in range(len(text) - 1)]",
                "reaches across a space",
            ),
            "single lost": Wrong(
                WORDS + "return [w[i : i + 2] for w in words for i in range(len(w) - 1)]", "후 is lost"
            ),
            "no overlap": Wrong(
                WORDS + "return [w[i : i + 2] for w in words for i in range(0, len(w), 2)]", "pairs overlap"
            ),
            "one too many": Wrong(
                WORDS + "return [w[i : i + 2] for w in words for i in range(len(w))]", "has 2 pairs"
            ),
            "not normalised": Wrong(
                "return [w[i : i + 2] for w in text.split() for i in range(max(1, len(w) - 1))]", "NFD"
            ),
            "a set": Wrong(
                WORDS + "return list({w[i : i + 2] for w in words for i in range(max(1, len(w) - 1))})",
                "came once",
            ),
            "syllables": Wrong(WORDS + 'return list("".join(words))', "10 single syllables"),
            "words": Wrong(WORDS + "return words", "the 5 words"),
        },
    ),
    Exercise(
        "03.4",
        "scores that can be compared",
        (
            "(score - lowest) / (highest - lowest) makes the best 1 and the worst 0.",
            "Where highest and lowest are the same there is nothing to divide by: each gets 1.",
            "min() and max() of nothing raise an error: an empty dict is given back before.",
        ),
        min_max_reply,
        {
            "lowest not taken away": Wrong(
                SPAN + "return {id: s / high for id, s in scores.items()}", "take the lowest, 4"
            ),
            "not divided": Wrong(
                SPAN + "return {id: s - low for id, s in scores.items()}", "divide by 12 - 4"
            ),
            "by the highest": Wrong(
                SPAN + "return {id: (s - low) / high for id, s in scores.items()}", "by the range"
            ),
            "upside down": Wrong(
                SPAN + "return {id: (high - s) / (high - low) for id, s in scores.items()}", "upside down"
            ),
            "ranks": Wrong(
                "order = sorted(scores, key=scores.get, reverse=True)\n"
                "return {id: 1 - i / (len(order) - 1) for i, id in enumerate(order)}",
                "for its rank",
            ),
            "shares": Wrong(
                "return {id: s / sum(scores.values()) for id, s in scores.items()}", "shares of the sum"
            ),
            "equal get 0": Wrong(
                SPAN + "return {id: (s - low) / (high - low or 1) for id, s in scores.items()}", "two equal"
            ),
            "divided by 0": Wrong(
                SPAN + "return {id: (s - low) / (high - low) for id, s in scores.items()}", "a range of 0"
            ),
            "empty": Wrong(
                "low, high = min(scores.values()), max(scores.values())\n"
                "return {id: 1 if high == low else (s - low) / (high - low) for id, s in scores.items()}",
                "0 documents",
            ),
        },
    ),
    Exercise(
        "03.5",
        "ranks alone",
        (
            "Go through every ranking; enumerate(ranking, start=1) gives rank and id.",
            "Add 1 / (k + rank) to what the id has so far: fused.get(id, 0).",
        ),
        rrf_reply,
        {
            "ranks from 0": Wrong(
                SUM.replace("start=1", "start=0") + "1 / (k + rank)\nreturn fused", "ranks begin with 1"
            ),
            "overwritten": Wrong(
                "return {id: 1 / (k + rank) for r in rankings for rank, id in enumerate(r, start=1)}",
                "its last",
            ),
            "first kept": Wrong(
                "return {id: 1 / (k + rank) for r in rankings[::-1] for rank, id in enumerate(r, start=1)}",
                "its first",
            ),
            "in all only": Wrong(
                SUM
                + "1 / (k + rank)\nreturn {id: fused[id] for id in fused if all(id in r for r in rankings)}",
                "b alone",
            ),
            "first ranking only": Wrong(
                SUM + "1 / (k + rank)\nreturn {id: fused[id] for id in rankings[0]}", "d is lost"
            ),
            "missing adds": Wrong(
                "ids = {id for r in rankings for id in r}\n"
                "return {i: sum(1 / (k + (r.index(i) if i in r else len(r)) + 1) for r in rankings) for i in ids}",
                "missing adds nothing",
            ),
            "no k": Wrong(SUM + "1 / rank\nreturn fused", "k is added"),
            "not reciprocal": Wrong(SUM + "k + rank\nreturn fused", "the reciprocal"),
            "parentheses": Wrong(SUM + "1 / k + rank\nreturn fused", "the last of a ranking"),
            "mean": Wrong(SUM + "1 / (k + rank) / len(rankings)\nreturn fused", "not the mean"),
            "always 60": Wrong(SUM + "1 / (60 + rank)\nreturn fused", "k=1 was passed"),
        },
    ),
    Exercise(
        "03.6",
        "what the intervals say for your users",
        (
            "Which of the two kinds of question do your users ask?",
            "An interval on one side of 0 tells which is better on that kind; how much is gained there, how much lost here?",
        ),
        lambda answer: letter(answer, CHOICES),
        {
            "more questions": Wrong('right_is = "a"', "how your customers ask"),
            "proves nothing": Wrong('right_is = "C"', "the other way round"),
            "always": Wrong('right_is = "d"', "does not follow"),
            "no letter": Wrong('right_is = "hybrid"', "none of the letters"),
        },
    ),
    Exercise(
        "03.7",
        "filter first",
        (
            "np.flatnonzero(allowed) gives the numbers of the allowed rows.",
            "vectors[rows] @ query are their scores; np.argsort(-scores)[:k] says which of *them* are best.",
            "rows[best] turns places among the allowed into numbers of `vectors`.",
        ),
        nearest_reply,
        {
            "filter last": Wrong(
                "best = np.argsort(-(vectors @ query))[:k]\nreturn [int(i) for i in best if allowed[i]]",
                "filter first, then take k",
            ),
            "some more": Wrong(
                "best = np.argsort(-(vectors @ query))[: 10 * k]\nreturn [int(i) for i in best if allowed[i]][:k]",
                "is no cure",
            ),
            "places among the allowed": Wrong(
                "return np.argsort(-(vectors[allowed] @ query))[:k].tolist()", "places among the 4"
            ),
            "no filter": Wrong("return np.argsort(-(vectors @ query))[:k].tolist()", "are not allowed"),
            "best last": Wrong(
                ROWS + "return rows[np.argsort(-(vectors[rows] @ query))[:k]][::-1].tolist()",
                "the best one, 2, comes first",
            ),
            "worst": Wrong(
                ROWS + "return rows[np.argsort(vectors[rows] @ query)[:k]].tolist()", "the farthest"
            ),
            "filled up": Wrong(
                "return np.argsort(-np.where(allowed, vectors @ query, -np.inf))[:k].tolist()",
                "fills no place",
            ),
            "zeros": Wrong(
                "return np.argsort(-(vectors @ query * allowed))[:k].tolist()", "row 5 scores -0.98"
            ),
            "scores": Wrong("return np.sort(vectors[allowed] @ query)[::-1][:k].tolist()", "rows' numbers"),
        },
    ),
)
