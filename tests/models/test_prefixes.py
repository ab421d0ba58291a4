"""The prefixes of an embedding model stand before queries and passages, whatever embeds them."""

import json
import shutil

import numpy as np
import pytest

from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.manager import ModelManager
from course_lib.models.schema import ModelSpec, SpecError
from course_lib.retrieval import Dense, HybridRetriever

PREFIXES = {"query_prefix": "ask: ", "passage_prefix": "text: "}
TASK = {"task": "text-embedding"}


@pytest.fixture(scope="module")
def plain():
    return load("all-MiniLM-L6-v2", **TASK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """MiniLM with prefixes in its files, as sentence-transformers writes them."""
    folder = tmp_path_factory.mktemp("prompts") / "model"
    shutil.copytree(catalog.verify_shipped(catalog.MINILM), folder)
    prompts = {"query": "ask: ", "document": "text: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return folder


@pytest.fixture
def manager():
    manager = ModelManager()
    yield manager
    manager.unload_all()


@pytest.mark.parametrize(
    ("name", "driver"), [("all-MiniLM-L6-v2", "huggingface"), ("haneul-300k", "llamacpp")]
)
def test_every_driver_puts_them_before_each_text_of_their_kind(name, driver):
    engine = load(name, driver=driver, **TASK, **PREFIXES)
    expected = engine.embed(["fee", "ask: fee", "text: fee"])
    embedded = np.vstack([engine.embed(["fee"], kind) for kind in (None, "query", "passage")])
    assert embedded == pytest.approx(expected, abs=1e-5)
    assert abs(expected[0] - expected[1]).max() > 0.01 < abs(expected[1] - expected[2]).max()
    with pytest.raises(CourseError, match="kind='document'; a text is a query or a passage"):
        engine.embed(["fee"], "document")


def test_token_vectors_have_them_too(plain):
    engine = load("all-MiniLM-L6-v2", **TASK, **PREFIXES)
    assert np.allclose(engine.embed_tokens(["fee"], "query")[0], plain.embed_tokens(["ask: fee"])[0])


def test_langchain_and_every_search_use_them(manager, plain):
    embeddings = manager.get_embedding_model({"source": "all-MiniLM-L6-v2"} | PREFIXES)
    query, passage = plain.embed(["ask: fee", "text: A fee is due."])
    assert np.allclose(embeddings.embed_query("fee"), query, atol=1e-5)
    assert np.allclose(embeddings.embed_documents(["A fee is due."])[0], passage, atol=1e-5)
    dense = Dense(embeddings)
    dense.add({"a": "A fee is due."})
    hybrid = HybridRetriever.from_documents({"a": "A fee is due."}, embeddings)
    for score in (dense.search("fee")[0].score, hybrid.search("fee")[0].dense.score):
        assert score == pytest.approx(float(query @ passage), abs=1e-5)


def test_they_come_from_the_models_files_unless_they_are_given(folder, plain):
    assert load(folder, **TASK).prefixes == {"query": "ask: ", "passage": "text: "}
    assert load(folder, **TASK, query_prefix="").prefixes == {"query": "", "passage": "text: "}
    assert plain.prefixes == {"query": "", "passage": ""}


def test_a_saved_model_keeps_them(tmp_path):
    saved = load("all-MiniLM-L6-v2", **TASK, **PREFIXES).save(tmp_path / "saved")
    assert load(saved, **TASK).prefixes == {"query": "ask: ", "passage": "text: "}


def test_prompts_that_are_no_texts_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "config_sentence_transformers.json").write_text('{"prompts": {"query": 1}}')
    with pytest.raises(
        CourseError, match=r"prompts in config_sentence_transformers\.json of model are no texts"
    ):
        load(tmp_path / "model", **TASK)


@pytest.mark.parametrize(
    "name", ["multilingual-e5-small", "intfloat/multilingual-e5-small", "multilingual-e5-small-q4"]
)
def test_the_catalogue_gives_them(name):
    spec = ModelSpec.parse(name)
    assert (spec.task, spec.query_prefix, spec.passage_prefix) == ("text-embedding", "query: ", "passage: ")
    assert ModelSpec.parse(name, query_prefix="").query_prefix == ""


def test_another_task_refuses_them():
    with pytest.raises(SpecError, match="the task rerank embeds no queries and passages"):
        ModelSpec.parse("haneul-cross-encoder", query_prefix="query: ")


def test_the_error_for_a_long_text_leaves_room_for_the_prefix(plain):
    with pytest.raises(CourseError, match="text 2 has 402 tokens; all-MiniLM-L6-v2 reads 256") as raised:
        plain.embed(["short", "word " * 400])
    assert raised.value.fix == "split_text(text, token_spans(engine.tokenizer), max_tokens=256)"
    with pytest.raises(CourseError) as raised:
        load("all-MiniLM-L6-v2", **TASK, **PREFIXES).embed(["word " * 400], "passage")
    assert raised.value.fix.endswith("max_tokens=254)")
