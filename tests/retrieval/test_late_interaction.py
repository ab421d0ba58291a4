"""MaxSim equals a plain loop, passages are embedded once, and long passages are embedded completely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.models import ModelManager
from course_lib.models.manager.langchain import EmbeddingModel
from course_lib.retrieval import LateInteraction
from course_lib.retrieval.late_interaction import maxsim
from tests.retrieval.conftest import Hashed
from tests.retrieval.test_hybrid import TEXTS

HALF = 2.0**-11  # half the spacing of float16 values near 1: the maximum rounding error of a cosine


class HashedTokens(Hashed):
    """Gives each word a vector that depends on its letters, and records the texts it embedded."""

    def __init__(self):
        super().__init__()
        self.given = []

    def embed_query_tokens(self, text):
        return np.array([self.embed_query(word) for word in text.split()]).reshape(-1, self.dimensions)

    def embed_document_tokens(self, texts):
        self.given.append(list(texts))
        return [self.embed_query_tokens(text) for text in texts]


def vectors(seed, tokens):
    drawn = np.random.default_rng(seed).normal(size=(tokens, 5))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 9))
def test_maxsim_is_what_a_loop_says(seed, asked, read):
    query, passage = vectors(seed, asked), vectors(seed + 1, read)
    total = 0.0
    for q in query:
        total += max(sum(float(a) * float(b) for a, b in zip(q, p, strict=True)) for p in passage)
    assert maxsim(query, passage) == pytest.approx(total) and maxsim(query, query) == pytest.approx(asked)
    assert maxsim(query, np.concatenate([passage, vectors(seed + 2, 1)])) >= maxsim(query, passage) - 1e-9


@settings(max_examples=60)
@given(st.lists(TEXTS, max_size=9), TEXTS, st.randoms(use_true_random=False))
def test_all_in_one_product_is_one_by_one(texts, query, chance):
    embeddings = HashedTokens()
    asked = embeddings.embed_query_tokens(query)
    expected = [
        maxsim(asked, embeddings.embed_query_tokens(text)) if text and len(asked) else 0.0 for text in texts
    ]
    late = LateInteraction(embeddings)
    scores = late.rerank(query, texts)
    assert scores == pytest.approx(expected, abs=len(asked) * HALF + 1e-5) and all(
        type(score) is float for score in scores
    )
    order = chance.sample(range(len(texts)), len(texts))
    assert late.rerank(query, [texts[i] for i in order]) == pytest.approx(
        [scores[i] for i in order], abs=1e-5
    )
    assert LateInteraction(embeddings).rerank(query, texts[::-1]) == pytest.approx(scores[::-1], abs=1e-5)


def test_per_token_the_scores_of_a_long_and_a_short_query_can_be_compared():
    texts = ["fee card", "hours", "card card fee"]
    total, mean = LateInteraction(HashedTokens()), LateInteraction(HashedTokens(), per_token=True)
    for query in ("fee", "fee of the card"):
        words = len(query.split())
        assert np.allclose(np.array(total.rerank(query, texts)) / words, mean.rerank(query, texts))
    assert mean.rerank("fee card", texts)[0] == pytest.approx(mean.rerank("fee", texts)[0], abs=1e-3)


def test_a_text_is_embedded_once_and_all_new_ones_together():
    late = LateInteraction(embeddings := HashedTokens())
    late.add(text for text in ["annual fee", "card", "annual fee"])
    late.add(["card"])
    late.add([])
    assert embeddings.given == [["annual fee", "card"]] and len(late) == 2 and late.held_bytes == 3 * 16 * 2
    first = late.rerank("fee", ["card", "new one", "annual fee", "new one"])
    assert embeddings.given[1:] == [["new one"]] and first[1] == first[3] and len(late) == 3
    assert (
        late.rerank("fee", ["card", "new one", "annual fee", "new one"]) == first
        and len(embeddings.given) == 2
    )


def test_an_empty_text_has_cosine_0_and_nothing_to_read_no_score():
    late = LateInteraction(HashedTokens())
    assert late.rerank("annual fee", ["", "annual fee", ""])[::2] == [0, 0] and late.rerank(
        "", ["fee", ""]
    ) == [0, 0]
    assert LateInteraction(HashedTokens(), per_token=True).rerank("", ["fee", ""]) == [0, 0]
    assert late.rerank("fee", []) == []


# -- a real model --------------------------------------------------------------------------------------------

QUERY = "How do I report a lost card?"
ANSWER = "A lost or stolen card must be reported at once by telephone, and is blocked within a minute."
PASSAGES = [
    ANSWER,
    "fee",
    "",
    "The branch opens at nine. " * 16,
    "카드 연회비는 2,000원입니다.",
    "Interest " * 300,
]
# about 20 tokens
FILLER = "The branch at the river opens at nine and closes at five on every working day of the week. "


@pytest.fixture(scope="module")
def real():
    return ModelManager.shared().get_embedding_model("embed")


def test_every_token_has_a_vector_of_length_1(real):
    found = real.embed_document_tokens(PASSAGES)
    assert [len(v) for v in found[:3]] == [20, 1, 0] and all(v.shape[1] == 384 for v in found)
    assert np.linalg.norm(np.concatenate(found), axis=1) == pytest.approx(1, abs=1e-5)
    assert real.embed_query_tokens(QUERY) == pytest.approx(real.embed_document_tokens([QUERY])[0], abs=1e-5)
    assert real.embed_document_tokens([]) == []


def test_the_answer_comes_first_and_m_in_a_batch_change_nothing(real):
    together = LateInteraction(real).rerank(QUERY, PASSAGES)
    assert np.argmax(together) == 0 and together[2] == 0
    for text, score in zip(PASSAGES, together, strict=True):
        asked, read = real.embed_query_tokens(QUERY), real.embed_document_tokens([text])[0]
        alone = maxsim(asked, read) if text else 0.0
        assert score == pytest.approx(
            alone, abs=1e-3 * len(asked)
        )  # rounding to float16 is up to half of that
        assert LateInteraction(real).rerank(QUERY, [text])[0] == pytest.approx(score, abs=1e-3)


def test_a_passage_of_2000_tokens_is_read_to_its_end(real):
    filler = FILLER * 100
    late = LateInteraction(real)
    scores = late.rerank(QUERY, [filler, filler + ANSWER, ANSWER + " " + filler])
    assert all(len(vectors) > 2000 for vectors in late._vectors.values())
    assert scores[1] > scores[0] + 1 and scores[2] > scores[0] + 1


def test_the_words_before_questions_and_passages_are_tokens_like_others(real):
    spec = real.spec.model_copy(update={"query_prefix": "query: ", "passage_prefix": "passage: "})
    with_them = EmbeddingModel(real.manager, spec)
    assert with_them.embed_query_tokens("fee") == pytest.approx(
        real.embed_query_tokens("query: fee"), abs=1e-6
    )
    assert with_them.embed_document_tokens(["fee"])[0] == pytest.approx(
        real.embed_query_tokens("passage: fee"), abs=1e-6
    )
