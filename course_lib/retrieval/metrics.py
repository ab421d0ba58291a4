"""How good a ranking is: recall, precision, MRR, MAP and nDCG, equal to trec_eval's, and the comparison of
two systems.

A ranking is a list of document ids, best first. Qrels are the relevance judgements of one query: document id
-> grade. A grade of 1 or more means relevant; a document without a grade is not relevant. Every metric goes
from 0 to 1, and is 0 for an empty ranking and where nothing is relevant. k: number of ranks that count, None
for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from course_lib.errors import CourseError
from course_lib.measure.intervals import Estimate, bootstrap_interval, mean_of

Ranking = Sequence[str]
Qrels = Mapping[str, int]
Metric = Callable[[Ranking, Qrels, int | None], float]


def relevant(qrels: Qrels) -> int:
    """Number of relevant documents."""
    return sum(grade > 0 for grade in qrels.values())


def grades(ranking: Ranking, qrels: Qrels, k: int | None = None) -> list[int]:
    """The grade at each of the first k ranks; negative grades count as 0.

    Raises CourseError for k below 1, and for an id that occurs twice in the ranking.
    """
    if k is not None and k < 1:
        raise CourseError(f"k={k}; a metric needs at least one rank", "k=10")
    check_ranking(ranking)
    return [max(0, qrels.get(doc_id, 0)) for doc_id in ranking[:k]]


def check_ranking(ranking: Ranking) -> None:
    """Raises CourseError for an id that occurs twice, and for a single string."""
    if isinstance(ranking, str) or len(set(ranking)) < len(ranking):
        raise CourseError(
            f"a ranking of {len(ranking)} documents has {len(set(ranking))} distinct ids",
            "rank every document once, as a list of ids",
        )


# -- one ranking ---------------------------------------------------------------------------------------------


def recall(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """The fraction of the relevant documents that was found.

    >>> recall(["a", "x", "b"], {"a": 1, "b": 1, "c": 1, "d": 1})
    0.5
    """
    return sum(g > 0 for g in grades(ranking, qrels, k)) / max(relevant(qrels), 1)


def precision(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """The fraction of k ranks with a relevant document; ranks beyond a short ranking count as not relevant.

    >>> precision(["a", "x"], {"a": 1}, 4)
    0.25
    """
    return sum(g > 0 for g in grades(ranking, qrels, k)) / max(len(ranking) if k is None else k, 1)


def success(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """1 if any relevant document was found, else 0."""
    return float(any(grades(ranking, qrels, k)))


def reciprocal_rank(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """1 / rank of the first relevant document, 0 without one. Its mean over queries is the MRR.

    >>> reciprocal_rank(["x", "a", "b"], {"a": 1, "b": 1})
    0.5
    """
    return next((1 / rank for rank, g in enumerate(grades(ranking, qrels, k), start=1) if g), 0.0)


def average_precision(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Mean, over the relevant documents, of the precision at their rank, 0 if not found. Its mean over
    queries is the MAP.

    >>> average_precision(["a", "x", "b"], {"a": 1, "b": 1, "c": 1})  # (1/1 + 2/3 + 0) / 3
    0.5555555555555555
    """
    hits, total = 0, 0.0
    for rank, grade in enumerate(grades(ranking, qrels, k), start=1):
        if grade:
            hits += 1
            total += hits / rank
    return total / max(relevant(qrels), 1)


def dcg(gains: Iterable[float]) -> float:
    """Discounted cumulative gain: the sum of gain / log2(1 + rank), with ranks from 1."""
    return math.fsum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


