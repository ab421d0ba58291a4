"""Llama folders as GGUF: llama.cpp answers as transformers does, or export explains why it cannot."""

import json
import random
import shutil

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from course_lib import data
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import llamacpp_server
from course_lib.models.gguf import export
from course_lib.models.gguf.tokenizer import LLAMA_3

OURS = MODELS / "haneul-300k"
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
        with pytest.raises(CourseError, match=r"llama\.cpp needs one BOS token and one to three EOS tokens"):
            export(folder, tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            r"m has the architecture \['GPT2LMHeadModel'\]; only LlamaForCausalLM",
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
        ({"num_key_value_heads": 5}, "m is not complete: ValueError"),
        ({"vocab_size": 4000}, "4096 tokens, but the model has only 4000 embeddings"),
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


def test_another_tokenizer_is_refused(tmp_path):
    folder = with_tokenizer(
        tmp_path / "m", "haneul", 1
    )  # several spaces are one token, which llama.cpp would cut otherwise
    with pytest.raises(CourseError, match="no byte-level BPE tokenizer of a supported kind"):
        export(folder, tmp_path / "x.gguf")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CourseError, match="m has no byte-level BPE tokenizer"):
        export(folder, tmp_path / "x.gguf")
