"""What every engine promises: a stream is what generate says, a batch what each prompt says alone, scores are probabilities."""

import shutil
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.drivers.huggingface import before_stop, without_stops
from course_lib.models.engine import Unsupported
from course_lib.models.gguf_file import export
from course_lib.models.options import SpecError
from course_lib.models.scoring import log_probabilities

ASKED = "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the Sorin branch open?"
PROMPTS = [ASKED, "hi", "Question: What is the monthly fee of the Haneul Pine Salary Account?"]


@pytest.fixture(scope="module", params=["huggingface", "llamacpp"])
def engine(request):
    """On two cores llama.cpp has an instance for each of two texts; on one they would share it, as `LlamaCpp` says."""
    with pytest.MonkeyPatch.context() as setting:
        setting.setenv("OMP_NUM_THREADS", "2")
        return load("haneul-1m", driver=request.param, batch_size=2)


@pytest.fixture(scope="module")
def model():
    return load("haneul-1m")


def test_a_stream_is_the_answer_in_pieces(engine):
    for prompt, answer in zip(PROMPTS, engine.generate(PROMPTS), strict=True):
        pieces = list(engine.stream(prompt))
        assert "".join(pieces).strip() == answer and len(pieces) > 1


def test_leaving_a_stream_stops_the_model(engine):
    threads = threading.active_count()
    for piece in engine.stream(ASKED, max_output_length=1500, min_output_length=1500):
        assert piece is not None
        break
    begun = time.monotonic()
    while threading.active_count() > threads and time.monotonic() - begun < 10:
        time.sleep(0.01)
    assert threading.active_count() <= threads
    assert engine.generate([ASKED]) == ["09:30"]


def test_errors_of_a_stream_come_with_the_call_or_the_first_piece(engine):
    with pytest.raises(CourseError, match="reads 2048"):
        list(engine.stream("word " * 2100))


def test_one_seed_gives_one_text_alone_and_in_a_batch(engine):
    how = {"temperature": 1.5, "seed": 5, "max_output_length": 12}
    together = engine.generate(PROMPTS, **how)
    assert together == [engine.generate([p], **how)[0] for p in PROMPTS]
    assert together != engine.generate(PROMPTS, **how | {"seed": 6})


def test_counts_are_those_of_the_tokenizer(engine, model):
    for prompt, reply in zip(PROMPTS, engine.generate(PROMPTS), strict=True):
        assert reply.prompt_tokens == engine.count_tokens(prompt) == model.count_tokens(prompt)
        assert reply.finish == "stop"
        assert reply.tokens == len(model.tokenizer.encode(reply, add_special_tokens=False)) + 1  # and the end


def test_a_text_is_continued_as_it_stands_under_text_generation(engine):
    raw = load("haneul-1m", driver=engine.driver, task="text-generation")
    said = raw.generate(["The monthly fee of the account is"], max_output_length=6)[0]
    assert (
        said.startswith(" ")
        and said.finish == "length"
        and said.prompt_tokens == raw.count_tokens("The monthly fee of the account is")
    )
    with pytest.raises(ValueError, match="continues a text"):
        raw.generate([[{"role": "user", "content": "hi"}]])


def test_raw_texts_are_the_same_in_both_engines():
    text = "The Haneul Riverbend branch"
    both = [load("haneul-1m", driver=d, task="text-generation").generate([text], max_output_length=30)[0] for d in
            ("huggingface", "llamacpp")]  # fmt: skip
    assert both[0] == both[1]


