"""Chapter 04's widget over a real retriever: it shows the ranks, scores and measures of the library."""

import re
import warnings

import pytest

from course_lib.data import load_passages, load_questions
from course_lib.errors import CourseError
from course_lib.learn.widgets.reranking import reranking
from course_lib.models import ModelManager
from course_lib.retrieval import LSA, HybridRetriever, LateInteraction
from course_lib.retrieval.metrics import success
from course_lib.retrieval.rerank import rerank

PASSAGES = load_passages()
TITLES = {doc_id: f"<b>{p.title}</b>" for doc_id, p in PASSAGES.items()}
SOME = [
    *load_questions("test", "two-passage")[:2],
    *load_questions("test", "paraphrase")[:2],
    *load_questions("test", "unanswerable")[:1],
]
QUESTIONS = {q.id: q.question for q in SOME}
GOLD = {q.id: q.gold for q in SOME}
FIRST = SOME[0]


class Overlap:
    """The share of a passage's words that the question has."""

    def __init__(self):
        self.read = []

    def rerank(self, query, texts):
        self.read += [(query, text) for text in texts]
        asked = words(query)
        return [len(asked & words(text)) / len(words(text)) for text in texts]


class Same:
    def rerank(self, query, texts):
        return [0.25] * len(texts)


class Refusing:
    refuses = True

    def rerank(self, query, texts):
        if self.refuses:
            raise CourseError("the <model> is asleep", "wake it")
        return [float(len(text)) for text in texts]


def words(text):
    return set(re.findall(r"\w+", text.lower()))


@pytest.fixture(scope="module")
def embedder():
    return LSA.fit([p.text for p in PASSAGES.values()], 32)


@pytest.fixture(scope="module")
def retriever(embedder):
    return HybridRetriever.from_documents(
        {doc_id: p.text for doc_id, p in PASSAGES.items()}, embedder, candidates=100
    )


@pytest.fixture(scope="module")
def minilm():
    return ModelManager().get_embedding_model("all-MiniLM-L6-v2")


@pytest.fixture
def overlap():
    return Overlap()


@pytest.fixture
def explorer(retriever, overlap):
    return reranking(retriever, {"overlap": overlap, "all the same": Same()}, QUESTIONS, GOLD, TITLES)


def expected(retriever, question, n, reranker):
    """Ids before and after, and what the library says of each."""
    hits = retriever.rank(retriever.retrieve([question])[0], n, rerank=None)
    found = rerank(reranker, question, [hit.document.page_content for hit in hits])
    return [hit.id for hit in hits], [hits[r.previous_rank - 1].id for r in found], found


def drawn(picture):
    """Ids of the first and of the second column, what is bold, and both ends of each line."""
    axes = picture.axes[0]
    before, after = (
        [t.get_text() for t in axes.texts if round(t.get_position()[0]) == x and t.get_position()[1] >= 0]
        for x in (0, 1)
    )
    bold = {t.get_text() for t in axes.texts if t.get_weight() == "bold"}
    return before, after, bold, [[*line.get_ydata()] for line in axes.lines]


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() == len(QUESTIONS) + 1 + 2 + 1 + 2 + 1 + 2 + 1
    assert (
        explorer.controls["candidates"].test_values == (3, 100)
        and explorer.controls["candidates"].start == 25
    )


@pytest.mark.parametrize("n", [3, 7, 25, 100])
@pytest.mark.parametrize("asked", SOME, ids=lambda q: q.id)
def test_places_scores_and_measures_are_those_of_the_library(explorer, retriever, asked, n):
    before, after, found = expected(retriever, asked.question, n, Overlap())
    lines = explorer.output_for(question=asked.question, candidates=n).text.splitlines()
    assert lines[:2] == [f"Question: {asked.question}", f"{n} passages read by: overlap."]
    for doc_id, r, line in zip(after, found[:3], lines[2:5], strict=False):
        answers = "answers the question" if doc_id in asked.gold else "does not answer it"
        assert line == (
            f"{r.rank}. {doc_id}, {TITLES[doc_id]}: score {r.rerank_score:.4g}; number "
            f"{r.previous_rank} before; {answers}."
        )
    for doc_id, line in zip(asked.gold, lines[5:], strict=False):
        if doc_id in before:
            assert line == (
                f"{doc_id} answers it: number {before.index(doc_id) + 1} before, number "
                f"{after.index(doc_id) + 1} after."
            )
        else:
            assert line == f"{doc_id} answers it, but is not among the {n} candidates: no reranker can help."
    if asked.gold:
        first, then = (
            ["no", "yes"][int(success(ids, dict.fromkeys(asked.gold, 1), 3))] for ids in (before, after)
        )
        assert (
            lines[5 + len(asked.gold)]
            == f"Is an answer among the first 3 (success@3)? Before: {first}. After: {then}."
        )
    else:
        assert lines[5] == "No passage answers this question, so no order is better than another."
    assert len(lines) == 5 + len(asked.gold) + 1 + 2


