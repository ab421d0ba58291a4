"""How good a ranking is: ids, best first, beside judgements, id -> grade. All equal to trec_eval's measures.

A grade of 1 or more says that a document is relevant; one without a judgement is not. Every measure goes from 0 to 1, and is 0
for an empty ranking and where nothing is relevant. k: how many places are looked at; None looks at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from course_lib.errors import CourseError
from course_lib.measure.intervals import Estimate, bootstrap_interval, mean_of

Ranking = Sequence[str]
Judgements = Mapping[str, int]
Metric = Callable[[Ranking, Judgements, int | None], float]


def relevant(judgements: Judgements) -> int:
    """How many documents are relevant."""
    return sum(grade > 0 for grade in judgements.values())


def grades(ranking: Ranking, judgements: Judgements, k: int | None = None) -> list[int]:
    """Grades in the order of the ranking, up to place k, negative ones as 0.

    Raises CourseError for k below 1, and for an id twice, which would count twice.
    """
    if k is not None and k < 1:
        raise CourseError(f"k={k}: a ranking is looked at up to place 1 at least", "choose k of 1 or more")
    return [max(0, judgements.get(id, 0)) for id in checked_ranking(ranking)[:k]]


def checked_ranking(ranking: Ranking) -> Ranking:
    """`ranking`. Raises CourseError for an id twice, and for a lone string."""
    if isinstance(ranking, str) or len(set(ranking)) < len(ranking):
        raise CourseError(
            f"{len(ranking)} places in a ranking for {len(set(ranking))} ids", "rank every document once"
        )
    return ranking


# -- one ranking ----------------------------------------------------------------------------------------------------------


def recall(ranking: Ranking, judgements: Judgements, k: int | None = None) -> float:
    """Of all that is relevant, the share that was found.

    >>> recall(["a", "x", "b"], {"a": 1, "b": 1, "c": 1, "d": 1})
    0.5
    """
    return sum(g > 0 for g in grades(ranking, judgements, k)) / max(relevant(judgements), 1)


def precision(ranking: Ranking, judgements: Judgements, k: int | None = None) -> float:
    """Of k places, the share that is relevant; places that a short ranking leaves empty are not. Without k, of its own places.

    >>> precision(["a", "x"], {"a": 1}, 4)
    0.25
    """
    return sum(g > 0 for g in grades(ranking, judgements, k)) / max(len(ranking) if k is None else k, 1)


def success(ranking: Ranking, judgements: Judgements, k: int | None = None) -> float:
    """1 if anything relevant was found, else 0."""
    return float(any(grades(ranking, judgements, k)))


def reciprocal_rank(ranking: Ranking, judgements: Judgements, k: int | None = None) -> float:
    """1 / the place of the first that is relevant, 0 without one. Its mean over questions is the MRR.

    >>> reciprocal_rank(["x", "a", "b"], {"a": 1, "b": 1})
    0.5
    """
    return next((1 / place for place, g in enumerate(grades(ranking, judgements, k), start=1) if g), 0.0)


def average_precision(ranking: Ranking, judgements: Judgements, k: int | None = None) -> float:
    """The mean, over all that is relevant, of the precision at its place, 0 if not found. Its mean over questions is the MAP.

    >>> average_precision(["a", "x", "b"], {"a": 1, "b": 1, "c": 1})  # (1/1 + 2/3 + 0) / 3
    0.5555555555555555
    """
    found, total = 0, 0.0
    for place, grade in enumerate(grades(ranking, judgements, k), start=1):
        if grade:
            found += 1
            total += found / place
    return total / max(relevant(judgements), 1)


def discounted(gains: Iterable[float]) -> float:
    """The sum of gains, each divided by log2(1 + place): the second place counts .63 of the first, the tenth .29."""
    return math.fsum(gain / math.log2(1 + place) for place, gain in enumerate(gains, start=1))


def ndcg(ranking: Ranking, judgements: Judgements, k: int | None = None) -> float:
    """Discounted gain, as a share of the best ranking's; a document's gain is its grade (Järvelin and Kekäläinen 2002).

    >>> round(ndcg(["x", "a"], {"a": 3}), 3)
    0.631
    """
    found, best = (
        grades(ranking, judgements, k),
        sorted(grades(list(judgements), judgements), reverse=True)[:k],
    )
    return discounted(found) / discounted(best) if any(best) else 0.0


def ndcg_exponential(ranking: Ranking, judgements: Judgements, k: int | None = None) -> float:
    """nDCG with gains of 2^grade - 1, so that grade 3 counts 7 times as much as grade 1 (Burges et al. 2005).

    Raises CourseError for a grade above 60.
    """
    if (highest := max(judgements.values(), default=0)) > 60:
        raise CourseError(f"a grade of {highest} would gain 2^{highest}", "grade from 0 to 4, or so")
    return ndcg(ranking, {id: 2 ** max(0, grade) - 1 for id, grade in judgements.items()}, k)


METRICS: dict[str, Metric] = {
    "ndcg": ndcg,
    "ndcg_exponential": ndcg_exponential,
    "recall": recall,
    "precision": precision,
    "mrr": reciprocal_rank,
    "map": average_precision,
    "success": success,
}


# -- many questions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """values: measure -> question -> value, for every question that was judged."""

    values: dict[str, dict[str, float]]

    def mean(self, name: str) -> Estimate:
        """The mean of a measure over all questions, with the interval of what it would be over other such questions."""
        return mean_of(list(self.values[name].values()))


def evaluate(
    run: Mapping[str, Ranking],
    judgements: Mapping[str, Judgements],
    metrics: Sequence[str] = ("ndcg@10", "recall@25", "mrr"),
) -> Evaluation:
    """Measures of a run, question -> ranking. A question that was judged and has no ranking counts 0.

    metrics: names of METRICS, with "@k" or without. Raises CourseError for an unknown one, for a question of the run that was
    not judged, and for one to which nothing is relevant: no ranking could be right.

    >>> judgements = {"q1": {"a": 1}, "q2": {"b": 2}}
    >>> evaluate({"q1": ["a", "b"], "q2": ["a", "b"]}, judgements, ["mrr", "ndcg@1"]).values
    {'mrr': {'q1': 1.0, 'q2': 0.5}, 'ndcg@1': {'q1': 1.0, 'q2': 0.0}}
    """
    unjudged = [q for q in run if q not in judgements]
    hopeless = [q for q, of_question in judgements.items() if not relevant(of_question)]
    if unjudged or hopeless or not judgements:
        raise CourseError(
            f"of {len(run)} rankings {len(unjudged)} have no judgements, and of {len(judgements)} questions {len(hopeless)} have "
            f"nothing that is relevant{', the first ' + repr((unjudged + hopeless)[0]) if unjudged + hopeless else ''}",
            "evaluate the questions that have a relevant document",
        )
    chosen = {name: metric(name) for name in metrics}
    return Evaluation(
        {
            name: {q: measure(run.get(q, ()), judgements[q], k) for q in judgements}
            for name, (measure, k) in chosen.items()
        }
    )


def metric(name: str) -> tuple[Metric, int | None]:
    """The measure and k of a name such as "ndcg@10" or "map". Raises CourseError for an unknown one."""
    base, at, k = name.partition("@")
    if base not in METRICS or (at and not (k.isdecimal() and int(k) > 0)):
        raise CourseError(
            f"there is no measure {name!r}", f"choose one of {', '.join(METRICS)}, with @k for k places"
        )
    return METRICS[base], int(k) if at else None


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of A - B over questions, and its interval. `questions`: how many."""

    questions: int

    @property
    def verdict(self) -> str:
        """ "A", "B" or "undecided", where the interval holds 0."""
        return "A" if self.low > 0 else "B" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        told = {
            "A": "A is better",
            "B": "B is better",
            "undecided": "these questions do not tell which is better",
        }[self.verdict]
        return f"A - B = {self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f}, {self.questions} questions): {told}"


def difference(
    a: Mapping[str, float], b: Mapping[str, float], *, coverage: float = 0.95, seed: int = 0
) -> Difference:
    """Is A better than B? Paired bootstrap of the differences, question by question (Sakai 2006, doi:10.1145/1148170.1148261).

    a, b: question -> value, as `Evaluation.values[name]` has them. Raises CourseError where they are not the same questions.
    """
    if a.keys() != b.keys() or not a:
        raise CourseError(
            f"{len(a)} and {len(b)} questions, {len(a.keys() & b.keys())} of them the same",
            "compare two systems on the same questions",
        )
    gaps = [a[q] - b[q] for q in sorted(a)]
    low, high = bootstrap_interval(gaps, coverage=coverage, seed=seed)
    return Difference(math.fsum(gaps) / len(gaps), low, high, coverage, len(gaps))
