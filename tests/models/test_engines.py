"""Engines (loaded models): stream and batch give the same answers as single calls; scores are correct."""

import json
import math
import shutil
import threading
import time
import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.scoring import log_probabilities
from course_lib.models.drivers.streaming import StopTexts, TokenDecoder, before_stop, without_stops
from course_lib.models.gguf import export
from course_lib.models.schema import SpecError
from course_lib.retrieval.rerank import rerank

QUESTION_WITH_PASSAGE = (
    "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the Sorin branch open?"
)
PROMPTS = [
    QUESTION_WITH_PASSAGE,
    "hi",
    "Question: What is the monthly fee of the Haneul Pine Salary Account?",
]


@pytest.fixture(scope="module", params=["huggingface", "llamacpp"])
def engine(request):
    """An engine of each driver. With two threads, llama.cpp runs an instance for each of two texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
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
    for piece in engine.stream(QUESTION_WITH_PASSAGE, max_output_length=1500, min_output_length=1500):
        assert piece is not None
        break
    started = time.monotonic()
    while threading.active_count() > threads and time.monotonic() - started < 10:
        time.sleep(0.01)
    assert threading.active_count() <= threads
    assert engine.generate([QUESTION_WITH_PASSAGE]) == ["09:30"]


def test_a_stream_raises_the_errors_of_generate(engine):
    with pytest.raises(CourseError, match="reads 2048"):
        list(engine.stream("word " * 2100))


def test_one_seed_gives_one_text_alone_and_in_a_batch(engine):
    options = {"temperature": 1.5, "seed": 5, "max_output_length": 12}
    together = engine.generate(PROMPTS, **options)
    assert together == [engine.generate([p], **options)[0] for p in PROMPTS]
    assert together != engine.generate(PROMPTS, **options | {"seed": 6})


def test_token_counts_are_those_of_the_tokenizer(engine, model):
    for prompt, reply in zip(PROMPTS, engine.generate(PROMPTS), strict=True):
        assert reply.prompt_tokens == engine.count_tokens(prompt) == model.count_tokens(prompt)
        assert reply.finish_reason == "stop"
        assert (
            reply.tokens == len(model.tokenizer.encode(reply, add_special_tokens=False)) + 1
        )  # + the end token


@pytest.mark.parametrize("pad", ["<|pad|>", "<|end|>"])
def test_a_batch_counts_the_tokens_of_a_stopped_answer_as_a_single_call_does(pad):
    """transformers fills a row that reached its stop text until the longest row of the batch ends."""
    model = load("haneul-1m")
    model.tokenizer.pad_token = pad
    options = {"stop": ["09"], "max_output_length": 12, "min_output_length": 12}
    together = model.generate(PROMPTS, batch_size=len(PROMPTS), **options)
    alone = [model.generate([prompt], **options)[0] for prompt in PROMPTS]
    counts = [(reply, reply.tokens, reply.finish_reason) for reply in alone]
    assert [(reply, reply.tokens, reply.finish_reason) for reply in together] == counts
    assert {reason for _, _, reason in counts} == {"stop", "length"}


def test_a_stop_text_is_looked_for_in_the_answer_and_not_in_the_prompt(engine):
    raw = load("haneul-1m", driver=engine.driver, task="text-generation")
    prompts, options = ["The fee is", "The bank opens at"], {"max_output_length": 8}
    free = raw.generate(prompts, **options)
    options["stop"] = [prompt[-2:] + answer[:2] for prompt, answer in zip(prompts, free, strict=True)]
    for batch_size in (1, 2):
        stopped = raw.generate(prompts, batch_size=batch_size, **options)
        assert [(r, r.tokens, r.finish_reason) for r in stopped] == [(r, 8, "length") for r in free]
    assert "".join(raw.stream(prompts[0], **options)) == free[0]


def test_of_stop_texts_within_each_other_the_first_that_is_complete_ends_the_answer(engine):
    raw = load("haneul-1m", driver=engine.driver, task="text-generation")
    prompt, options = "The fee is", {"max_output_length": 8}
    free = raw.generate([prompt], **options)[0]
    words = free.split()
    assert len(words) > 3
    for stop in ([words[1], words[1][:2]], [words[1][:2], words[1]], [f"{words[2]} {words[3]}", "zz"]):
        reply = raw.generate([prompt], stop=stop, **options)[0]
        assert reply == before_stop(free, stop) != free and reply.finish_reason == "stop", stop
        stream = raw.stream(prompt, stop=stop, **options)
        assert "".join(stream) == reply and stream.reply.tokens == reply.tokens


def test_a_stop_text_in_hangul_is_complete_with_the_last_token_of_its_last_syllable(model):
    """A syllable is three bytes, and here as many tokens; the jamo of NFD are other characters."""
    text = "가나하늘다"
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) > len(text)
    for stop, written in (("나하", "가나하"), ("늘", "가나하늘"), (unicodedata.normalize("NFD", "하"), text)):
        ended = StopTexts([TokenDecoder(model.tokenizer, [])], model.end_ids(), ["zzzz", stop])
        for n in range(1, len(ids) + 1):
            stopped = bool(ended(torch.tensor([ids[:n]]), None)[0])
        assert model.tokenizer.decode(ids[: ended.lengths[0]]) == written and stopped == (written != text)


def test_text_generation_continues_a_text(engine):
    raw = load("haneul-1m", driver=engine.driver, task="text-generation")
    reply = raw.generate(["The monthly fee of the account is"], max_output_length=6)[0]
    assert (
        reply.startswith(" ")
        and reply.finish_reason == "length"
        and reply.prompt_tokens == raw.count_tokens("The monthly fee of the account is")
    )
    with pytest.raises(ValueError, match="continues a text"):
        raw.generate([[{"role": "user", "content": "hi"}]])


def test_text_generation_is_the_same_with_both_drivers():
    text = "The Haneul Riverbend branch"
    huggingface, llamacpp = (
        load("haneul-1m", driver=driver, task="text-generation").generate([text], max_output_length=30)[0]
        for driver in ("huggingface", "llamacpp")
    )
    assert huggingface == llamacpp


@pytest.mark.parametrize(
    "turns", [[], [{"role": "robot", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": 5}]]
)
def test_an_invalid_conversation_is_refused(engine, turns):
    with pytest.raises(ValueError, match="turn"):
        engine.generate([turns])


def test_many_threads_may_use_an_engine_at_the_same_time(engine):
    expected = engine.generate(PROMPTS)
    answers = {}

    def ask(i):
        answers[i] = engine.generate([PROMPTS[i % 3]])[0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {i: expected[i % 3] for i in range(12)}


def test_scores_equal_those_of_a_separate_pass_for_each_pair(model):
    labels = ["09:30", "ten o'clock", "x", "", "the Sorin branch opens at 09:30 in the morning"]
    scores = model.score(PROMPTS, labels)
    for i, prompt in enumerate(PROMPTS):
        prompt_ids = model.ids(model._prompt(prompt))
        for j, label in enumerate(labels):
            tail = model.tokenizer.encode(label, add_special_tokens=False)
            alone = sum(log_probabilities(model.model, [*prompt_ids, *tail])[-len(tail) :]) if tail else 0.0
            assert scores[i, j] == pytest.approx(alone, abs=2e-3)
    assert scores[0].argmax() == 3 and scores[0, 0] == max(np.delete(scores[0], 3))
    assert model.score([], labels).shape == (0, 5) and model.score(PROMPTS, []).shape == (3, 0)


def test_the_probabilities_of_single_tokens_sum_to_at_most_one(model):
    texts = model.tokenizer.batch_decode([[i] for i in range(200, 1200)])
    single = [t for t in texts if len(model.tokenizer.encode(t, add_special_tokens=False)) == 1]
    assert len(single) > 500 and np.exp(model.score([QUESTION_WITH_PASSAGE], single)).sum() <= 1 + 1e-6


def test_a_model_without_a_chat_template_is_not_a_chat_model(tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(MODELS / "haneul-300k", folder)
    (folder / "chat_template.jinja").unlink()
    file = export(folder, tmp_path / "plain.gguf")
    for source, driver in ((folder, "llamacpp"), (file, "llamacpp")):
        with pytest.raises(CourseError, match="has no chat template"):
            load(source, driver=driver)
        assert (
            len(
                load(source, driver=driver, task="text-generation").generate(["The fee"], max_output_length=3)
            )
            == 1
        )
    with pytest.raises(CourseError, match="has no chat template"):
        load(folder).generate(["hi"])


@pytest.mark.parametrize("schema", [{"type": "banana"}, {"$ref": "#/nowhere"}, {"enum": []}])
def test_a_schema_that_llama_cpp_does_not_enforce_is_refused(schema):
    with pytest.raises(Unsupported, match="schema"):
        load("haneul-300k", driver="llamacpp").generate(["hi"], json_schema=schema)


def test_a_schema_that_would_use_all_memory_is_refused():
    with pytest.raises(SpecError, match="100,000,000 repetitions"):
        load(
            "haneul-300k", driver="llamacpp", generation={"json_schema": {"type": "array", "maxItems": 10**8}}
        )


def test_the_error_for_a_missing_capability_names_a_driver_that_has_it():
    with pytest.raises(Unsupported, match=r"llamacpp cannot score; huggingface can\n"):
        load("haneul-300k", driver="llamacpp").score(["a"], ["b"])


@given(
    st.text("abcd", max_size=30),
    st.lists(st.text("abcd", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_a_stream_ends_before_the_first_stop_text(text, stops, size):
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    prefixes = ["".join(pieces[: i + 1]) for i in range(len(pieces))]
    # The stream ends with the first piece that completes a stop text.
    received = next((t for t in prefixes if before_stop(t, stops) != t), text)
    assert "".join(without_stops(iter(pieces), stops)) == before_stop(received, stops)


# -- encoders: random weights, compared with transformers itself ------------------------------------------


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Folders of a cross-encoder (one score) and a classifier (three labels), small and random."""
    folders = {}
    minilm = catalog.verify_shipped(catalog.MINILM)
    for name, labels in (("rerank", 1), ("text-classification", 3)):
        torch.manual_seed(1)
        config = BertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            num_labels=labels,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
        folders[name] = tmp_path_factory.mktemp(name)
        BertForSequenceClassification(config).save_pretrained(folders[name])
        AutoTokenizer.from_pretrained(minilm).save_pretrained(folders[name])
    return folders