def test_both_sentences_about_gold_are_seen(explorer):
    text = "\n".join(
        explorer.output_for(question=q, candidates=n).text for q in QUESTIONS.values() for n in (3, 100)
    )
    assert "no reranker can help" in text and re.search(
        r" answers it: number \d+ before, number \d+ after", text
    )
    assert all(f"{when}: {said}." in text for when in ("Before", "After") for said in ("yes", "no"))


@pytest.mark.parametrize("n", [3, 25, 100])
def test_the_picture_is_what_the_text_says(explorer, retriever, n):
    before, after, _ = expected(retriever, FIRST.question, n, Overlap())
    shown = explorer.output_for(candidates=n)
    left, right, bold, lines = drawn(shown.picture)
    assert (left, right) == (before[:8], after[:8])
    assert bold == set(FIRST.gold) & {*left, *right}
    assert lines == [[left.index(doc_id), right.index(doc_id)] for doc_id in left if doc_id in right]
    assert shown.text.splitlines()[-2:] == [
        f"The first {len(left)} before (hybrid search): {', '.join(left)}.",
        f"The first {len(left)} after (overlap): {', '.join(right)}.",
    ]
    assert shown.picture.axes[0].get_title() == (
        "Blue and bold: answers the question" if bold else "Each line: one passage"
    )


def test_a_passage_is_read_once_for_each_question(explorer, overlap):
    for n, read in ((3, 3), (25, 25), (7.5, 25), (100, 100), (40, 100), (3, 100)):
        explorer.output_for(candidates=n)
        assert len(overlap.read) == len(set(overlap.read)) == read
    explorer.output_for(candidates=10, question=SOME[1].question)
    assert len(overlap.read) == len(set(overlap.read)) == 110
    explorer.drive()
    read = list(overlap.read)
    explorer.drive()
    assert overlap.read == read and len(set(read)) == len(read)


def test_only_the_first_candidates_are_read(explorer, retriever, overlap):
    explorer.output_for(candidates=4)
    before, _, _ = expected(retriever, FIRST.question, 100, Overlap())
    assert overlap.read == [(FIRST.question, PASSAGES[doc_id].text) for doc_id in before[:4]]


def test_an_own_question_is_judged_only_where_it_is_a_judged_one(explorer):
    other = SOME[2].question
    assert explorer.output_for(own=f"  {other} ").text == explorer.output_for(question=other).text
    shown = explorer.output_for(own="How do I park my bicycle?")
    assert "\nNobody judged which passages answer this question: judge with your own eyes.\n" in shown.text
    assert (
        "answers the question" not in shown.text
        and "success@3" not in shown.text
        and not drawn(shown.picture)[2]
    )


@pytest.mark.parametrize("own", ["", "   "])
def test_an_empty_own_question_is_none(explorer, own):
    assert explorer.output_for(own=own).text == explorer.output_for().text


def test_a_question_that_asks_nothing_finds_nothing(minilm, overlap):
    few = HybridRetriever.from_documents(
        {doc_id: PASSAGES[doc_id].text for doc_id in list(PASSAGES)[:5]}, minilm
    )
    shown = reranking(few, {"overlap": overlap}, QUESTIONS, GOLD, TITLES).output_for(own=" ?! ")
    assert shown.text == "Question: ?!\nThe search found nothing, so there is nothing to rerank."
    assert shown.picture is None and not overlap.read


def test_what_a_reranker_refuses_is_said_and_is_asked_again(retriever):
    refusing = Refusing()
    explorer = reranking(retriever, {"refusing": refusing, "overlap": Overlap()}, QUESTIONS, GOLD, TITLES)
    assert explorer.box and "the &lt;model&gt; is asleep<br>  Fix: wake it<" in explorer.text.value
    assert explorer.output_for().picture is None
    refusing.refuses = False
    assert "25 passages read by: refusing." in explorer.output_for().text


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([float("nan")] * 25, "25 of 25 scores of Odd are not finite"),
        ([1.0], "Odd gave 1 scores for 25 texts"),
    ],
)
def test_scores_that_cannot_be_are_said(retriever, scores, message):
    class Odd:
        def rerank(self, query, texts):
            return scores

    shown = reranking(retriever, {"odd": Odd()}, QUESTIONS, GOLD, TITLES).output_for()
    assert message in shown.text and shown.picture is None


