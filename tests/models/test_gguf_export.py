"""Llama folders as GGUF: llama.cpp answers as transformers does, or export explains why it cannot."""

import json
import random
import shutil
import unicodedata

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from course_lib import data
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import llamacpp_server
from course_lib.models.gguf import export, unpack
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.vocabulary import llama_cpp_ids
from tests.models.spm_like import save_tokenizer

OURS = MODELS / "haneul-300k"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LLAMAS = {
    "grouped queries, own head, narrow heads": dict(
        num_attention_heads=6, num_key_value_heads=2, head_dim=16
    ),
    "one key for all, biases, wide heads": dict(
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=48,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
    ),
    "positions of Llama 3": dict(
        num_attention_heads=6, num_key_value_heads=3, head_dim=32, rope_parameters=STRETCHED
    ),
    "positions stretched evenly": dict(
        num_attention_heads=3,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
    ),
}
THINGS = ("a card", "a loan", "the account", "a branch", "송금")
PROMPTS = [f"What does {THINGS[i % 5]} cost after {i * 37} days?" for i in range(50)]


def llama(folder, tokens=4096, **changes):
    """A random Llama with haneul's tokenizer, whose weights are large enough that its answers differ."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "tie_word_embeddings": False,
    }
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=tokens, initializer_range=0.3, **(sizes | marks | changes))
    )
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder, max_shard_size="600KB")
    return with_files_of_ours(folder)


def with_files_of_ours(folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(OURS / name, folder)
    return folder


def reconfigured(folder, **changes):
    """The folder with its config.json changed; None takes a field away."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


@pytest.fixture
def exact_attention(monkeypatch):
    """llama.cpp's attention in 32 bits; by default it is in 16, which decides near ties of a random model."""

    exact = {"flash_attn_type": 0, "cache_type_k": 0, "cache_type_v": 0}  # none, float32, float32
    usual = llamacpp_server.settings
    monkeypatch.setattr(llamacpp_server, "settings", lambda *a: usual(*a) | exact)


@pytest.mark.parametrize("kind", LLAMAS)
def test_the_same_greedy_text_on_fifty_prompts(kind, tmp_path, exact_attention):
    folder = llama(tmp_path / "m", **LLAMAS[kind])
    assert len(list(folder.glob("*.safetensors"))) > 1  # weights in parts
    ours = load(folder).generate(PROMPTS, max_output_length=24)
    assert len(set(ours)) == 50
    assert load(folder, driver="llamacpp").generate(PROMPTS, max_output_length=24) == ours


LINEAR = {"rope_type": "linear", "rope_theta": 2000.0, "factor": 4.0}
BY_LAYER = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
    "full_attention": LINEAR,
}
GEMMA = {"query_pre_attn_scalar": 32, "sliding_window": 16, "head_dim": 32}
CAPS = {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0}
FAMILIES = {
    "Mistral": (MistralConfig, {"sliding_window": None, "head_dim": 32}),
    "Qwen 2": (Qwen2Config, {"tie_word_embeddings": True}),
    "Qwen 3": (Qwen3Config, {"head_dim": 32}),
    "Qwen 3, stretched": (Qwen3Config, {"head_dim": 32, "rope_parameters": LINEAR}),
    "Gemma 2": (Gemma2Config, GEMMA | CAPS),
    "Gemma 3": (Gemma3TextConfig, GEMMA | {"num_hidden_layers": 7, "rope_parameters": BY_LAYER}),
    "Gemma 3, soft cap": (Gemma3TextConfig, GEMMA | {"final_logit_softcapping": 4.0}),
}


def model_of(folder, config_class, **changes):
    """A random model of another family with haneul's tokenizer."""
    torch.manual_seed(0)
    sizes = dict(hidden_size=96, intermediate_size=160, num_hidden_layers=3, max_position_embeddings=512)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
    marks = dict(vocab_size=4128, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    config = config_class(**(sizes | heads | marks | changes))
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):
            torch.nn.init.normal_(weight, mean="norm" in name and "gemma" not in config.model_type, std=0.3)
    if "gemma" in config.model_type:  # it multiplies them, so that a model would repeat the last token
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.1)
    model.save_pretrained(folder)
    return with_files_of_ours(folder)


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


