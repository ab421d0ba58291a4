"""Random models of the families that become GGUF, small, with weights large enough that answers differ."""

import json
import shutil

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
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
from course_lib.models.gguf import llamacpp_server

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
