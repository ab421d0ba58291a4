"""Evaluate rankings (recall, precision, MRR, MAP, nDCG, as computed by trec_eval) and compare two systems.

A ranking is a list of document ids (strings), best first. Qrels are the relevance judgements of one query:
document id -> grade, an integer. Ids match whether "é" is one Unicode character or two (`nfc` makes it one).
A document is relevant if its grade is 1 or more. A metric is a number from 0 to 1 for one ranking, and 0 if
the ranking is empty or no document is relevant. k is the number of ranks to evaluate, or None for all.
trec_eval is the program of the TREC conferences, which is used for most published results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from course_lib.errors import CourseError
from course_lib.measure.intervals import Estimate, bootstrap_interval, mean_of
from course_lib.names import nfc

Ranking = Sequence[str]
Qrels = Mapping[str, int]
Metric = Callable[[Ranking, Qrels, int | None], float]
MAX_EXPONENT = 60  # highest grade of `ndcg_exponential`; larger gains are certainly a mistake


def relevant_count(qrels: Qrels) -> int:
    """Return the number of relevant documents."""
    return sum(grade > 0 for grade in qrels.values())


def grades(ranking: Ranking, qrels: Qrels, k: int | None = None) -> list[int]:
    """Return the grade at each of the first k ranks; negative grades become 0.

    Raises CourseError for k below 1, and for an id that occurs twice in the ranking.
    """
    if k is not None and k < 1:
        raise CourseError(f"k={k}; k must be at least 1", "k=10")
    ids, grade_of = check_ranking(ranking), {nfc(doc_id): grade for doc_id, grade in qrels.items()}
    return [max(0, grade_of.get(doc_id, 0)) for doc_id in ids[:k]]


def check_ranking(ranking: Ranking) -> list[str]:
    """Return `nfc` of the ids. Raises CourseError for anything but different ids in a list."""
    if isinstance(ranking, Mapping):
        raise CourseError(
            f"a ranking is a list of ids, best first; got a mapping with {len(ranking)} keys",
            "sorted(scores, key=scores.get, reverse=True)",
        )
    if isinstance(ranking, str | set | frozenset) or not isinstance(ranking, Collection):
        raise CourseError(
            f"a ranking is a list of ids, best first; got {ranking!r:.60}", 'ranking=["id-1", "id-2"]'
        )
    ids = list(ranking)
    if wrong := [doc_id for doc_id in ids if not isinstance(doc_id, str)]:
        is_hit = hasattr(wrong[0], "id") or isinstance(wrong[0], tuple)
        raise CourseError(
            f"a ranking is a list of document ids, which are strings; got {wrong[0]!r:.60}",
            "[hit.id for hit in hits]" if is_hit else "[str(doc_id) for doc_id in ranking]",
        )
    names = list(map(nfc, ids))
    if len(set(names)) < len(names):
        raise CourseError(
            f"a ranking of {len(names)} documents has {len(set(names))} distinct ids",
            "give a list of ids in which every document occurs once",
        )
    return names


def check_qrels(qrels: object) -> None:
    """Raise CourseError for anything but a mapping from strings to integers."""
    if not isinstance(qrels, Mapping):
        raise CourseError(f"qrels map ids to grades; got {qrels!r:.60}", "dict.fromkeys(relevant_ids, 1)")
    for doc_id, grade in qrels.items():
        if not isinstance(doc_id, str) or not isinstance(grade, Integral):
            raise CourseError(
                f"qrels map ids, which are strings, to grades, which are integers; "
                f"got {doc_id!r:.60}: {grade!r}",
                "{str(doc_id): int(grade) for doc_id, grade in qrels.items()}",
            )


# -- one ranking ---------------------------------------------------------------------------------------------


def recall(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Return the fraction of the relevant documents that are in the ranking.

    >>> recall(["a", "x", "b"], {"a": 1, "b": 1, "c": 1, "d": 1})
    0.5
    """
    return sum(g > 0 for g in grades(ranking, qrels, k)) / max(relevant_count(qrels), 1)


def precision(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Return the fraction of the k ranks with a relevant document; ranks after the last are not relevant.

    >>> precision(["a", "x"], {"a": 1}, 4)
    0.25
    """
    return sum(g > 0 for g in grades(ranking, qrels, k)) / max(len(ranking) if k is None else k, 1)


def success(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Return 1 if there is a relevant document in the ranking, else 0."""
    return float(any(grades(ranking, qrels, k)))


def reciprocal_rank(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Return 1 / rank of the first relevant document, or 0. The mean over queries is the MRR.

    >>> reciprocal_rank(["x", "a", "b"], {"a": 1, "b": 1})
    0.5
    """
    return next((1 / rank for rank, g in enumerate(grades(ranking, qrels, k), start=1) if g), 0.0)


def average_precision(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Return the mean precision at the ranks of all relevant documents, 0 for one not in the ranking.

    The mean over queries is the MAP.

    >>> average_precision(["a", "x", "b"], {"a": 1, "b": 1, "c": 1})  # (1/1 + 2/3 + 0) / 3
    0.5555555555555555
    """
    hits, total = 0, 0.0
    for rank, grade in enumerate(grades(ranking, qrels, k), start=1):
        if grade:
            hits += 1
            total += hits / rank
    return total / max(relevant_count(qrels), 1)


def dcg(gains: Iterable[float]) -> float:
    """Return the discounted cumulative gain: the sum of gain / log2(1 + rank), with ranks from 1."""
    return math.fsum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains, start=1))


