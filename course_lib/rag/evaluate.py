"""Score answers, refusals and predicted labels, most of them with a bootstrap interval.

Such an interval contains 95% of the scores of random resamples of the same size. A label is a text, or None
where a classifier abstained; a table of pandas has NaN there. SQuAD is a public set of reading questions. A
gold answer or label is the right one. F1 is the harmonic mean of precision (the share of the predicted items
that are right) and recall (the share of the right items that were predicted).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError
from course_lib.measure.intervals import Estimate, bootstrap_interval, mean_of

Labels = Sequence[str | None]
PUNCTUATION = str.maketrans("", "", string.punctuation + "‘’“”「」『』《》〈〉·…")

# -- answers -------------------------------------------------------------------------------------------------


def squad_tokens(text: str) -> list[str]:
    """Split a text as SQuAD's evaluation script does: lower case, no punctuation, no English articles.

    >>> squad_tokens("The KRW 3,000 fee.")
    ['krw', '3000', 'fee']
    """
    plain = unicodedata.normalize("NFC", text).lower().translate(PUNCTUATION)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def squad_exact(prediction: str, gold: str) -> float:
    """Return 1 if both texts are equal after SQuAD's normalisation, else 0 (Rajpurkar et al. 2016).

    It is for public reading sets. The course's own questions are scored by `answering.exact_match`, which
    keeps decimal points.
    """
    return float(squad_tokens(prediction) == squad_tokens(gold))


def token_f1(prediction: str, gold: str) -> float:
    """Return the F1 of the words that both texts share (Rajpurkar et al. 2016, arXiv:1606.05250).

    >>> round(token_f1("the fee is KRW 3,000", "KRW 3,000"), 3)
    0.667
    """
    return _f1(squad_tokens(prediction), squad_tokens(gold))


def character_f1(prediction: str, gold: str) -> float:
    """Return the F1 of the characters that both texts share, without spaces.

    This is the metric of KorQuAD, a Korean SQuAD: in Korean, a particle is attached to its noun (Lim et al.
    2019, arXiv:1909.07005).

    >>> round(character_f1("하늘은행은", "하늘은행"), 3)
    0.889
    """
    return _f1(list("".join(squad_tokens(prediction))), list("".join(squad_tokens(gold))))


def _f1(prediction: list[str], gold: list[str]) -> float:
    if not prediction or not gold:
        return float(prediction == gold)
    shared = (Counter(prediction) & Counter(gold)).total()
    return 2 * shared / (len(prediction) + len(gold))


def best_of(metric: Callable[[str, str], float], prediction: str, golds: Iterable[str]) -> float:
    """Return the highest value of a metric over several right answers. Raises ValueError for none."""
    return max(metric(prediction, gold) for gold in golds)


def faithful(answer: str, passages: Iterable[str]) -> bool:
    """Whether one of the passages contains the answer word for word, after SQuAD's normalisation.

    Decimal points are kept, so that 15% is not found in 1.5%. The result does not tell whether the answer is
    right. An answer without words is in no passage.
    """
    words = _with_points(answer)
    phrase = f" {' '.join(words)} "
    return bool(words) and any(phrase in f" {' '.join(_with_points(text))} " for text in passages)


def _with_points(text: str) -> list[str]:
    """Return SQuAD's tokens, with decimal points kept as the word "point"."""
    return squad_tokens(re.sub(r"(?<=\d)\.(?=\d)", "point", text))


# -- refusals and abstentions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Abstention:
    """How well a system refuses the questions that it should refuse. Each is a share with its interval.

    precision: the share of the refusals that were right. recall: the share of the questions to refuse that
    were refused. false_refusals: the share of the answerable questions that were refused.
    """

    precision: Estimate | None
    recall: Estimate | None
    false_refusals: Estimate | None


def abstention(refused: Sequence[bool], should: Sequence[bool]) -> Abstention:
    """Compare the actual refusals with the right ones. A share of no questions is None."""
    _check_lengths(refused, should)

    def share(values: list[bool]) -> Estimate | None:
        return mean_of([float(v) for v in values]) if values else None

    pairs = list(zip(refused, should, strict=True))
    return Abstention(
        share([right for was_refused, right in pairs if was_refused]),
        share([was_refused for was_refused, right in pairs if right]),
        share([was_refused for was_refused, right in pairs if not right]),
    )


def refusal_threshold(confidence: Sequence[float], allowed: float) -> float:
    """Return the highest of these confidences below which at most a share `allowed` of them lies.

    confidence: of questions that can be answered. Raises ValueError if it is empty or has a NaN, and unless
    allowed is between 0 and 1.
    """
    if not len(confidence) or not 0 <= allowed <= 1 or any(value != value for value in confidence):
        raise ValueError(f"{len(confidence)} confidences, allowed={allowed}; give some, and a share; no NaN")
    return sorted(confidence)[min(int(allowed * len(confidence)), len(confidence) - 1)]


# -- labels --------------------------------------------------------------------------------------------------


def accuracy(predicted: Labels, gold: Sequence[str]) -> Estimate:
    """Return the share of right labels. An abstention is not right."""
    _check_lengths(predicted, gold)
    return mean_of([float(p == g) for p, g in zip(predicted, gold, strict=True)])


