"""Chapter 03's widget over a real retriever: it shows the ranks, scores and measures of the library."""

import pytest

from course_lib.learn.widgets.hybrid_search import hybrid_search
from course_lib.retrieval import LSA, HybridRetriever
from course_lib.retrieval.fusion import FUSIONS
from course_lib.retrieval.metrics import ndcg

PASSAGES = {
    "cards-01": "A lost card is blocked at once in the app under Cards, or by phone at any hour.",
    "cards-02": "A new card arrives within five working days and costs 10 euros.",
    "cards-03": "The limit of a card is raised in the app; a higher limit needs a confirmation.",
    "fees-01": "A transfer abroad costs 15 euros, a transfer within the country is free.",
    "fees-02": "The account costs 4 euros a month, for students it is free.",
    "loans-01": "A loan is paid back each month; paying it back early costs a fee.",
    "loans-02": "An overdraft is a loan on the account, up to three months of income.",
    "branch-01": "Branches open at nine in the morning and close at four in the afternoon.",
    "app-01": "The app asks for a password and a code that is sent by message.",
    "app-02": "Forgotten passwords are renewed in a branch, with a passport.",
}
TITLES = {doc_id: f"<b>{doc_id}</b> & more" for doc_id in PASSAGES}
QUESTIONS = {
    "q1": "What does a transfer abroad cost?",
    "q2": "My card was lost",
    "q3": "When do branches open?",
}
QRELS = {"q1": {"fees-01": 3, "fees-02": 1, "cards-02": 0}, "q2": {"cards-01": 3, "cards-02": 1}}


class Counted(LSA):
    asked: list[str]

    def embed_queries(self, texts):
        self.asked += texts
        return super().embed_documents(texts)


@pytest.fixture(scope="module")
def embedder():
    fitted = LSA.fit(list(PASSAGES.values()), 6)
    counted = Counted(fitted.terms, fitted.idf, fitted.components)
    counted.asked = []
    return counted


@pytest.fixture(scope="module")
def retriever(embedder):
    return HybridRetriever.from_documents(PASSAGES, embedder, candidates=6, alpha=0.7)


@pytest.fixture
def explorer(retriever):
    return hybrid_search(retriever, QUESTIONS, QRELS, TITLES)


def lines_of(explorer, **values):
    return explorer.output_for(**values).text.splitlines()


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() == len(QUESTIONS) + 1 + 2 + 1 + 2 + 1 + len(FUSIONS) + 1


@pytest.mark.parametrize("alpha", [0, 0.35, 0.7, 1])
def test_the_measures_are_those_of_the_library(explorer, retriever, alpha):
    grades = QRELS["q1"]
    for fusion in FUSIONS:
        value, words, meaning = (
            ndcg([hit.id for hit in retriever.search(QUESTIONS["q1"], 6, alpha=a, fusion=fusion)], grades, 10)
            for a in (alpha, 0, 1)
        )
        line = lines_of(explorer, alpha=alpha, fusion=fusion)[1]
        assert line == f"nDCG@10: {value:.3f}; words alone {words:.3f}, meaning alone {meaning:.3f}."


def test_every_hit_has_its_line(explorer, retriever):
    lines = lines_of(explorer)
    hits = retriever.search(QUESTIONS["q1"], 6)
    assert lines[0] == "Question: What does a transfer abroad cost?"
    for hit, line in zip(hits, lines[2:], strict=False):
        assert line.startswith(f"{hit.rank}. {hit.id}, {TITLES[hit.id]}: {hit.score:.3f}; ")
        for name, place, score in (("meaning", hit.dense, "cosine"), ("words", hit.lexical, "BM25")):
            rank = f" number {place.rank}" if place and place.rank else ": not among the candidates"
            assert f"; {name}{rank}{f' ({score} {place.score:.2f})' if place else ''}" in line
        grade = QRELS["q1"].get(hit.id)
        assert ("grade" in line) == (grade is not None)
        assert grade is None or f"; {'relevant' if grade else 'not relevant'}, grade {grade}." in line
    assert lines[-1] == f"Why number 1? {retriever.explain(hits[0])}"
    assert any("not among the candidates" in line for line in lines) and any(
        "relevant, grade 3." in line for line in lines
    )