def ndcg(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Return DCG / DCG of the best possible ranking, with grades as gains (Järvelin and Kekäläinen 2002).

    >>> round(ndcg(["x", "a"], {"a": 3}), 3)
    0.631
    """
    gains, ideal = grades(ranking, qrels, k), sorted(grades(list(qrels), qrels), reverse=True)[:k]
    return dcg(gains) / dcg(ideal) if any(ideal) else 0.0


def ndcg_exponential(ranking: Ranking, qrels: Qrels, k: int | None = None) -> float:
    """Return nDCG with gains 2^grade - 1: grade 3 counts 7 times as much as grade 1 (Burges et al. 2005).

    Raises CourseError for a grade above MAX_EXPONENT.
    """
    if (highest := max(qrels.values(), default=0)) > MAX_EXPONENT:
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
    """The result of `evaluate`. values: metric name -> query id -> value."""

    values: dict[str, dict[str, float]]

    def __repr__(self) -> str:
        queries = len(next(iter(self.values.values()), {}))
        return (
            f"Evaluation({queries} queries; {', '.join(f'{name} {self.mean(name)}' for name in self.values)})"
        )

    def mean(self, name: str) -> Estimate:
        """Return the mean of a metric over all queries, with its confidence interval."""
        return mean_of(list(self.values[name].values()))


def evaluate(
    run: Mapping[str, Ranking],
    qrels: Mapping[str, Qrels],
    metrics: Sequence[str] = ("ndcg@10", "recall@25", "mrr"),
) -> Evaluation:
    """Evaluate a system's rankings of many queries.

    run: query id -> ranking. qrels: query id -> document id -> grade; a query that is not in `run` has the
    value 0. metrics: Keys of METRICS, with or without "@k". Raises CourseError for an unknown metric, for a
    query of the run without qrels, for qrels without a relevant document, and as `check_ranking` and
    `check_qrels` do.

    >>> qrels = {"q1": {"a": 1}, "q2": {"b": 2}}
    >>> evaluate({"q1": ["a", "b"], "q2": ["a", "b"]}, qrels, ["mrr", "ndcg@1"]).values
    {'mrr': {'q1': 1.0, 'q2': 0.5}, 'ndcg@1': {'q1': 1.0, 'q2': 0.0}}
    """
    for query_qrels in qrels.values():
        check_qrels(query_qrels)
    rankings = {_query_name(q): check_ranking(ranking) for q, ranking in run.items()}
    unjudged = rankings.keys() - set(map(_query_name, qrels))
    unanswerable = [q for q, query_qrels in qrels.items() if not relevant_count(query_qrels)]
    if unjudged or unanswerable or not qrels:
        wrong = [*sorted(unjudged, key=str), *unanswerable]
        first = f"; the first is {wrong[0]!r}" if wrong else ""
        raise CourseError(
            f"{len(unjudged)} of {len(run)} rankings belong to queries without qrels, and "
            f"{len(unanswerable)} of {len(qrels)} queries have no relevant document{first}",
            "evaluate only queries that have a relevant document",
        )
    chosen = {name: parse_metric(name) for name in metrics}
    return Evaluation(
        {
            name: {q: function(rankings.get(_query_name(q), ()), qrels[q], k) for q in qrels}
            for name, (function, k) in chosen.items()
        }
    )


def _query_name(query: Any) -> Any:
    return nfc(query) if isinstance(query, str) else query


def parse_metric(name: str) -> tuple[Metric, int | None]:
    """Return the function and k of a name such as "ndcg@10". Raises CourseError for an unknown name."""
    base, at, k = name.partition("@")
    if base not in METRICS or (at and not (k.isdecimal() and int(k) > 0)):
        raise CourseError(
            f"unknown metric {name!r}; known, with or without @k: {', '.join(METRICS)}", 'metrics=["ndcg@10"]'
        )
    return METRICS[base], int(k) if at else None


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of A - B over queries, with its confidence interval. questions: The number of queries."""

    questions: int

    @property
    def verdict(self) -> str:
        """The better system, "A" or "B", or "undecided" if the interval contains 0."""
        return "A" if self.low > 0 else "B" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        verdict = self.verdict
        text = "no clear difference" if verdict == "undecided" else f"{verdict} is better"
        interval = f"{self.low:+.3f} to {self.high:+.3f}"
        return f"A - B = {self.value:+.3f} ({interval}, {self.questions} questions): {text}"


def difference(
    a: Mapping[str, float], b: Mapping[str, float], *, coverage: float = 0.95, seed: int = 0
) -> Difference:
    """Compare systems A and B by a paired bootstrap over queries (Sakai 2006, doi:10.1145/1148170.1148261).

    It computes the mean difference for random resamples of the queries; the interval contains most of them.

    a, b: query id -> value of a metric, as in `Evaluation.values[name]`. coverage: The confidence level of
    the interval. Raises CourseError if the queries are not the same.
    """
    if a.keys() != b.keys() or not a:
        raise CourseError(
            f"a has {len(a)} queries and b has {len(b)}; they have {len(a.keys() & b.keys())} in common",
            "evaluate both systems on the same queries",
        )
    differences = [a[q] - b[q] for q in sorted(a)]
    low, high = bootstrap_interval(differences, coverage=coverage, seed=seed)
    return Difference(math.fsum(differences) / len(differences), low, high, coverage, len(differences))