SLIDING = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}
REFUSED = {
    "a sliding window of 64": (MistralConfig, {"sliding_window": 64}),
    "other layer_types": (Qwen2Config, SLIDING),
    "no tensor for .*bias in qwen3": (Qwen3Config, {"attention_bias": True}),
    "rope_type 'llama3'": (Qwen3Config, {"rope_parameters": STRETCHED}),
    "no attn_logit_softcapping": (Gemma2Config, GEMMA | {"attn_logit_softcapping": None}),
    "query_pre_attn_scalar 16 instead of 32": (Gemma3TextConfig, GEMMA | {"query_pre_attn_scalar": 16}),
    "use_bidirectional_attention": (Gemma3TextConfig, GEMMA | {"use_bidirectional_attention": True}),
    "activation 'gelu'": (Gemma3TextConfig, GEMMA | {"hidden_activation": "gelu"}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_llama_cpp_computes_otherwise_is_refused(message, tmp_path):
    config_class, changes = REFUSED[message]
    folder = model_of(tmp_path / "m", config_class, **changes)
    with pytest.raises(CourseError, match=message):
        export(folder, tmp_path / "x.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def change_tensor(folder, name, change):
    """Change a tensor of the model in its shard."""
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if name in tensors:
            change(tensors[name])
            save_file(tensors, path, metadata={"format": "pt"})


MATRIX, NORM = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"


@pytest.mark.parametrize(
    ("name", "value", "weight_type", "fits"),
    [
        (MATRIX, 1e6, "f16", ("f32", "bf16", "q8_0")),
        (MATRIX, 1e8, "q8_0", ("f32", "bf16")),
        (MATRIX, -1e6, "q4_0", ("f32", "q8_0")),
        (MATRIX, float("nan"), "q4_0", ()),
        (MATRIX, float("nan"), "f32", ()),
        (MATRIX, float("inf"), "bf16", ()),
        (NORM, float("-inf"), "f16", ()),
        (NORM, 1e6, None, ("f16", "q4_0")),
    ],
)
def test_a_weight_that_the_type_cannot_represent_is_refused_by_name(name, value, weight_type, fits, tmp_path):
    folder = llama(tmp_path / "m", num_attention_heads=3)
    change_tensor(folder, name, lambda tensor: tensor.view(-1)[5:6].fill_(value))
    for fitting in fits:
        assert export(folder, tmp_path / f"{fitting}.gguf", fitting).is_file()
    if weight_type:
        with pytest.raises(
            CourseError, match=f"m: {name} has a weight of .*, and (f32|{weight_type}) represents"
        ):
            export(folder, tmp_path / "x.gguf", weight_type)
    assert {p.name for p in tmp_path.iterdir()} == {"m", *(f"{fitting}.gguf" for fitting in fits)}


def test_a_head_counts_if_it_differs_from_the_embeddings_to_which_it_is_tied(tmp_path):
    folder = llama(tmp_path / "m", num_attention_heads=3)
    sizes = {}
    for tied in (False, True):
        reconfigured(folder, tie_word_embeddings=tied)
        sizes[tied] = export(folder, tmp_path / "x.gguf").stat().st_size
    assert sizes[True] == sizes[False]  # as transformers loads it
    embeddings = next(
        t for p in folder.glob("*.safetensors") for n, t in load_file(p).items() if "embed" in n
    )
    change_tensor(folder, "lm_head.weight", lambda tensor: tensor.copy_(embeddings))
    assert export(folder, tmp_path / "x.gguf").stat().st_size < sizes[True] - 4096 * 96 * 4 + 200


def test_weights_that_do_not_fit_the_configuration_are_not_exported(tmp_path):
    folder = llama(tmp_path / "m", num_attention_heads=3)
    for changes in ({"num_hidden_layers": 1}, {"num_hidden_layers": 3}, {"attention_bias": True}):
        reconfigured(folder, **({"num_hidden_layers": 2, "attention_bias": False} | changes))
        with pytest.raises(CourseError, match=r"m (lacks|has) \d+ "):
            export(folder, tmp_path / "x.gguf")


def test_k_quants_are_refused_with_the_command_of_llama_cpp(tmp_path):
    folder = llama(tmp_path / "m", num_attention_heads=3)
    message = (
        r"llama-quantize, which xllamacpp does not contain; 16 of 16 matrices have rows not divisible by 256"
    )
    with pytest.raises(CourseError, match=message) as error:
        export(folder, tmp_path / "x.gguf", "q4_k_m")
    assert error.value.fix.endswith(f"llama-quantize {tmp_path / 'm-f16.gguf'} {tmp_path / 'x.gguf'} Q4_K_M")


def test_a_folder_written_by_transformers_4_is_the_same_model(tmp_path):
    folder = llama(tmp_path / "m", **LLAMAS["positions of Llama 3"])
    new = export(folder, tmp_path / "new.gguf").read_bytes()
    scaling = {k: v for k, v in STRETCHED.items() if k != "rope_theta"}
    reconfigured(folder, rope_parameters=None, rope_theta=10000.0, rope_scaling=scaling, head_dim=32)
    assert export(folder, tmp_path / "old.gguf").read_bytes() == new


CUTS = {
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "SmolLM": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "Llama 3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "haneul": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(True),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    ),
}
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


def with_tokenizer(folder, kind, spaces, eos=("<|end|>",)):
    """A random Llama with byte-level BPE trained on the handbook. spaces: its text has runs of spaces."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "Llama 3"))
    tokenizer.pre_tokenizer, tokenizer.decoder = CUTS[kind], decoders.ByteLevel()
    texts = [p.text for p in data.load_passages().values()] + [
        "it's he'LL 12 345,6" + "  \n\n  x  3" * spaces
    ] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=900, special_tokens=["<|bos|>", *eos], initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.add_tokens(["<tool>"])
    ends = [tokenizer.token_to_id(e) for e in eos]
    llama(
        folder,
        1024,
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        pad_token_id=None,
        bos_token_id=0,
        eos_token_id=ends if len(ends) > 1 else ends[0],
    )
    (folder / "chat_template.jinja").unlink()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token=eos[0]
    ).save_pretrained(folder)
    return folder


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            r"m has the architecture GPT2LMHeadModel; supported are LlamaForCausalLM, MistralForCausalLM",
        ),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type 'yarn'",
        ),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        (
            {"quantization_config": {"load_in_4bit": True}},
            "quantized weights, which would be rounded a second time",
        ),
        ({"num_attention_heads": 5}, "m is not complete: .*head"),
        ({"vocab_size": 4000}, r"lm_head\.weight has the shape \(4096, 96\)"),
    ],
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(changes, message, tmp_path):
    folder = reconfigured(llama(tmp_path / "m", num_attention_heads=4), **changes)
    with pytest.raises(CourseError, match=message):
        export(folder, tmp_path / "x.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_rows_that_blocks_do_not_divide_are_refused_by_name(tmp_path):
    folder = llama(tmp_path / "m", num_attention_heads=3, head_dim=16)
    assert export(folder, tmp_path / "x.gguf", "f16").is_file()
    with pytest.raises(
        CourseError, match=r"of 32, which does not divide the 48 of a row of .*o_proj\.weight in m"
    ):
        export(folder, tmp_path / "y.gguf", "q8_0")
    assert not (tmp_path / "y.gguf").exists()


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


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused(tmp_path):
    folder = with_files_of_ours(llama(tmp_path / "m", 4000, num_attention_heads=4))
    with pytest.raises(CourseError, match="4096 tokens, but the model has only 4000 embeddings"):
        export(folder, tmp_path / "x.gguf")


def test_a_tokenizer_that_llama_cpp_cannot_reproduce_is_refused_with_a_text(tmp_path):
    folder = with_tokenizer(tmp_path / "m", "haneul", 1)  # llama.cpp would cut runs of spaces otherwise
    with pytest.raises(
        CourseError,
        match=r"m: llama\.cpp cannot give the token ids of transformers: '.*' becomes \[.* instead",
    ):
        export(folder, tmp_path / "x.gguf")
    save_tokenizer(folder, "Mistral v3")  # " a" and "a" are the same, as in no tokenizer of llama.cpp
    with pytest.raises(CourseError, match=r"the token ids of transformers: ' a' becomes"):
        export(folder, tmp_path / "x.gguf")
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    with pytest.raises(CourseError, match="a tokenizer of the type Unigram; supported is BPE"):
        export(folder, tmp_path / "x.gguf")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CourseError, match="m has no tokenizer that transformers can load"):
        export(folder, tmp_path / "x.gguf")