def test_a_question_is_searched_for_once(retriever, embedder):
    explorer = hybrid_search(retriever, QUESTIONS, QRELS, TITLES)
    embedder.asked.clear()
    explorer.drive()
    assert sorted(embedder.asked) == sorted(QUESTIONS.values())


def test_an_own_question_is_judged_only_where_it_is_a_judged_one(explorer):
    assert (
        explorer.output_for(own=f"  {QUESTIONS['q2']} ").text
        == explorer.output_for(question=QUESTIONS["q2"]).text
    )
    for lines in (lines_of(explorer, own="Where is my card?"), lines_of(explorer, question=QUESTIONS["q3"])):
        assert lines[1].startswith("Nobody judged") and not any("grade" in line for line in lines)
    assert explorer.output_for(own="   ").text == explorer.output_for().text


def test_a_question_that_finds_nothing_says_so(explorer):
    shown = explorer.output_for(own="xyzzy", alpha=0)
    assert shown.text.splitlines()[-1].startswith(
        "Nothing was found with alpha = 0.00: words found 0 passages, meaning "
    )
    assert "1." not in shown.text.splitlines()


def test_where_neither_leg_finds_anything_there_is_no_picture(embedder):
    shown = hybrid_search(HybridRetriever.from_documents({}, embedder), QUESTIONS, QRELS, {}).output_for()
    assert shown.picture is None and "words found 0 passages, meaning 0." in shown.text


def test_the_picture_has_both_legs_beside_the_ranking_and_marks_what_is_relevant(explorer, retriever):
    texts = explorer.output_for(alpha=0.35).picture.axes[0].texts
    (found,) = retriever.retrieve([QUESTIONS["q1"]])
    middle = [hit.id for hit in retriever.rank(found, 6, alpha=0.35)]
    for x, (name, ids) in enumerate(
        {
            "words alone": [h.id for h in found.lexical],
            "alpha = 0.35": middle,
            "meaning alone": [h.id for h in found.dense],
        }.items()
    ):
        assert [t.get_text() for t in texts if round(t.get_position()[0]) == x] == [name, *ids]
    assert {t.get_text() for t in texts if t.get_weight() == "bold"} == {"fees-01", "fees-02"}


def test_eight_hits_are_shown_and_ten_measured(embedder):
    wide = HybridRetriever.from_documents(PASSAGES, embedder)
    shown = hybrid_search(wide, QUESTIONS, {"q3": {"cards-02": 2}}, TITLES).output_for(
        question=QUESTIONS["q3"], alpha=1
    )
    ranking = [hit.id for hit in wide.search(QUESTIONS["q3"], 10, alpha=1)]
    assert len(ranking) == 10 and f"nDCG@10: {ndcg(ranking, {'cards-02': 2}, 10):.3f};" in shown.text
    assert "\n8. " in shown.text and "\n9. " not in shown.text
    assert len([t for t in shown.picture.axes[0].texts if t.get_position()[0] == 1]) == 1 + 8


def test_ids_and_titles_stand_as_text_and_not_as_markup(explorer):
    explorer.box  # noqa: B018
    explorer.fields["own"].value = "<script>card</script>"
    assert "&lt;b&gt;cards-01&lt;/b&gt; &amp; more" in explorer.text.value
    assert "<script>" not in explorer.text.value and "<b>" not in explorer.text.value


def test_what_the_retriever_refuses_is_said(retriever, monkeypatch):
    explorer = hybrid_search(retriever, QUESTIONS, QRELS, TITLES)
    monkeypatch.setattr(type(retriever.dense), "min_score", None)
    shown = explorer.output_for(fusion="theoretical")
    assert (
        shown.text.startswith("the lowest possible score of this vector store is unknown\n  Fix: ")
        and shown.picture is None
    )
    assert "(similarity " in hybrid_search(retriever, QUESTIONS, QRELS, TITLES).output_for(fusion="rrf").text


def test_the_retrievers_own_fusion_comes_first_and_questions_are_needed(embedder):
    other = HybridRetriever.from_documents(PASSAGES, embedder, fusion="rrf")
    assert hybrid_search(other, QUESTIONS, {}, {}).controls["fusion"].start == "rrf"
    with pytest.raises(ValueError, match="no questions"):
        hybrid_search(other, {}, {}, {})
