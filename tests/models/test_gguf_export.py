"""Folders as GGUF: llama.cpp gives the token ids and the answers of transformers."""

import json
import random
import unicodedata

import pytest
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, normalizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    MistralConfig,
)

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.gguf import export, unpack
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.tokenizer import chat_template
from course_lib.models.gguf.vocabulary import llama_cpp_ids
from tests.models.random_models import (
    CAPS,
    FAMILIES,
    GEMMA,
    LLAMAS,
    PROMPTS,
    STRETCHED,
    llama,
    model_of,
    reconfigured,
    with_tokenizer,
)

pytest_plugins = ["tests.models.random_models"]


@pytest.mark.parametrize("kind", LLAMAS)
def test_the_same_greedy_text_on_fifty_prompts(kind, tmp_path, exact_attention):
    folder = llama(tmp_path / "m", **LLAMAS[kind])
    assert len(list(folder.glob("*.safetensors"))) > 1  # weights in parts
    ours = load(folder).generate(PROMPTS, max_output_length=24)
    assert len(set(ours)) == 50
    assert load(folder, driver="llamacpp").generate(PROMPTS, max_output_length=24) == ours


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_give_the_same_greedy_text(family, tmp_path, exact_attention):
    config_class, changes = FAMILIES[family]
    folder = model_of(tmp_path / "m", config_class, **changes)
    ours, theirs = (
        load(folder, driver=driver).generate(PROMPTS[:20], max_output_length=24)
        for driver in ("huggingface", "llamacpp")
    )
    assert theirs == ours and len(set(ours)) > 15


def test_the_scale_of_attention_of_gemma_2_27b(tmp_path, exact_attention):
    """llama.cpp recognizes it by its number of layers (and Gemma 3 27B by 62, which takes longer)."""
    sizes = {"num_hidden_layers": 46, "query_pre_attn_scalar": 8, "hidden_size": 32, "head_dim": 32}
    folder = model_of(tmp_path / "m", Gemma2Config, **(GEMMA | CAPS | sizes), intermediate_size=32)
    ours, theirs = (
        load(folder, driver=driver).generate(PROMPTS[:4], max_output_length=6)
        for driver in ("huggingface", "llamacpp")
    )
    assert theirs == ours and len(set(ours)) > 2


@pytest.mark.parametrize("family", ["Qwen 3", "Gemma 3"])
def test_an_adapter_of_another_family_gives_the_same_text(family, tmp_path, exact_attention):
    config_class, changes = FAMILIES[family]
    folder = model_of(tmp_path / "m", config_class, **changes)
    targets = ["q_proj", "k_proj", "o_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora).save_pretrained(tmp_path / "a")
    kinds = ({}, {"adapters": [tmp_path / "a"]}, {"adapters": [tmp_path / "a"], "driver": "llamacpp"})
    engines = (load(folder, **options) for options in kinds)
    base, ours, theirs = (engine.generate(PROMPTS[:10], max_output_length=12) for engine in engines)
    assert theirs == ours and not set(ours) & set(base)


def test_a_folder_written_by_transformers_4_is_the_same_model(tmp_path):
    folder = llama(tmp_path / "m", **LLAMAS["positions of Llama 3"])
    new = export(folder, tmp_path / "new.gguf").read_bytes()
    scaling = {k: v for k, v in STRETCHED.items() if k != "rope_theta"}
    reconfigured(folder, rope_parameters=None, rope_theta=10000.0, rope_scaling=scaling, head_dim=32)
    assert export(folder, tmp_path / "old.gguf").read_bytes() == new


PIECES = [
    *"abcEF \t\n01239'’.,;—!?-()하늘은행é́😀½²٣中文\u00a0\u3000",
    "'s",
    "'LL",
    " the",
    "123",
    "  ",
    "\r\n",
    "한글",
]


@pytest.mark.parametrize(("kind", "spaces"), [("GPT-2", 1), ("SmolLM", 1), ("Llama 3", 1), ("haneul", 0)])
def test_texts_become_the_same_tokens(kind, spaces, tmp_path):
    folder = with_tokenizer(tmp_path / "m", kind, spaces)
    options, rng = {"task": "text-generation"}, random.Random(0)
    ours, theirs = load(folder, **options), load(folder, driver="llamacpp", **options)
    for _ in range(400):
        text = "".join(rng.choices(PIECES, k=rng.randrange(1, 14)))
        assert theirs.ids(text) == ours.ids(text), text


def test_every_token_at_which_an_answer_may_end_is_written(tmp_path):
    folder = with_tokenizer(tmp_path / "m", "GPT-2", 1, eos=("<end>", "<turn>", "<call>"))
    (folder / "generation_config.json").unlink()
    written = export(folder, tmp_path / "m.gguf").read_bytes()
    assert all(
        b"tokenizer.ggml." + name in written for name in (b"eos_token_id", b"eot_token_id", b"eom_token_id")
    )
    for ends in ([1, 2, 3, 4], None):
        config = json.loads((folder / "config.json").read_text()) | {"eos_token_id": ends}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(CourseError, match=r"has the EOS tokens .*; llama\.cpp needs one to three"):
            export(folder, tmp_path / "x.gguf")


@pytest.mark.parametrize("kind", ["Gemma", "Llama 2"])
def test_texts_become_the_same_tokens_with_byte_fallback(kind, tmp_path):
    folder, rng = (
        model_of(tmp_path / "m", MistralConfig, tokenizer=kind, sliding_window=None),
        random.Random(0),
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    fields = read_header(export(folder, tmp_path / "m.gguf"), decode_arrays=True).fields
    fields = {key: value for key, value in fields.items() if key.startswith("tokenizer.")}
    texts = ["".join(rng.choices(PIECES, k=rng.randrange(1, 14))) for _ in range(400)]
    assert list(llama_cpp_ids(fields, texts)) == tokenizer(texts)["input_ids"]


def test_a_tokenizer_that_composes_letters_is_written_with_a_field_and_a_warning(tmp_path):
    folder = with_tokenizer(tmp_path / "m", "GPT-2", 1)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.warns(UserWarning, match=r"m composes letters \(Unicode NFC\), and llama\.cpp does not"):
        fields = read_header(export(folder, tmp_path / "m.gguf"), decode_arrays=True).fields
    assert fields["tokenizer.ggml.normalizer"] == "NFC"
    fields = {key: value for key, value in fields.items() if key.startswith("tokenizer.")}
    decomposed = unicodedata.normalize("NFD", "하늘은행")
    ours = AutoTokenizer.from_pretrained(folder)([decomposed])["input_ids"]
    assert list(llama_cpp_ids(fields, ["하늘은행"])) == ours != list(llama_cpp_ids(fields, [decomposed]))
    unpack(tmp_path / "m.gguf", tmp_path / "back")
    assert AutoTokenizer.from_pretrained(tmp_path / "back")([decomposed])["input_ids"] == ours


def test_of_several_chat_templates_the_default_one_is_taken(tmp_path):
    named = [{"name": "tools", "template": "with tools"}, {"name": "default", "template": "plain"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert chat_template(tmp_path) == "plain"
