"""What cannot be the same model in GGUF is refused by name, and leaves nothing behind."""

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from course_lib.errors import CourseError
from course_lib.models.gguf import export
from tests.models.random_models import (
    GEMMA,
    STRETCHED,
    llama,
    model_of,
    reconfigured,
    with_files_of_ours,
    with_tokenizer,
)
from tests.models.spm_like import save_tokenizer

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