TEXTS = [
    "Cards are blocked at once.",
    "no",
    "The branch opens at nine and closes at five, on Saturdays at noon.",
    "fees",
]


def test_a_cross_encoder_gives_the_same_scores_in_a_batch_and_alone(heads):
    engine = load(heads["rerank"], task="rerank", batch_size=3)
    scores = engine.rerank("When do you open?", TEXTS)
    assert scores == pytest.approx([engine.rerank("When do you open?", [t])[0] for t in TEXTS], abs=1e-5)
    inputs = engine.tokenizer("When do you open?", TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        assert scores[0] == pytest.approx(float(engine.model(**inputs).logits), abs=1e-5)
    assert engine.rerank("x", []) == []


QUERY = "When do you open?"
WORDS = ["branch", "opens", "at", "nine", "card", "fee", "lost", "saturday", "won", "."]  # one token each
CONTEXT = 64  # tokens that the models in `heads` read


@pytest.fixture(scope="module")
def cross_encoder(heads):
    return load(heads["rerank"], task="rerank")


def split_windows(ids, size, overlap):
    """Split ids into windows of `size` ids; neighbouring windows share `overlap` ids."""
    step = size - overlap
    return [ids[start : start + size] for start in range(0, max(len(ids) - size, 0) + step, step)]


def window_scores(engine, query, text):
    """The score of each window of a text, computed in separate passes."""
    query_ids, text_ids = (engine.tokenizer.encode(part, add_special_tokens=False) for part in (query, text))
    (begin, *_, end) = engine.tokenizer.encode("x")
    scores = []
    size, overlap = CONTEXT - 3 - len(query_ids), (CONTEXT - 2 - len(query_ids)) // 4  # 3 special tokens
    for window in split_windows(text_ids, size, overlap):
        ids = torch.tensor([[begin, *query_ids, end, *window, end]])
        types = torch.tensor([[0] * (2 + len(query_ids)) + [1] * (1 + len(window))])
        with torch.inference_mode():
            scores.append(float(engine.model(ids, token_type_ids=types).logits))
    return scores


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=200).map(" ".join), min_size=1, max_size=4),
    st.integers(1, 3),
)
def test_a_long_text_has_the_score_of_its_best_window(cross_encoder, texts, query_words):
    query = " ".join(QUERY.split()[:query_words])
    assert cross_encoder.rerank(query, texts) == pytest.approx(
        [max(window_scores(cross_encoder, query, text)) for text in texts], abs=1e-5
    )