@pytest.mark.parametrize("turns", [[], [{"role": "robot", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": 5}]])
def test_a_conversation_that_is_none_is_refused(engine, turns):
    with pytest.raises(ValueError, match="turn"):
        engine.generate([turns])


def test_many_threads_may_ask_at_once(engine):
    answers = engine.generate(PROMPTS)
    got = {}

    def ask(i):
        got[i] = engine.generate([PROMPTS[i % 3]])[0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {i: answers[i % 3] for i in range(12)}


def test_scores_are_what_a_pass_for_each_pair_gives(model):
    labels = ["09:30", "ten o'clock", "x", "", "the Sorin branch opens at 09:30 in the morning"]
    scores = model.score(PROMPTS, labels)
    for i, prompt in enumerate(PROMPTS):
        read = model.ids(model._prompt(prompt))
        for j, label in enumerate(labels):
            tail = model.tokenizer.encode(label, add_special_tokens=False)
            alone = sum(log_probabilities(model.model, [*read, *tail])[-len(tail) :]) if tail else 0.0
            assert scores[i, j] == pytest.approx(alone, abs=2e-3)
    assert scores[0].argmax() == 3 and scores[0, 0] == max(np.delete(scores[0], 3))
    assert model.score([], labels).shape == (0, 5) and model.score(PROMPTS, []).shape == (3, 0)


def test_the_probabilities_of_all_tokens_sum_to_one(model):
    every = model.tokenizer.batch_decode([[i] for i in range(200, 1200)])
    single = [t for t in every if len(model.tokenizer.encode(t, add_special_tokens=False)) == 1]
    assert len(single) > 500 and np.exp(model.score([ASKED], single)).sum() <= 1 + 1e-6


def test_a_model_without_a_template_is_no_chat_model_in_either_engine(tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(MODELS / "haneul-300k", folder)
    (folder / "chat_template.jinja").unlink()
    file = export(folder, tmp_path / "plain.gguf")
    for source, driver in ((folder, "llamacpp"), (file, "llamacpp")):
        with pytest.raises(CourseError, match="has no chat template"):
            load(source, driver=driver)
        assert len(load(source, driver=driver, task="text-generation").generate(["The fee"], max_output_length=3)) == 1
    with pytest.raises(CourseError, match="has no chat template"):
        load(folder).generate(["hi"])


@pytest.mark.parametrize("schema", [{"type": "banana"}, {"$ref": "#/nowhere"}, {"enum": []}])
def test_a_schema_to_which_llama_cpp_holds_nothing_is_refused_and_not_dropped(schema):
    with pytest.raises(Unsupported, match="schema"):
        load("haneul-300k", driver="llamacpp").generate(["hi"], json_schema=schema)


def test_a_schema_that_would_take_all_memory_is_refused():
    with pytest.raises(SpecError, match="maxItems 100000000; at most 10000"):
        load("haneul-300k", driver="llamacpp", generation={"json_schema": {"type": "array", "maxItems": 10**8}})


def test_what_llama_cpp_cannot_do_names_who_can():
    with pytest.raises(Unsupported, match=r"llamacpp cannot score\n.*huggingface"):
        load("haneul-300k", driver="llamacpp").score(["a"], ["b"])


@given(st.text("abcd", max_size=30), st.lists(st.text("abcd", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_a_stream_is_cut_where_the_answer_would_be(text, stops, size):
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    said = ["".join(pieces[: i + 1]) for i in range(len(pieces))]  # the model ends with the first piece that completes a stop
    written = next((t for t in said if before_stop(t, stops) != t), text)
    assert "".join(without_stops(iter(pieces), stops)) == before_stop(written, stops)


# -- encoders: random weights, compared with transformers itself ------------------------------------------------------


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Folders of a cross-encoder (one score) and a classifier (three labels), small and random."""
    out = {}
    minilm = catalog.folder_of(catalog.MINILM)
    for name, labels in (("rerank", 1), ("text-classification", 3)):
        torch.manual_seed(1)
        config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=labels,
                            max_position_embeddings=64)  # fmt: skip
        out[name] = tmp_path_factory.mktemp(name)
        BertForSequenceClassification(config).save_pretrained(out[name])
        AutoTokenizer.from_pretrained(minilm).save_pretrained(out[name])
    return out


TEXTS = ["Cards are blocked at once.", "no", "The branch opens at nine and closes at five, on Saturdays at noon.", "fees"]


def test_a_cross_encoder_scores_pairs_in_a_batch_as_alone(heads):
    engine = load(heads["rerank"], task="rerank", batch_size=3)
    scores = engine.rerank("When do you open?", TEXTS)
    assert scores == pytest.approx([engine.rerank("When do you open?", [t])[0] for t in TEXTS], abs=1e-5)
    said = engine.tokenizer("When do you open?", TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        assert scores[0] == pytest.approx(float(engine.model(**said).logits), abs=1e-5)
    assert engine.rerank("x", []) == []
    with pytest.raises(CourseError, match="reads 64"):
        engine.rerank("x", ["word " * 80])


def test_a_classifier_gives_probabilities(heads):
    engine = load(heads["text-classification"], task="text-classification")
    for row in engine.classify(TEXTS):
        assert set(row) == {"LABEL_0", "LABEL_1", "LABEL_2"} and sum(row.values()) == pytest.approx(1)
    assert engine.classify([]) == []


def test_a_head_that_is_not_there_is_not_made_up(heads):
    with pytest.raises(CourseError, match="no head for the task rerank"):
        load("all-MiniLM-L6-v2", task="rerank")
    with pytest.raises(CourseError, match="gives 3 labels; a reranker gives one score"):
        load(heads["text-classification"], task="rerank")
    with pytest.raises(CourseError, match="no head for the task text-classification"):
        load("haneul-300k", task="text-classification")


@pytest.mark.parametrize(("file", "said", "told"), [
    ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "pools by pooling_mode_max_tokens"),
    ("1_Pooling/config.json", "{", "cannot be read"),
    ("2_Dense/config.json", "{}", "has the layer 2_Dense"),
])  # fmt: skip
def test_vectors_are_made_as_the_model_says_or_not_at_all(tmp_path, file, said, told):
    folder = tmp_path / "model"
    shutil.copytree(catalog.folder_of(catalog.MINILM), folder)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(said)
    with pytest.raises(CourseError, match=told):
        load(folder, task="text-embedding")


def test_the_first_token_stands_for_the_text_where_the_model_says_so(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(catalog.folder_of(catalog.MINILM), folder)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    engine = load(folder, task="text-embedding")
    ids = engine.tokenizer("When do you open?", return_tensors="pt")
    with torch.inference_mode():
        hidden = engine.model(**ids).last_hidden_state[0, 0].numpy()
    assert engine.embed(["When do you open?"])[0] == pytest.approx(hidden / np.linalg.norm(hidden), abs=1e-5)


@settings(max_examples=10)
@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5))
def test_llama_cpp_embeds_any_text_to_length_one(embedder, texts):
    vectors = embedder.embed(texts)
    with pytest.raises(ValueError, match="is empty"):
        embedder.embed([*texts, ""])
    assert vectors.shape[0] == len(texts) and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def embedder():
    return load("haneul-300k", driver="llamacpp", task="text-embedding")
