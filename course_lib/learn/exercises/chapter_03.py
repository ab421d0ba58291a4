"""Exercises of chapter 03, on search: scores of rankings, tokens, mixing two rankings, and filters.

nDCG scores a ranking from 0 to 1; idf is the weight of a word, higher for rare ones. alpha is the weight of
the search by meaning beside the search by words, and RRF a way to mix their rankings. Bigrams are pairs of
neighbouring syllables. The chapter's notebook tells the student what each one asks; the docstring of its
checker says it in short. The last of the hints is nearly the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_03_filters import check_nearest
from course_lib.learn.exercises.feedback_03_fusion import (
    check_chosen_alpha,
    check_largest_alpha,
    check_mixture,
)
from course_lib.learn.exercises.feedback_03_scoring import (
    check_bm25_case,
    check_korean_tokens,
    check_ndcg_cases,
)

EXERCISES = (
    Exercise(
        "03.1",
        "a case for each faulty nDCG",
        (
            "Which passages does each version count, and which does it leave out: relevant ones that were "
            "not found, passages that nobody judged, relevant ones beyond the k-th?",
            "A needs a relevant passage that the list misses; B an unjudged passage above a relevant one; "
            "C more than k relevant passages. Each case should have only its own problem.",
            'For B, begin with the ranking ["x", "a"], in which nobody judged x.',
        ),
        check_ndcg_cases,
    ),
    Exercise(
        "03.2",
        "a collection that rank-bm25 gets wrong",
        (
            "Which words get too high an idf from rank-bm25, and for which document frequency is "
            "log((N - df + 0.5) / (df + 0.5)) zero?",
            "Let the commoner word be in more than half of the documents, and the rarer one in exactly half.",
            'With four documents: "the" in three of them, the rarer word in two. Give each document a word '
            "of its own besides: these rare words keep the average idf above 0.",
        ),
        check_bm25_case,
    ),
    Exercise(
        "03.3",
        "five properties of a tokenizer",
        (
            "Which of the five properties do plain bigrams have? Try 돈, 돈을, ATM에서 and an NFD text.",
            "Normalize and lowercase the text, then cut it into runs of Hangul and runs of the letters a-z "
            "and digits: re.findall with two alternatives. When may a word's first syllable be a token of "
            "its own?",
            're.findall(r"[가-힣]+|[a-z0-9]+", unicodedata.normalize("NFC", text).lower()) gives the words.',
        ),
        check_korean_tokens,
    ),
    Exercise(
        "03.4",
        "a mixture without its four faults",
        (
            "What does the given function `theirs` return for a passage that only one ranking found? For "
            "alpha = 1? For a ranking of one passage? For an empty ranking?",
            "The ids are those of either ranking: words | meaning; .get(id, 0) reads a score that may be "
            "missing. min() and max() take default=.",
            "low, high = min(scores.values(), default=0), max(scores.values(), default=0)",
        ),
        check_mixture,
    ),
    Exercise(
        "03.5",
        "the alpha from which RRF ignores the words",
        (
            "Which score does each of the two passages get, with the weights 1 - alpha and alpha?",
            "At the largest alpha the two scores are equal. Write them down and solve for alpha.",
            "(1 - alpha) / (k + 1) = alpha / (k + n)",
        ),
        check_largest_alpha,
    ),
    Exercise(
        "03.6",
        "choose alpha on some questions, report on others",
        (
            "With which alpha may a question of the first half be reported? And one of the second?",
            "Two rounds: choose on one half by its mean, then collect the differences of the other, question "
            "by question. One mean of all of them at the end.",
            "for chosen_on, reported_on in (halves, halves[::-1]):",
        ),
        check_chosen_alpha,
    ),
    Exercise(
        "03.7",
        "filter before the search",
        (
            "What is lost if the best k are taken first? Which row numbers must come back?",
            "np.flatnonzero(allowed) gives the numbers of the allowed rows; sort only those. A position "
            "among them must still be turned into a row number.",
            "rows = np.flatnonzero(allowed)",
        ),
        check_nearest,
    ),
)