def test_equal_scores_are_said_to_tell_nothing(explorer, retriever):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (3, 25):
            shown = explorer.output_for(reranker="all the same", candidates=n)
            assert shown.text.splitlines()[2].startswith("All scores are equal: that is no information")
            left, right, _, lines = drawn(shown.picture)
            assert (
                left == right
                and all(a == b for a, b in lines)
                and "score 0.25; number 1 before" in shown.text
            )
    assert "no information" not in explorer.output_for().text


def test_equal_scores_of_what_is_new_are_information(retriever):
    class ByCall:
        calls = 0

        def rerank(self, query, texts):
            self.calls += 1
            return [float(self.calls)] * len(texts)

    explorer = reranking(retriever, {"by call": ByCall()}, QUESTIONS, GOLD, TITLES)
    assert "no information" in explorer.output_for(candidates=3).text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = explorer.output_for(candidates=6)
    assert "no information" not in shown.text
    assert drawn(shown.picture)[3][0] == [0, 3], "what was read later has the higher score"


def test_other_warnings_pass(retriever):
    class Loud(Overlap):
        def rerank(self, query, texts):
            warnings.warn("too long", stacklevel=1)
            return super().rerank(query, texts)

    with pytest.warns(UserWarning, match="too long"):
        reranking(retriever, {"loud": Loud()}, QUESTIONS, GOLD, TITLES).output_for()


def test_late_interaction_reranks_with_the_real_model(retriever, minilm):
    late = LateInteraction(minilm)
    explorer = reranking(retriever, {"late interaction": late, "overlap": Overlap()}, QUESTIONS, GOLD, TITLES)
    shown = explorer.output_for(candidates=12)
    before, after, found = expected(retriever, FIRST.question, 12, late)
    assert drawn(shown.picture)[:2] == (before[:8], after[:8])
    best = (
        f"1. {after[0]}, {TITLES[after[0]]}: score {found[0].rerank_score:.4g}; number "
        f"{found[0].previous_rank} before; "
    )
    assert best in shown.text
    assert "12 passages read by: late interaction." in shown.text


def test_ids_and_titles_stand_as_text_and_not_as_markup(explorer):
    explorer.box  # noqa: B018
    explorer.fields["own"].value = "<script>card</script>"
    assert (
        "&lt;b&gt;" in explorer.text.value
        and "<b>" not in explorer.text.value
        and "<script>" not in explorer.text.value
    )


def test_where_the_search_finds_nothing_there_is_nothing_to_rerank(embedder):
    shown = reranking(
        HybridRetriever.from_documents({}, embedder), {"overlap": Overlap()}, QUESTIONS, GOLD, {}
    ).output_for()
    assert (
        shown.text.endswith("The search found nothing, so there is nothing to rerank.")
        and shown.picture is None
    )


def test_a_handbook_that_is_smaller_than_the_budget(embedder):
    few = HybridRetriever.from_documents(
        {"a": "fees of accounts", "b": "cards and fees"}, embedder, candidates=300
    )
    explorer = reranking(few, {"overlap": Overlap()}, {"q": "Which fees?"}, {"q": ("b", "c")}, {})
    assert explorer.controls["candidates"].high == 100
    text = explorer.output_for(candidates=100).text
    assert "2 passages read by: overlap." in text and re.search(r"^1\. [ab]: score ", text, re.M)
    assert "\nc answers it, but is not among the 2 candidates: no reranker can help.\n" in text


def test_questions_rerankers_and_three_candidates_are_needed(retriever, embedder):
    with pytest.raises(ValueError, match="no questions"):
        reranking(retriever, {"overlap": Overlap()}, {}, {}, {})
    with pytest.raises(ValueError, match="no rerankers"):
        reranking(retriever, {}, QUESTIONS, {}, {})
    with pytest.raises(ValueError, match="lies outside"):
        reranking(
            HybridRetriever.from_documents({}, embedder, candidates=2), {"o": Overlap()}, QUESTIONS, {}, {}
        )
    small = HybridRetriever.from_documents({}, embedder, candidates=10)
    assert reranking(small, {"o": Overlap()}, QUESTIONS, {}, {}).controls["candidates"].start == 10
