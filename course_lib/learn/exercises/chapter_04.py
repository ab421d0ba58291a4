"""Exercises of chapter 04, on reranking: a model sorts again what a search found, the candidates.

Late interaction is a kind of reranking that compares single tokens; windows are the parts of a long document.
Gold passages answer the question. Padding fills the texts of a batch up to the longest one. `difference`
tells whether one of two lists of scores is better, or whether it may be luck. The chapter's notebook tells
the student what each one asks; the docstring of its checker says it in short. The last of the hints is nearly
the solution.
"""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise
from course_lib.learn.exercises.feedback_04_choices import check_budget, check_questions
from course_lib.learn.exercises.feedback_04_lengths import check_batches, check_windows
from course_lib.learn.exercises.feedback_04_scoring import check_limits, check_maxsim

EXERCISES = (
    Exercise(
        "04.1",
        "what a reranker can do at worst and at best",
        (
            "Where do the answers stand among the first n in the best order, and where in the worst? What "
            "happens to an answer at place n + 1?",
            "Build both orders, put the other candidates behind them, and count in the first three places. "
            "sorted() with a key that is False for answers puts them first.",
            "best = sorted(candidates[:n], key=lambda id: id not in gold)",
        ),
        check_limits,
    ),
    Exercise(
        "04.2",
        "late interaction of a batch",
        (
            "What are the shapes? Which numbers of the product belong to padding, and which number can never "
            "be a maximum?",
            "The cosines have the shape (passages, question tokens, longest). "
            "np.arange(longest) compared with "
            "the lengths tells what is padding; np.where puts something there.",
            "cosines = question @ passages.transpose(0, 2, 1)",
        ),
        check_maxsim,
    ),
    Exercise(
        "04.3",
        "windows over a long document",
        (
            "How far does each window start behind the one before? When is a further window useless?",
            "Go through the starts with range(0, ..., step). A window is useless if what it adds to the one "
            "before is nothing: from which start on?",
            "starts = range(0, max(1, length - overlap), ...)",
        ),
        check_windows,
    ),
    Exercise(
        "04.4",
        "batches of similar length",
        (
            "How many tokens does a batch compute, if its longest text has 200?",
            "Go through the texts by length, the shortest first. A text that joins a batch is its longest.",
            "for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):",
        ),
        check_batches,
    ),
    Exercise(
        "04.5",
        "how many candidates",
        (
            "Which numbers of candidates may be chosen at all? With which of them is a smaller "
            "number compared?",
            "difference(a, b).verdict is 'A' where a is clearly better, 'undecided' where it may be luck.",
            "fitting = [n for n in seconds if seconds[n] <= allowed]",
        ),
        check_budget,
    ),
    Exercise(
        "04.6",
        "how many questions",
        (
            "Where is the middle of the next interval, how far does it scatter, and when is its end at zero?",
            "The gain that is found must be above 1.96 x s / sqrt(n). How many s / sqrt(n) above that must "
            "the true gain be, so that this happens with the probability `power`? With one half: none.",
            "The normal quantile: NormalDist().inv_cdf(power). gains = np.subtract(after, before)",
        ),
        check_questions,
    ),
)
