"""Chapter 04: what does a reranker do to a ranking? One question's candidates, as the search had them and as the reranker has."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from course_lib.errors import CourseError
from course_lib.learn.widgets.explorer import Choice, Explorer, Output, Range, Text
from course_lib.plots import Picture, rankings
from course_lib.retrieval.fusion import Candidates
from course_lib.retrieval.hits import HybridHit
from course_lib.retrieval.hybrid import HybridRetriever
from course_lib.retrieval.metrics import success
from course_lib.retrieval.rerank import EqualScoresWarning, Reranked, Reranker, rerank

SHOWN, KEPT, MOST = (
    8,
    3,
    100,
)  # ids in each column, passages that are kept after reranking, and candidates at most


class Remembered:
    """A reranker that reads each passage once for each question."""

    def __init__(self, reranker: Reranker) -> None:
        self.reranker = reranker
        self._scores: dict[tuple[str, str], float] = {}

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        new = [text for text in dict.fromkeys(texts) if (query, text) not in self._scores]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", EqualScoresWarning
            )  # of the new ones alone; what counts is all of them
            found = rerank(self.reranker, query, new)
        self._scores |= {(query, new[r.previous_rank - 1]): float(r.rerank_score or 0) for r in found}
        return [self._scores[query, text] for text in texts]


def reordered(reranker: Remembered, hits: Sequence[HybridHit]) -> tuple[list[Reranked], bool]:
    """The candidates, at least one, after reranking, and whether their scores say anything."""
    query, texts = hits[0].query, [hit.document.page_content for hit in hits]
    reranker.rerank(query, texts)  # all is read here: below there is but one warning to catch
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", EqualScoresWarning)
        return rerank(reranker, query, texts), not told


def describe(
    before: Sequence[str], found: Sequence[Reranked], gold: Collection[str] | None, titles: Mapping[str, str]
) -> str:
    """A line for each: its place, its score, its place before, and whether it answers the question. gold: None if not judged."""
    lines = []
    for hit in found:
        id = before[hit.previous_rank - 1]
        facts = [f"score {hit.rerank_score:.4g}", f"number {hit.previous_rank} before"]
        if gold is not None:
            facts.append("answers the question" if id in gold else "does not answer it")
        lines.append(f"{hit.rank}. {f'{id}, {titles[id]}' if titles.get(id) else id}: {'; '.join(facts)}.")
    return "\n".join(lines)


def measured(before: Sequence[str], after: Sequence[str], gold: Collection[str] | None) -> str:
    """Where the passages that answer the question went; or why nobody can say. gold: None if it was not judged."""
    if gold is None:
        return "Nobody judged which passages answer this question: judge with your own eyes."
    if not gold:
        return "No passage answers this question, so that no order of them is right."
    lines = [
        f"{id} answers it: number {before.index(id) + 1} before, number {after.index(id) + 1} after."
        if id in before
        else f"{id} answers it, but is not among the {len(before)} candidates: no reranker can help."
        for id in gold
    ]
    first, then = ("yes" if success(ids, dict.fromkeys(gold, 1), KEPT) else "no" for ids in (before, after))
    return "\n".join(
        [*lines, f"Is an answer among the first {KEPT} (success@{KEPT})? Before: {first}. After: {then}."]
    )


def columns(
    before: Sequence[str], after: Sequence[str], gold: Collection[str], name: str
) -> tuple[str, Picture]:
    """The first of both rankings side by side, in words and as a picture; gold is marked."""
    both = {"before (hybrid search)": before[:SHOWN], f"after ({name})": after[:SHOWN]}
    title = (
        "Blue and bold: answers the question"
        if set(gold) & set().union(*both.values())
        else "Each line: one passage"
    )
    words = (f"The first {len(ids)} {column}: {', '.join(ids)}." for column, ids in both.items())
    return "\n".join(words), rankings(both, gold, title=title)


def compared(
    hits: Sequence[HybridHit],
    name: str,
    reranker: Remembered,
    gold: Collection[str] | None,
    titles: Mapping[str, str],
) -> Output:
    """What is said and drawn of a question's candidates. Raises as `rerank`."""
    if not hits:
        return Output("The search found nothing, so that there is nothing to rerank.")
    found, telling = reordered(reranker, hits)
    before, after = [hit.id for hit in hits], [hits[r.previous_rank - 1].id for r in found]
    lines = [f"{len(hits)} passages read by: {name}."]
    if not telling:
        lines.append(
            "All scores are equal: that is no information, and the passages stay in the order of the search."
        )
    words, picture = columns(before, after, gold or (), name)
    return Output(
        "\n".join(
            [*lines, describe(before, found[:KEPT], gold, titles), measured(before, after, gold), words]
        ),
        picture,
    )


def reranking(
    retriever: HybridRetriever,
    rerankers: Mapping[str, Reranker],
    questions: Mapping[str, str],
    gold: Mapping[str, Collection[str]],
    titles: Mapping[str, str],
) -> Explorer:
    """The widget. questions: id -> text; gold: question's id -> ids of passages that answer it; titles: passage's id -> title.

    A question is searched for once, and each of its candidates read once by each reranker, when it is first wanted.
    Raises ValueError for no questions, no rerankers, and a retriever of fewer than 3 candidates.
    """
    if not questions or not rerankers:
        raise ValueError("no questions to ask" if rerankers else "no rerankers to ask")
    ids = {text: id for id, text in reversed(list(questions.items()))}  # of two with the same text the first
    texts = tuple(dict.fromkeys(questions.values()))
    remembered = {name: Remembered(reranker) for name, reranker in rerankers.items()}
    most = min(MOST, retriever.candidates)

    @lru_cache(maxsize=256)
    def retrieve(question: str) -> Candidates:
        return retriever.retrieve([question])[0]

    def show(question: str, own: str, reranker: str, candidates: float) -> Output:
        asked = own.strip() or question
        try:
            hits = retriever.rank(retrieve(asked), int(candidates), rerank=None)
            text, picture = compared(
                hits, reranker, remembered[reranker], gold.get(ids.get(asked, "")), titles
            )
        except CourseError as error:
            text, picture = f"{error.what}: {error.fix}.", None
        return Output(f"Question: {asked}\n{text}", picture)

    return Explorer(
        "reranking",
        "Rerank the candidates",
        show,
        {
            "question": Choice("question", texts),
            "own": Text("or your own question", "", (texts[-1], "?")),
            "reranker": Choice("reranker", tuple(rerankers)),
            "candidates": Range("candidates that it reads", KEPT, most, min(25, most)),
        },
    )