def test_the_best_window_may_be_any_and_a_short_text_is_one_window(cross_encoder):
    size = CONTEXT - 3 - 5  # 3 special tokens, 5 tokens of the query
    for words in (0, 1, size - 1, size):
        assert len(window_scores(cross_encoder, QUERY, "fee " * words)) == 1
    assert len(window_scores(cross_encoder, QUERY, "fee " * (size + 1))) == 2
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 190)) for _ in range(20)]
    scores = [window_scores(cross_encoder, QUERY, text) for text in texts]
    assert cross_encoder.rerank(QUERY, texts) == pytest.approx(list(map(max, scores)), abs=1e-5)
    assert {int(np.argmax(row)) for row in scores} >= {0, 1, 2}


def test_a_passage_of_5000_tokens_is_read_to_its_end(cross_encoder):
    plain, long = "fee " * 5000, "fee " * 4990 + "lost card saturday nine " * 3
    scores = window_scores(cross_encoder, QUERY, long)
    assert len(scores) > 100
    assert cross_encoder.rerank(QUERY, [plain, long]) == pytest.approx(
        [max(window_scores(cross_encoder, QUERY, plain)), max(scores)], abs=1e-5
    )


def test_a_query_longer_than_half_of_the_context_is_refused(cross_encoder):
    for words in (31, 64, 5000):
        with pytest.raises(
            CourseError, match=rf"a query of {words + 2} tokens is more than half of the 64 that"
        ):
            cross_encoder.rerank("fee " * words, ["card"])
    text = "fee " * 300
    assert cross_encoder.rerank("fee " * 30, [text]) == pytest.approx(
        [max(window_scores(cross_encoder, "fee " * 30, text))], abs=1e-5
    )


