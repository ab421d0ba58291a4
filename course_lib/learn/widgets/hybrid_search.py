"""Chapter 03: what does alpha do to a ranking? One question, searched for by words, by meaning, and by what lies between."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from course_lib.errors import CourseError
from course_lib.learn.widgets.explorer import Choice, Explorer, Output, Range, Text
from course_lib.plots import Picture, rankings
from course_lib.retrieval.fusion import FUSIONS, MIN_COSINE, Candidates, RetrieverScore
from course_lib.retrieval.hits import HybridHit
from course_lib.retrieval.hybrid import HybridRetriever
from course_lib.retrieval.metrics import Qrels, ndcg

SHOWN, JUDGED = 8, 10  # hits that are shown, and places that nDCG looks at


def describe(
    hits: Sequence[HybridHit],
    grades: Mapping[str, int],
    titles: Mapping[str, str],
    similarity: str = "cosine",
) -> str:
    """A line for each hit: its place, its score, where each retriever has it, and how relevant somebody judged it to be.

    similarity: what the scores of meaning are.
    """
    lines = []
    for hit in hits:
        name = f"{hit.id}, {titles[hit.id]}" if titles.get(hit.id) else hit.id
        facts = [
            f"{hit.score:.3f}",
            _place("meaning", hit.dense, similarity),
            _place("words", hit.lexical, "BM25"),
        ]
        if hit.id in grades:
            facts.append(f"{'relevant' if grades[hit.id] > 0 else 'not relevant'}, grade {grades[hit.id]}")
        lines.append(f"{hit.rank}. {name}: {'; '.join(facts)}.")
    return "\n".join(lines)


def _place(name: str, place: RetrieverScore | None, score: str) -> str:
    rank = f"{name} number {place.rank}" if place and place.rank else f"{name}: not among the candidates"
    return f"{rank} ({score} {place.score:.2f})" if place else rank


def measured(ranking: Sequence[str], candidates: Candidates, grades: Qrels | None) -> str:
    """How good the ranking is, beside each retriever alone; or why nobody can say. grades: None for a question that was not judged."""
    if grades is None:
        return "Nobody judged which passages are relevant to this question, so there is no nDCG: judge with your own eyes."
    words, meaning = ([hit.id for hit in hits] for hits in (candidates.lexical, candidates.dense))
    value, by_words, by_meaning = (ndcg(ids, grades, JUDGED) for ids in (ranking, words, meaning))
    return f"nDCG@{JUDGED}: {value:.3f}; words alone {by_words:.3f}, meaning alone {by_meaning:.3f}."


def nothing(candidates: Candidates, alpha: float) -> str:
    """What is said where the ranking is empty."""
    found = f"words found {len(candidates.lexical)} passages, meaning {len(candidates.dense)}"
    return f"Nothing was found with alpha = {alpha:.2f}: {found}."


def columns(
    ranking: Sequence[str], candidates: Candidates, alpha: float, relevant: Collection[str]
) -> Picture | None:
    """Words alone, this alpha, meaning alone: the first of each side by side. None where nothing was found."""
    found = [hit.id for hit in candidates.lexical], list(ranking), [hit.id for hit in candidates.dense]
    if not any(found):
        return None
    names = "words alone", f"alpha = {alpha:.2f}", "meaning alone"
    title = "Blue and bold: relevant" if relevant else "Each line: one passage"
    return rankings(
        {name: ids[:SHOWN] for name, ids in zip(names, found, strict=True)}, relevant, title=title
    )


def hybrid_search(
    retriever: HybridRetriever,
    questions: Mapping[str, str],
    qrels: Mapping[str, Qrels],
    titles: Mapping[str, str],
) -> Explorer:
    """The widget. questions: id -> text; qrels: question's id -> passage's id -> grade; titles: passage's id -> title.

    A question is searched for once, however often alpha is moved, so documents that are added later are not found by it.
    Raises ValueError for no questions.
    """
    if not questions:
        raise ValueError("no questions to ask")
    ids = {text: id for id, text in reversed(list(questions.items()))}  # of two with the same text the first
    texts = tuple(dict.fromkeys(questions.values()))
    similarity = "cosine" if retriever.dense.min_score == MIN_COSINE else "similarity"

    @lru_cache(maxsize=256)
    def retrieve(question: str) -> Candidates:
        return retriever.retrieve([question])[0]

    def show(question: str, own: str, alpha: float, fusion: str) -> Output:
        asked = own.strip() or question
        grades = qrels.get(ids.get(asked, ""))
        try:
            candidates = retrieve(asked)
            hits = retriever.rank(candidates, min(JUDGED, retriever.candidates), alpha=alpha, fusion=fusion)  # type: ignore[arg-type]
        except CourseError as error:
            return Output(f"{error.what}: {error.fix}.")
        ranking = [hit.id for hit in hits]
        lines = [
            f"Question: {asked}",
            measured(ranking, candidates, grades),
            describe(hits[:SHOWN], grades or {}, titles, similarity),
        ]
        why = f"Why number 1? {retriever.explain(hits[0])}" if hits else nothing(candidates, alpha)
        relevant = [id for id, grade in (grades or {}).items() if grade > 0]
        return Output("\n".join(filter(None, [*lines, why])), columns(ranking, candidates, alpha, relevant))

    return Explorer(
        "hybrid-search",
        "Move alpha",
        show,
        {
            "question": Choice("question", texts),
            "own": Text("or your own question", "", (texts[-1], "?")),
            "alpha": Range("alpha, the weight of meaning", 0, 1, 0.7, 0.05),
            "fusion": Choice("fusion", tuple(sorted(FUSIONS, key=lambda f: f != retriever.fusion))),
        },
    )
