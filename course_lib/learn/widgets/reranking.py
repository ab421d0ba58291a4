"""The widget of chapter 04: how a model, the reranker, changes the order of the passages of a search."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence

from course_lib.learn.widgets.explorer import Choice, Explorer, Output, Range
from course_lib.learn.widgets.questions import MAX_SHOWN, Questions, passage_label
from course_lib.plots import Picture, rankings
from course_lib.retrieval.hits import HybridHit
from course_lib.retrieval.hybrid import HybridRetriever
from course_lib.retrieval.metrics import success
from course_lib.retrieval.rerank import EqualScoresWarning, Reranked, Reranker, rerank

TOP_K = 3  # passages described in the text; success@k asks whether one of the first k answers the question
MAX_CANDIDATES = 100  # passages that the reranker sorts at most


class CachedReranker:
    """A reranker that caches its scores, so that each (question, passage) pair is scored once."""

    def __init__(self, reranker: Reranker) -> None:
        self.reranker = reranker
        self._scores: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"CachedReranker({self.reranker!r}, {len(self._scores)} scores)"

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the score of each text for the query."""
        new = [text for text in dict.fromkeys(texts) if (query, text) not in self._scores]
        with warnings.catch_warnings():
            # The widget itself says whether all scores are equal.
            warnings.simplefilter("ignore", EqualScoresWarning)
            reranked = rerank(self.reranker, query, new)
        self._scores |= {(query, new[r.previous_rank - 1]): float(r.rerank_score or 0) for r in reranked}
        return [self._scores[query, text] for text in texts]


def reranked_hits(reranker: CachedReranker, hits: Sequence[HybridHit]) -> tuple[list[Reranked], bool]:
    """Return the hits, of which there must be one, in their new order, and whether all scores are equal."""
    query, texts = hits[0].query, [hit.document.page_content for hit in hits]
    reranker.rerank(query, texts)  # fill the cache, so that below only the EqualScoresWarning can occur
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EqualScoresWarning)
        return rerank(reranker, query, texts), bool(caught)


def describe(
    before: Sequence[str], after: Sequence[Reranked], gold: Collection[str] | None, titles: Mapping[str, str]
) -> str:
    """Return a line for each passage: its score, its previous rank, and whether it answers the question.

    gold: ids of the passages that answer it; None if the question was not judged.
    """
    lines = []
    for hit in after:
        passage_id = before[hit.previous_rank - 1]
        facts = [f"score {hit.rerank_score:.4g}", f"number {hit.previous_rank} before"]
        if gold is not None:
            facts.append("answers the question" if passage_id in gold else "does not answer it")
        lines.append(f"{hit.rank}. {passage_label(passage_id, titles)}: {'; '.join(facts)}.")
    return "\n".join(lines)


def describe_gold(before: Sequence[str], after: Sequence[str], gold: Collection[str] | None) -> str:
    """Return the ranks, before and after, of the passages that answer the question.

    gold: ids of these passages; None if the question was not judged.
    """
    if gold is None:
        return "Nobody judged which passages answer this question: judge with your own eyes."
    if not gold:
        return "No passage answers this question, so no order is better than another."
    lines = []
    for passage_id in gold:
        if passage_id in before:
            ranks = (
                f"number {before.index(passage_id) + 1} before, number {after.index(passage_id) + 1} after"
            )
            lines.append(f"{passage_id} answers it: {ranks}.")
        else:
            missing = f"is not among the {len(before)} candidates: no reranker can help"
            lines.append(f"{passage_id} answers it, but {missing}.")
    first, then = ("yes" if success(ids, dict.fromkeys(gold, 1), TOP_K) else "no" for ids in (before, after))
    lines.append(f"Is an answer among the first {TOP_K} (success@{TOP_K})? Before: {first}. After: {then}.")
    return "\n".join(lines)


def columns(
    before: Sequence[str], after: Sequence[str], gold: Collection[str], reranker: str
) -> tuple[str, Picture]:
    """Return the first passages of both rankings as text and as a picture, in which `gold` is marked."""
    ids = {"before (hybrid search)": before[:MAX_SHOWN], f"after ({reranker})": after[:MAX_SHOWN]}
    marked = set(gold) & set().union(*ids.values())
    title = "Blue and bold: answers the question" if marked else "Each line: one passage"
    lines = (f"The first {len(column)} {name}: {', '.join(column)}." for name, column in ids.items())
    return "\n".join(lines), rankings(ids, gold, title=title)


def compare_orders(
    hits: Sequence[HybridHit],
    name: str,
    reranker: CachedReranker,
    gold: Collection[str] | None,
    titles: Mapping[str, str],
) -> Output:
    """Return the order of a question's candidates before and after reranking. Raises what `rerank` raises."""
    if not hits:
        return Output("The search found nothing, so there is nothing to rerank.")
    reranked, equal = reranked_hits(reranker, hits)
    before = [hit.id for hit in hits]
    after = [before[r.previous_rank - 1] for r in reranked]
    lines = [f"{len(hits)} passages read by: {name}."]
    if equal:
        unchanged = "the passages stay in the order of the search"
        lines.append(f"All scores are equal: that is no information, and {unchanged}.")
    words, picture = columns(before, after, gold or (), name)
    lines += [describe(before, reranked[:TOP_K], gold, titles), describe_gold(before, after, gold), words]
    return Output("\n".join(lines), picture)


def reranking(
    retriever: HybridRetriever,
    rerankers: Mapping[str, Reranker],
    questions: Mapping[str, str],
    gold: Mapping[str, Collection[str]],
    titles: Mapping[str, str],
) -> Explorer:
    """Return the widget.

    rerankers: name -> reranker. questions: id -> text. gold: question id -> ids of the passages that answer
    it. titles: passage id -> title.

    Search results and reranker scores are cached. Raises ValueError for no questions, no rerankers, or a
    retriever of fewer than TOP_K candidates.
    """
    asker = Questions(questions, retriever)
    if not rerankers:
        raise ValueError("no rerankers to ask")
    cached = {name: CachedReranker(reranker) for name, reranker in rerankers.items()}
    max_candidates = min(MAX_CANDIDATES, retriever.candidates)

    def show(question: str, own: str, reranker: str, candidates: float) -> Output:
        text, question_id = asker.resolve(question, own)
        hits = retriever.rank(asker.retrieve(text), int(candidates), rerank=None)
        compared, picture = compare_orders(hits, reranker, cached[reranker], gold.get(question_id), titles)
        return Output(f"Question: {text}\n{compared}", picture)

    controls = asker.controls | {
        "reranker": Choice("reranker", tuple(rerankers)),
        "candidates": Range("candidates that it reads", TOP_K, max_candidates, min(25, max_candidates)),
    }
    return Explorer("reranking", "Rerank the candidates", show, controls)
