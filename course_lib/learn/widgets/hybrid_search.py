"""The widget of chapter 03: how alpha, the weight of semantic against lexical search, changes a ranking.

Semantic search compares meanings (cosines of vectors), lexical search words (BM25). Fusion mixes the two.
nDCG is a score of a ranking from 0 to 1, computed from the relevance grades of its passages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from course_lib.learn.widgets.explorer import Choice, Explorer, Output, Range
from course_lib.learn.widgets.questions import MAX_SHOWN, Questions, passage_label
from course_lib.plots import Picture, rankings
from course_lib.retrieval.fusion import FUSIONS, MIN_COSINE, Candidates, RetrieverScore
from course_lib.retrieval.hits import HybridHit
from course_lib.retrieval.hybrid import HybridRetriever
from course_lib.retrieval.metrics import Qrels, ndcg

K = 10  # the cutoff rank of nDCG


def describe(
    hits: Sequence[HybridHit],
    grades: Mapping[str, int],
    titles: Mapping[str, str],
    similarity: str = "cosine",
) -> str:
    """Return a line for each hit: its score, its rank and score in each retriever, and its relevance grade.

    grades: passage id -> grade, for judged passages. similarity: name of the semantic retriever's score.
    """
    lines = []
    for hit in hits:
        facts = [
            f"{hit.score:.3f}",
            _describe_score("meaning", hit.dense, similarity),
            _describe_score("words", hit.lexical, "BM25"),
        ]
        if hit.id in grades:
            facts.append(f"{'relevant' if grades[hit.id] > 0 else 'not relevant'}, grade {grades[hit.id]}")
        lines.append(f"{hit.rank}. {passage_label(hit.id, titles)}: {'; '.join(facts)}.")
    return "\n".join(lines)


def _describe_score(retriever: str, score: RetrieverScore | None, unit: str) -> str:
    rank = f" number {score.rank}" if score and score.rank else ": not among the candidates"
    return f"{retriever}{rank}" + (f" ({unit} {score.score:.2f})" if score else "")


def describe_ndcg(ranking: Sequence[str], candidates: Candidates, grades: Qrels | None) -> str:
    """Return the nDCG of the ranking and of each retriever alone; without grades, why there is none."""
    if grades is None:
        nobody = "Nobody judged which passages are relevant to this question, so there is no nDCG"
        return f"{nobody}: judge with your own eyes."
    words, meaning = ([hit.id for hit in hits] for hits in (candidates.lexical, candidates.dense))
    value, of_words, of_meaning = (ndcg(ids, grades, K) for ids in (ranking, words, meaning))
    return f"nDCG@{K}: {value:.3f}; words alone {of_words:.3f}, meaning alone {of_meaning:.3f}."


def columns(
    ranking: Sequence[str], candidates: Candidates, alpha: float, relevant: Collection[str]
) -> Picture | None:
    """Draw the first hits of lexical search, of this alpha and of semantic search; None if there are none."""
    ids = {
        "words alone": [hit.id for hit in candidates.lexical],
        f"alpha = {alpha:.2f}": list(ranking),
        "meaning alone": [hit.id for hit in candidates.dense],
    }
    if not any(ids.values()):
        return None
    title = "Blue and bold: relevant" if relevant else "Each line: one passage"
    return rankings({name: column[:MAX_SHOWN] for name, column in ids.items()}, relevant, title=title)


def hybrid_search(
    retriever: HybridRetriever,
    questions: Mapping[str, str],
    qrels: Mapping[str, Qrels],
    titles: Mapping[str, str],
) -> Explorer:
    """Return the widget.

    questions: id -> text. qrels: question id -> passage id -> relevance grade, for judged questions. titles:
    passage id -> title.

    The passages that are found for a question are cached. Raises ValueError for no questions.
    """
    asker = Questions(questions, retriever)
    # The scores of the semantic search are cosines if the lowest possible one is that of a cosine, -1.
    similarity = "cosine" if retriever.dense.min_score == MIN_COSINE else "similarity"

    def show(question: str, own: str, alpha: float, fusion: str) -> Output:
        text, question_id = asker.resolve(question, own)
        candidates, grades = asker.retrieve(text), qrels.get(question_id)
        hits = retriever.rank(candidates, min(K, retriever.candidates), alpha=alpha, fusion=fusion)  # type: ignore[arg-type]
        ranking = [hit.id for hit in hits]
        lines = [f"Question: {text}", describe_ndcg(ranking, candidates, grades)]
        if hits:
            lines += [describe(hits[:MAX_SHOWN], grades or {}, titles, similarity)]
            lines += [f"Why number 1? {retriever.explain(hits[0])}"]
        else:
            found = f"words found {len(candidates.lexical)} passages, meaning {len(candidates.dense)}"
            lines += [f"Nothing was found with alpha = {alpha:.2f}: {found}."]
        relevant = [passage_id for passage_id, grade in (grades or {}).items() if grade > 0]
        return Output("\n".join(lines), columns(ranking, candidates, alpha, relevant))

    controls = asker.controls | {
        "alpha": Range("alpha, the weight of meaning", 0, 1, 0.7, 0.05),
        "fusion": Choice("fusion", tuple(sorted(FUSIONS, key=lambda name: name != retriever.fusion))),
    }
    return Explorer("hybrid-search", "Move alpha", show, controls)