def ndcg(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """DCG divided by that of the best possible ranking; the gain is the grade (Järvelin and Kekäläinen 2002).

    >>> round(ndcg(["x", "a"], {"a": 3}), 3)
    0.631
    """
    gains, ideal = grades(ranking, qrels, k), sorted(grades(list(qrels), qrels), reverse=True)[:k]
    return dcg(gains) / dcg(ideal) if any(ideal) else 0.0


def ndcg_exponential(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """nDCG with gains of 2^grade - 1, so that grade 3 counts 7 times as much as grade 1 (Burges et al. 2005).

    Raises CourseError for a grade above 60.
    """
    if (highest := max(qrels.values(), default=0)) > 60:
        raise CourseError(f"a grade of {highest} has a gain of 2^{highest}", "use grades from 0 to 4")
    return ndcg(ranking, {doc_id: 2 ** max(0, grade) - 1 for doc_id, grade in qrels.items()}, k)


METRICS: dict[str, Metric] = {
    "ndcg": ndcg,
    "ndcg_exponential": ndcg_exponential,
    "recall": recall,
    "precision": precision,
    "mrr": reciprocal_rank,
    "map": average_precision,
    "success": success,
}


# -- many queries --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """values: metric name -> query id -> value, for every judged query."""

    values: dict[str, dict[str, float]]

    def __repr__(self) -> str:
        queries = len(next(iter(self.values.values()), {}))
        return (
            f"Evaluation({queries} queries; {', '.join(f'{name} {self.mean(name)}' for name in self.values)})"
        )

    def mean(self, name: str) -> Estimate:
        """The mean of a metric over all queries, with its confidence interval over other such queries."""
        return mean_of(list(self.values[name].values()))


def evaluate(
    run: Mapping[str, Ranking],
    qrels: Mapping[str, Qrels],
    metrics: Sequence[str] = ("ndcg@10", "recall@25", "mrr"),
) -> Evaluation:
    """Evaluate a run, query id -> ranking, with the qrels of all queries, query id -> document id -> grade.

    A judged query without a ranking counts 0. metrics: names of METRICS, with or without "@k". Raises
    CourseError for an unknown metric, for a query of the run that was not judged, and for a judged query
    without a relevant document, which no ranking could answer.

    >>> qrels = {"q1": {"a": 1}, "q2": {"b": 2}}
    >>> evaluate({"q1": ["a", "b"], "q2": ["a", "b"]}, qrels, ["mrr", "ndcg@1"]).values
    {'mrr': {'q1': 1.0, 'q2': 0.5}, 'ndcg@1': {'q1': 1.0, 'q2': 0.0}}
    """
    unjudged = [q for q in run if q not in qrels]
    unanswerable = [q for q, of_query in qrels.items() if not relevant(of_query)]
    if unjudged or unanswerable or not qrels:
        first = f"; the first is {(unjudged + unanswerable)[0]!r}" if unjudged + unanswerable else ""
        raise CourseError(
            f"{len(unjudged)} of {len(run)} rankings are of queries without qrels, and "
            f"{len(unanswerable)} of {len(qrels)} queries have no relevant document{first}",
            "evaluate only queries that have a relevant document",
        )
    chosen = {name: metric(name) for name in metrics}
    return Evaluation(
        {
            name: {q: function(run.get(q, ()), qrels[q], k) for q in qrels}
            for name, (function, k) in chosen.items()
        }
    )


def metric(name: str) -> tuple[Metric, int | None]:
    """The function and k of a name such as "ndcg@10" or "map". Raises CourseError for an unknown name."""
    base, at, k = name.partition("@")
    if base not in METRICS or (at and not (k.isdecimal() and int(k) > 0)):
        raise CourseError(
            f"unknown metric {name!r}; known, with or without @k: {', '.join(METRICS)}", 'metrics=["ndcg@10"]'
        )
    return METRICS[base], int(k) if at else None


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of A - B over queries, and its interval. questions: number of queries."""

    questions: int

    @property
    def verdict(self) -> str:
        """ "A", "B", or "undecided" if the interval contains 0."""
        return "A" if self.low > 0 else "B" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        verdict = self.verdict
        text = (
            "these questions do not tell which is better"
            if verdict == "undecided"
            else f"{verdict} is better"
        )
        interval = f"{self.low:+.3f} to {self.high:+.3f}"
        return f"A - B = {self.value:+.3f} ({interval}, {self.questions} questions): {text}"


def difference(
    a: Mapping[str, float], b: Mapping[str, float], *, coverage: float = 0.95, seed: int = 0
) -> Difference:
    """Is A better than B? Paired bootstrap of the differences per query (Sakai 2006,
    doi:10.1145/1148170.1148261).

    a, b: query id -> value, as in `Evaluation.values[name]`. coverage: of the interval.
    Raises CourseError if they are not of the same queries.
    """
    if a.keys() != b.keys() or not a:
        raise CourseError(
            f"a has {len(a)} queries and b {len(b)}; {len(a.keys() & b.keys())} of them are the same",
            "evaluate both systems on the same queries",
        )
    gaps = [a[q] - b[q] for q in sorted(a)]
    low, high = bootstrap_interval(gaps, coverage=coverage, seed=seed)
    return Difference(math.fsum(gaps) / len(gaps), low, high, coverage, len(gaps))