def confusion_matrix(
    predicted: Labels, gold: Sequence[str], labels: Sequence[str | None]
) -> NDArray[np.int64]:
    """Count (right label, predicted label) pairs: rows and columns in the order of `labels`.

    Raises CourseError for a label that is not in `labels`.
    """
    _check_lengths(predicted, gold)
    predicted, index = _labels(predicted), {label: i for i, label in enumerate(labels)}
    if unknown := sorted({str(label) for label in (*predicted, *gold) if label not in index}):
        raise CourseError(f"{unknown[0]!r} is not one of the {len(index)} labels", "labels=[*known, None]")
    matrix = np.zeros((len(index), len(index)), np.int64)
    np.add.at(matrix, ([index[g] for g in gold], [index[p] for p in predicted]), 1)
    return matrix


def macro_f1(predicted: Labels, gold: Sequence[str], draws: int = 1000) -> Estimate:
    """Return the unweighted mean of the F1 of every label that occurs, with a bootstrap interval.

    draws: the number of resamples.
    """
    _check_lengths(predicted, gold)
    predicted = _labels(predicted)
    labels = list(dict.fromkeys([*gold, *predicted]))
    index = {label: i for i, label in enumerate(labels)}
    rows = np.array([(index[g], index[p]) for g, p in zip(gold, predicted, strict=True)])
    real = [i for i, label in enumerate(labels) if label is not None]

    def score(sample: NDArray[np.int64]) -> float:
        right = np.bincount(sample[sample[:, 0] == sample[:, 1], 0], minlength=len(labels))
        counts = np.bincount(sample.ravel(), minlength=len(labels))
        seen = [i for i in real if counts[i]]
        return float(np.mean(2 * right[seen] / counts[seen]))

    return bootstrap(score, rows, draws)


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in one bin: their mean confidence, their accuracy, their number."""

    confidence: float
    accuracy: float
    count: int


def reliability(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Return the non-empty bins of equal width from 0 to 1 (DeGroot and Fienberg 1983).

    Raises ValueError for a confidence that is not from 0 to 1.
    """
    _check_lengths(confidence, correct)
    values, right = np.asarray(confidence, float), np.asarray(correct, float)
    possible = (values >= 0) & (values <= 1 + 1e-9)  # a sum of shares may be a little above 1
    if not possible.all():
        raise ValueError(f"a confidence of {values[~possible][0]}; each is from 0 to 1")
    which = np.minimum((values * bins).astype(int), bins - 1)
    return [
        Bin(float(values[which == b].mean()), float(right[which == b].mean()), int((which == b).sum()))
        for b in np.unique(which)
    ]


def calibration_error(
    confidence: Sequence[float], correct: Sequence[bool], bins: int = 10, draws: int = 1000
) -> Estimate:
    """Return the expected calibration error: the mean distance of confidence and accuracy, weighted by bin.

    (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599.) Resampling adds noise to the bins, so the
    interval lies higher than the value.
    """
    _check_lengths(confidence, correct)

    def error(rows: NDArray[np.float64]) -> float:
        filled = reliability(rows[:, 0].tolist(), rows[:, 1].tolist(), bins)
        return sum(b.count * abs(b.confidence - b.accuracy) for b in filled) / len(rows)

    return bootstrap(error, np.column_stack([confidence, correct]).astype(float), draws)


def bootstrap(statistic: Callable[[NDArray[Any]], float], rows: NDArray[Any], draws: int = 1000) -> Estimate:
    """Return a statistic of the rows with a percentile bootstrap interval of 95%."""
    return Estimate(statistic(rows), *bootstrap_interval(rows, draws=draws, statistic=statistic), 0.95)


def fit_temperature(distributions: Sequence[Mapping[str, float]], gold: Sequence[str]) -> float:
    """Return the temperature T at which the confidence of the best label fits how often it is right.

    The confidence is p^(1/T), normalized. T minimises the log loss of "the best label is right" over 400
    values, for labelled examples that the classifier was not fitted on (Guo et al. 2017). The best label
    itself does not change.
    """
    _check_lengths(distributions, gold)
    right = np.array([max(d, key=d.__getitem__) == g for d, g in zip(distributions, gold, strict=True)])
    losses = []
    candidates = np.geomspace(0.05, 20, 400)
    for temperature in candidates:
        top = [max(sharpen(d, temperature).values()) for d in distributions]
        p = np.clip(top, 1e-6, 1 - 1e-6)
        losses.append(-np.mean(np.where(right, np.log(p), np.log(1 - p))))
    return float(candidates[int(np.argmin(losses))])


def sharpen(distribution: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Return the distribution with every probability raised to 1 / temperature, normalized.

    Raises ValueError for a probability that is NaN, and for a temperature that is not above 0.
    """
    values = list(distribution.values())
    if not temperature > 0 or any(value != value for value in values):
        raise ValueError(f"temperature={temperature}, probabilities {values}; above 0, and no NaN are needed")
    logs = np.log(np.maximum(values, 1e-12)) / temperature
    return dict(zip(distribution, softmax(logs).tolist(), strict=True))


def softmax(logs: NDArray[Any]) -> NDArray[Any]:
    """Return exp(logs), normalized over the last axis, without overflow."""
    powers = np.exp(logs - logs.max(-1, keepdims=True))
    normalized: NDArray[Any] = powers / powers.sum(-1, keepdims=True)
    return normalized


def _labels(predicted: Iterable[Any]) -> list[str | None]:
    """Return predicted labels with None for each NaN, which pandas puts in the place of None."""
    return [None if isinstance(label, float) and label != label else label for label in predicted]


def _check_lengths(first: Sequence[object], second: Sequence[object]) -> None:
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} values; pairs are needed, and at least one")
