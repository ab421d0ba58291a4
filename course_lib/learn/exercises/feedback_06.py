"""Checkers of chapter 06's exercises on question answering from documents.

`squad_tokens` gives the words of a text, in small letters, without articles and punctuation. A checker takes
the student's answer, and returns feedback, or None if the answer is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from course_lib.learn.exercises.comparing import check_length, compare, known_mistake

PREDICTION, RIGHT = "it is 2 days and 2 hours", "2 days"


def check_f1(f1: Callable[[str, str], float]) -> str | None:
    """Check 06.1: `f1(prediction, right)`, how many words two answers share, from 0 to 1.

    F1 is the harmonic mean of precision (shared / predicted words) and recall (shared / right words).
    """
    call = f"f1({PREDICTION!r}, {RIGHT!r})"
    wrong = {
        2 / 7: "that is the precision, shared words / words of the prediction; F1 takes recall in, too",
        1.0: "that is the recall: every word of the right answer occurs, but the prediction has five more",
        3 * 2 / 9: (
            "the prediction's second 2 has no partner in the right answer: count a word as "
            "often as both have it"
        ),
        2 * 2 / 8: "a set forgets that the prediction has two 2s: seven words, not six",
        0.0: "that is exact match; F1 gives credit for the words that are shared",
        (2 / 7 + 1) / 2: "that is the arithmetic mean of precision and recall; F1 is the harmonic one",
    }
    if feedback := compare(call, f1(PREDICTION, RIGHT), 4 / 9, wrong):
        return feedback
    try:
        none = f1("KRW 500", "2 days")
    except ZeroDivisionError:
        return "two answers without a shared word divide by 0: return 0 for them"
    if feedback := compare("f1('KRW 500', '2 days')", none, 0):
        return feedback
    return compare(
        "f1('The KRW 3,000.', 'KRW 3,000')",
        f1("The KRW 3,000.", "KRW 3,000"),
        1,
        {0.4: "articles and punctuation count in your words: take the words from squad_tokens"},
    )


# One value per question. FOUND: the search found the right passage. WITH_GOLD: the answer from the right
# passage alone is right. WITH_FOUND: the answer from the found passages is right. LOST: the right solution.
FOUND = [True, True, True, False, False, False, False, True]
WITH_GOLD = [True, True, False, True, True, False, False, False]
WITH_FOUND = [True, False, False, False, True, False, True, True]
LOST = {"retrieval": 1, "reading": 2, "both": 1}


def check_where_lost(
    where_lost: Callable[[list[bool], list[bool], list[bool]], Mapping[str, int]],
) -> str | None:
    """Check 06.2: `where_lost(found, with_gold, with_found)`, cause -> number of wrong answers.

    Causes: "retrieval", the passage was not found; "reading", the model misread it; or "both".
    """
    result = where_lost(list(FOUND), list(WITH_GOLD), list(WITH_FOUND))
    if not isinstance(result, Mapping):
        return f"{result!r} came back; expected a dict with the keys {', '.join(LOST)}"
    counts = {name: int(result.get(name, 0)) for name in LOST}
    if set(result) - set(LOST):
        return f"the keys are {', '.join(map(repr, result))}; expected {', '.join(map(repr, LOST))}"
    mistakes = (
        (
            {"retrieval": 2, "reading": 3, "both": 2},
            "two questions are counted that were answered rightly without the right passage, "
            "and one with it: "
            "what is answered rightly is not lost",
        ),
        (
            {"retrieval": 2, "reading": 4, "both": 2},
            "with_found is not used; skip the questions that it says are answered rightly",
        ),
        (
            {"retrieval": 2, "reading": 2, "both": 0},
            "where the passage was missing and the model fails even with it, better search "
            "alone would not help: "
            "that is 'both'",
        ),
        (
            {"retrieval": 1, "reading": 1, "both": 2},
            "the right passage was in the prompt of the third question, so its search did not fail",
        ),
        (
            {"retrieval": 1, "reading": 1, "both": 1},
            "one question that was lost is in no group: the passage was in the prompt, and "
            "it was read wrongly "
            "there, though rightly alone",
        ),
        (
            {"retrieval": 4, "reading": 3, "both": 0},
            "you counted missing passages and wrong answers separately; count each question once",
        ),
    )
    if feedback := known_mistake(counts, mistakes):
        return feedback
    if counts != LOST:
        lost = sum(not right for right in WITH_FOUND)
        return f"got {counts}; {lost} of the {len(FOUND)} questions are lost: expected {LOST}"
    return None


LENGTHS, ROOM = [120, 300, 90, 90, 40], 300  # tokens of the passages, and tokens that fit


def check_fit(fit: Callable[[list[int], int], tuple[list[int], list[int]]]) -> str | None:
    """Check 06.3: `fit(lengths, room)`, the indices of the passages that fit, in order, and of the others."""
    call = f"fit({LENGTHS}, {ROOM})"
    result = fit(list(LENGTHS), ROOM)
    if feedback := check_length(result, "lists: what goes in, and what is left out"):
        return feedback
    inside, outside = list(result[0]), list(result[1])
    mistakes = (
        ([0], "you stopped at passage 1, which is too long; passages 2 and 3 still fit after it"),
        ([4, 2, 3], "the shortest went in first; the order is that of the search, the best first"),
        ([0, 2], "120 + 90 + 90 is exactly 300, which fits: use <="),
        ([0, 2, 4], "passage 3 fits exactly: 120 + 90 + 90 = 300; use <="),
        ([0, 2, 3, 4], "these have 340 tokens, more than the room of 300: count what is already in"),
        ([120, 90, 90], "those are lengths; return the indices of the passages"),
        ([0, 1, 2, 3, 4], "everything went in: 640 tokens do not fit into 300"),
    )
    if feedback := known_mistake(inside, mistakes):
        return feedback
    if inside != [0, 2, 3]:
        return f"{call} put {inside} in; it should be [0, 2, 3]"
    if outside != [1, 4]:
        return f"{call} left out {outside}; it should be [1, 4]: what is left out must be told"
    again = fit([300], 300)
    return None if list(again[0]) == [0] else "a passage as long as the room must go in"


# The confidence of each answer, and whether the documents answer the question.
CONFIDENCE = [0.9, 0.2, 0.7, 0.4, 0.8, 0.6, 0.95, 0.5, 0.3, 0.85, 0.1, 0.35, 0.55, 0.65]
ANSWERABLE = [True] * 10 + [False] * 4


def check_threshold(threshold: Callable[[list[float], list[bool], float], float]) -> str | None:
    """Check 06.5: `threshold(confidence, answerable, allowed)`.

    It is the highest confidence below which at most the share `allowed` of the answerable questions lies.
    """
    call = "threshold(confidence, answerable, 0.2)"
    answer = threshold(list(CONFIDENCE), list(ANSWERABLE), 0.2)
    wrong = {
        0.35: (
            "you sorted the confidences of all questions; only those with an answer can be refused falsely"
        ),
        0.3: (
            "below 0.3 lies only one of ten; two may be refused falsely, so the threshold can be higher. "
            "Did you count with the questions without an answer, too?"
        ),
        0.2: "nothing lies below 0.2, so nothing with an answer would be refused; two of ten may be",
        0.5: "below 0.5 lie three of ten questions with an answer: 30%, more than allowed",
        0.38: "a quantile may lie between two confidences; return one of the confidences themselves",
        0.1: "0.1 is the confidence of a question without an answer; only those with one are refused falsely",
        0.55: (
            "those are the confidences of questions without an answer; the share allowed is of the others"
        ),
        0.9: "the list was sorted from the highest: with this threshold nearly everything is refused",
        0.85: "the list was sorted from the highest: with this threshold nearly everything is refused",
    }
    if feedback := compare(call, answer, 0.4, wrong):
        return feedback
    call = "threshold(confidence, answerable, 0)"
    wrong = {0.1: "0.1 is the confidence of a question without an answer; the lowest with one is 0.2"}
    if feedback := compare(call, threshold(list(CONFIDENCE), list(ANSWERABLE), 0.0), 0.2, wrong):
        return feedback
    try:
        everything = threshold(list(CONFIDENCE), list(ANSWERABLE), 1.0)
    except IndexError:
        return "with allowed=1 your index is one beyond the end of the list: take the last one then"
    return compare("threshold(confidence, answerable, 1)", everything, 0.95)


PASSAGE = "The annual fee of the Cedar Card is KRW 25,000; until May it was KRW 2,500."


def check_supported(supported: Callable[[str, str], bool]) -> str | None:
    """Check 06.4: `supported(answer, passage)`, whether the passage contains the answer word for word."""
    cases = (
        ("KRW 2,500", True, "KRW 2,500 stands in the passage, word for word"),
        (
            "the KRW 25,000.",
            True,
            "the answer differs only by an article and a full stop: compare squad_tokens",
        ),
        ("KRW 5,000", False, "5,000 is only the end of 25,000: compare whole words, not letters"),
        ("KRW 250", False, "250 is only the beginning of 2,500: compare whole words, not letters"),
        (
            "May KRW 25,000",
            False,
            "all these words occur, but not side by side: the answer must be one run of words",
        ),
        ("KRW 9,000", False, "KRW occurs, 9,000 does not: every word must be there"),
        ("", False, "an answer without a word was found: return False for it"),
    )
    for answer, expected, why in cases:
        result = supported(answer, PASSAGE)
        if bool(result) != expected or result is None:
            return f"supported({answer!r}, {PASSAGE!r}) gave {result!r}; {why}"
    return None


def check_resume(rows_done: Callable[[str, int, int], int]) -> str | None:
    """Check 06.6: `rows_done(text, batch_size, total)`.

    It is the number of rows in complete batches of an output file that was interrupted.
    """
    eleven = "row\n" * 11 + "ro"
    result = rows_done(eleven, 4, 30)
    mistakes = (
        (12, "the twelfth line has no newline at its end: the process died while it wrote it"),
        (
            11,
            "11 rows are complete, but with row 12 the batches would be others than in a run "
            "that nobody killed",
        ),
        (0, "nothing was kept; two whole batches are there"),
        (2, "that is the number of whole batches; return the number of rows"),
        (30, "30 rows are to be done, not done"),
    )
    if feedback := known_mistake(result, mistakes):
        return feedback
    if result != 8:
        return f"11 complete rows in batches of 4 gave {result!r}; it should be 8"
    whole = rows_done("row\n" * 30, 4, 30)
    if whole == 28:
        return (
            "all 30 rows are there, the last batch is a short one, and 2 rows would be done again: return 30"
        )
    if whole != 30:
        return f"all 30 rows are there, but {whole!r} came back"
    empty = rows_done("", 4, 30)
    return None if empty == 0 else f"an empty file gave {empty!r}; it should be 0"


SURE, WAS_RIGHT = [0.95, 0.85, 0.85, 0.15], [True, True, False, False]


def check_calibration(error: Callable[[Sequence[float], Sequence[bool], int], float]) -> str | None:
    """Check 06.7: `error(confidence, right, bins)`, the expected calibration error.

    Answers of similar confidence are in a bin. It is the mean distance of a bin's mean confidence from its
    share of right answers, weighted by the number of answers.
    """
    call = f"error({SURE}, {WAS_RIGHT}, 10)"
    wrong = {
        (0.15 + 0.35 + 0.05) / 3: "every bin counted the same; weigh each by how many answers it has",
        (0.15 + 0.7 - 0.05) / 4: "distances of opposite sign cancelled out: take each without its sign",
        0.35: "that is the largest distance (the maximum calibration error); take the weighted mean",
        0.15 + 0.7 + 0.05: "you added up count times distance; divide by the number of all answers",
        abs(2.8 / 4 - 0.5): "that is the distance over all answers at once; compare within each bin",
        (0.05 + 0.15 + 0.85 + 0.15) / 4: (
            "you compared each answer with its own confidence; compare the means within each bin"
        ),
    }
    if feedback := compare(call, error(list(SURE), list(WAS_RIGHT), 10), 0.225, wrong):
        return feedback
    try:
        last = error([1.0, 0.95], [False, True], 10)
    except IndexError:
        return "a confidence of exactly 1 has the index 10 and no bin: it belongs to the last one"
    return compare(
        "error([1.0, 0.95], [False, True], 10)",
        last,
        0.475,
        {
            0.45: "compare with the mean confidence of the answers in a bin, not with the middle of the bin",
            0.525: "a confidence of exactly 1 had a bin of its own: it belongs to the last one",
            0.025: "a confidence of exactly 1 was in no bin: it belongs to the last one",
        },
    )