def test_threads_that_share_a_cross_encoder_get_correct_scores(cross_encoder):
    """The truncation length is a state of the tokenizer: one thread must not see that of another."""
    texts = ["fee card " * words for words in (1, 40, 150)]
    queries = ["open", "When do you open?", "Which fee is taken for a card that was lost on Saturday?"]
    expected = {query: cross_encoder.rerank(query, texts) for query in queries}
    wrong = []

    def ask(query):
        try:
            results = [cross_encoder.rerank(query, texts) for _ in range(30)]
            wrong.extend(scores for scores in results if scores != pytest.approx(expected[query], abs=1e-4))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(query,)) for query in queries * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_scores_that_are_nan_are_an_error_of_rerank(heads):
    engine = load(heads["rerank"], task="rerank")
    with torch.no_grad():
        engine.model.classifier.bias.fill_(float("nan"))
    assert all(map(math.isnan, engine.rerank(QUERY, [*TEXTS, "fee " * 200])))
    with pytest.raises(CourseError, match="4 of 4 scores of Encoder are not finite: nan"):
        rerank(engine, QUERY, TEXTS)


@pytest.fixture(scope="module")
def bi_encoder(heads):
    return load(heads["rerank"], task="text-embedding")


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=200).map(" ".join), max_size=4))
def test_every_token_has_a_vector_and_a_long_text_is_read_in_windows(bi_encoder, texts):
    (begin, _, end) = bi_encoder.tokenizer.encode("fee")
    results = bi_encoder.embed_tokens(texts)
    assert len(results) == len(texts)
    for text, vectors in zip(texts, results, strict=True):
        expected = []
        ids = bi_encoder.tokenizer.encode(text, add_special_tokens=False)
        for window in split_windows(ids, CONTEXT - 2, CONTEXT // 4):  # 2 special tokens
            with torch.inference_mode():
                outputs = bi_encoder.model(torch.tensor([[begin, *window, end]]))
            hidden = outputs.last_hidden_state[0, 1:-1].numpy()
            expected.append(hidden / np.linalg.norm(hidden, axis=1, keepdims=True))
        assert vectors.shape == np.concatenate(expected).shape and vectors.dtype == np.float32
        assert vectors == pytest.approx(np.concatenate(expected), abs=1e-5)


def test_engines_that_cannot_embed_tokens_raise_an_error(cross_encoder, embedder):
    with pytest.raises(Unsupported, match="was loaded for rerank and cannot embed_tokens"):
        cross_encoder.embed_tokens(["fee"])
    with pytest.raises(Unsupported, match=r"llamacpp cannot embed_tokens; huggingface can\n"):
        embedder.embed_tokens(["fee"])


def test_a_roberta_model_does_not_use_its_first_positions(tmp_path):
    """RoBERTa numbers positions from pad_token_id + 1: a model with 34 positions reads at most 32 tokens."""
    torch.manual_seed(1)
    word_level = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}, "<unk>")
    )
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    word_level.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_level,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
    config = XLMRobertaConfig(
        vocab_size=14,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=34,
        pad_token_id=1,
        num_labels=1,
        initializer_range=0.2,
    )
    XLMRobertaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = load(tmp_path, task="rerank")
    assert engine.context == 32
    with torch.inference_mode():
        engine.model(torch.full((1, 32), 4))
        with pytest.raises((IndexError, RuntimeError)):
            engine.model(torch.full((1, 33), 4))
    text = "fee lost card . " * 1000
    ids = engine.tokenizer.encode(text, add_special_tokens=False)
    with torch.inference_mode():
        scores = [
            float(engine.model(torch.tensor([[0, 8, 2, 2, *window, 2]])).logits)
            for window in split_windows(ids, 27, (32 - 3) // 4)
        ]
    assert len(ids) == 4000 and engine.rerank("card", [text, "fee"])[0] == pytest.approx(
        max(scores), abs=1e-5
    )
    vectors = load(tmp_path, task="text-embedding").embed_tokens([text])[0]
    assert len(vectors) > 4000 and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_classifier_gives_probabilities(heads):
    engine = load(heads["text-classification"], task="text-classification")
    model = BertForSequenceClassification.from_pretrained(heads["text-classification"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(heads["text-classification"])
    rows = engine.classify(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        with torch.inference_mode():
            expected = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(0)
        assert row == pytest.approx({f"LABEL_{i}": float(p) for i, p in enumerate(expected)}, abs=1e-5)
    assert rows[0] != pytest.approx(rows[1], abs=1e-3) and engine.classify([]) == []


def test_a_classifier_of_several_labels_at_once_and_one_without_labels(heads, tmp_path):
    config = json.loads((heads["text-classification"] / "config.json").read_text())
    shutil.copytree(heads["text-classification"], tmp_path / "several")
    config |= {
        "problem_type": "multi_label_classification",
        "id2label": {"0": "fee", "1": "card", "2": "loan"},
    }
    (tmp_path / "several" / "config.json").write_text(json.dumps(config))
    engine = load(tmp_path / "several", task="text-classification")
    (row,), (plain,) = (
        each.classify(["a fee"])
        for each in (engine, load(heads["text-classification"], task="text-classification"))
    )
    odds = [p / (1 - p) for p in row.values()]  # the exponential of each logit
    assert list(row) == ["fee", "card", "loan"]
    assert [o / sum(odds) for o in odds] == pytest.approx(list(plain.values()), abs=1e-5)
    with pytest.raises(CourseError, match=r"gives one score.*\n.*task=\"rerank\""):
        load(heads["rerank"], task="text-classification")


def test_a_model_without_a_matching_head_is_refused(heads):
    with pytest.raises(CourseError, match="no head for the task rerank"):
        load("all-MiniLM-L6-v2", task="rerank")
    with pytest.raises(CourseError, match="gives 3 labels; a reranker gives one score"):
        load(heads["text-classification"], task="rerank")
    with pytest.raises(CourseError, match="no head for the task text-classification"):
        load("haneul-300k", task="text-classification")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "1_Pooling/config.json",
            '{"pooling_mode_max_tokens": true}',
            "uses pooling_mode_max_tokens; mean and cls pooling",
        ),
        ("1_Pooling/config.json", "{", "cannot be read"),
        ("2_Dense/config.json", "{}", "has the unsupported layer 2_Dense"),
    ],
)
def test_unsupported_or_damaged_pooling_files_are_refused(tmp_path, file, content, message):
    folder = tmp_path / "model"
    shutil.copytree(catalog.verify_shipped(catalog.MINILM), folder)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(content)
    with pytest.raises(CourseError, match=message):
        load(folder, task="text-embedding")


def test_cls_pooling_uses_the_vector_of_the_first_token(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(catalog.verify_shipped(catalog.MINILM), folder)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    engine = load(folder, task="text-embedding")
    ids = engine.tokenizer("When do you open?", return_tensors="pt")
    with torch.inference_mode():
        hidden = engine.model(**ids).last_hidden_state[0, 0].numpy()
    assert engine.embed(["When do you open?"])[0] == pytest.approx(hidden / np.linalg.norm(hidden), abs=1e-5)


@settings(max_examples=10)
@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=5))
def test_llama_cpp_embeds_any_text_with_length_one(embedder, texts):
    vectors = embedder.embed(texts)
    with pytest.raises(ValueError, match="is empty"):
        embedder.embed([*texts, ""])
    assert vectors.shape[0] == len(texts) and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def embedder():
    return load("haneul-300k", driver="llamacpp", task="text-embedding")


def test_long_prompts_are_read_one_by_one_unless_a_batch_size_is_given():
    engine, sizes = load("haneul-300k", task="text-generation"), []
    generate = engine.model.generate
    engine.model.generate = lambda rows, **kwargs: sizes.append(len(rows)) or generate(rows, **kwargs)
    prompts = ["What is the fee?"] * 4 + ["What is the fee? " * 210] * 2
    assert engine.count_tokens(prompts[-1]) > 1024
    by_length = engine.generate(prompts, max_output_length=4)
    assert sizes == [4, 1, 1]
    assert engine.generate(prompts, max_output_length=4, batch_size=6) == by_length
    assert sizes[3:] == [6]
