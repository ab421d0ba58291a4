"""Which matrices of a mixture get more bits: llama.cpp's rules, its own lists, and real files."""

import hashlib
from collections import Counter
from dataclasses import replace

import pytest

from course_lib.errors import CourseError
from course_lib.models.gguf.header import read_header
from course_lib.models.planner import architecture, plan
from course_lib.models.planner.quants import BASES, WHOLE, tensor_types

# SHA-256 of the sorted lines "mixture tensor type" in tests/snapshots/*.schema of llama.cpp b11434, for
# MIXTURES. In its file of Qwen3 0.6B, the output is a matrix of its own.
LISTS = {
    "Qwen3-0.6B": "5579c661f1bae7c177a1f0762367615d577fc512febf01d26b85fd4dd799c6fe",
    "Qwen3-14B": "7c4e6f65031c4550161eb3f4b0c3bbd9642cf6c06491f519a3fcc21fa6cad3ea",
    "Llama-3.3-70B": "f4fbc28d692106b17ea63f22d12a89a122c3a8b7f3bdee181db58b04972f0dc5",
    "gemma-3-4b": "6fd250ea78271896a8d9ba2d7312500d16c8a965b85152ad991f1602883041ff",
}
MIXTURES = sorted(set(BASES) - set(WHOLE))


def type_of(sizes, mixture, name):
    return next(t.type for t in tensor_types(sizes, mixture) if t.name == f"{name}.weight")


@pytest.mark.parametrize("name", LISTS)
def test_the_types_of_all_tensors_are_those_that_llama_cpp_lists(name):
    sizes = replace(architecture(name), tied=name.startswith("gemma"))
    lines = [f"{mixture} {t.name} {t.type}" for mixture in MIXTURES for t in tensor_types(sizes, mixture)]
    assert hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() == LISTS[name]


def test_values_and_the_way_down_get_more_bits_in_some_layers():
    """By hand, for 28 layers: the first eighth, the last eighth, and every third between."""
    sizes = architecture("Qwen3-0.6B")
    more = [i for i in range(28) if type_of(sizes, "q4_k_m", f"blk.{i}.ffn_down") == "q6_k"]
    assert more == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert more == [i for i in range(28) if type_of(sizes, "q4_k_m", f"blk.{i}.attn_v") == "q6_k"]
    assert (
        type_of(sizes, "q4_k_m", "blk.0.attn_q") == "q4_k"
        and type_of(sizes, "q4_k_m", "token_embd") == "q6_k"
    )
    assert {t.type for t in tensor_types(sizes, "q4_0", True)} == {"q4_0"}, "pure"


def test_rows_that_do_not_divide_by_256_fall_back_and_others_are_refused():
    sizes = architecture("SmolLM2-135M")
    assert Counter(t.type for t in tensor_types(sizes, "q4_k_m"))["q8_0"] > 1
    assert (
        type_of(sizes, "q4_k_m", "blk.3.attn_q") == "q5_0"
        and type_of(sizes, "q3_k_s", "blk.3.attn_q") == "q4_0"
    )
    assert (
        type_of(sizes, "q5_k_s", "blk.3.attn_q") == "q5_1"
        and type_of(sizes, "q6_k", "blk.3.attn_q") == "q8_0"
    )
    assert type_of(sizes, "q4_k_m", "token_embd") == "q8_0"
    odd = replace(sizes, feed_forward=90)
    assert type_of(odd, "q4_k_m", "blk.3.ffn_down") == "float16"
    with pytest.raises(CourseError, match="rows of 90 weights, which do not divide into q4_0's blocks of 32"):
        tensor_types(odd, "q4_0")


def test_experts_are_packed_and_their_router_is_not():
    mixtral, qwen = architecture("Mixtral-8x7B"), architecture("Qwen3-30B-A3B")
    for sizes in (mixtral, qwen):
        assert type_of(sizes, "q4_k_m", "blk.0.ffn_gate_inp") == "float32"
        assert type_of(sizes, "q4_k_m", "blk.0.ffn_down_exps") == "q6_k"
        assert type_of(sizes, "q4_k_m", "blk.0.ffn_up_exps") == "q4_k"
    assert [type_of(mixtral, "q4_k_m", f"blk.0.attn_{m}") for m in ("k", "v", "output")] == [
        "q8_0",
        "q8_0",
        "q5_k",
    ]
    assert type_of(qwen, "q4_k_m", "blk.0.attn_k") == "q4_k"


def test_public_files_have_the_planned_sizes():
    """GB that Ollama lists for its tags (see catalog.yaml); the files also hold the vocabulary."""
    listed = {
        ("Llama-3.2-1B", "q8_0"): 1.3,
        ("Llama-3.2-3B", "q4_k_m"): 2.0,
        ("Llama-3-8B", "q4_0"): 4.7,
        ("Llama-3.1-8B", "q4_k_m"): 4.9,
        ("Llama-3.3-70B", "q4_k_m"): 43,
        ("Mistral-7B-v0.3", "q4_k_m"): 4.4,
        ("Qwen2.5-0.5B", "q4_k_m"): 0.398,
        ("Qwen2.5-7B", "q4_k_m"): 4.7,
        ("Qwen2.5-14B", "q4_k_m"): 9.0,
        ("gemma-7b", "q4_0"): 5.0,
        ("gemma-2-2b", "q4_0"): 1.6,
        ("gemma-2-9b", "q4_0"): 5.4,
        ("gemma-3-1b", "q4_k_m"): 0.815,
        ("Phi-3-mini-4k", "q4_0"): 2.2,
        ("phi-4", "q4_k_m"): 9.1,
        ("Phi-4-mini", "q4_k_m"): 2.5,
        ("SmolLM2-135M", "float16"): 0.271,
        ("SmolLM2-1.7B", "q8_0"): 1.8,
        ("Mixtral-8x7B", "q4_0"): 26,
    }
    for (name, weight_format), size in listed.items():
        planned = plan(name, weight_format, 512, driver="llamacpp")
        weights = planned.weights + planned.embeddings + planned.norms
        assert weights / 1e9 == pytest.approx(size, rel=0.02), (name, weight_format)


@pytest.mark.parametrize(("model", "mixture"), [("smollm2", "q4_1"), ("gemma", "q4_k_m")])
def test_a_real_file_is_planned_to_the_byte_before_and_after_it_exists(model, mixture, request):
    file = request.getfixturevalue(model)
    stored = plan(file, context=512)
    tensors = read_header(file).tensors
    assert stored.weights + stored.embeddings + stored.norms == sum(t.bytes for t in tensors.values())
    assert stored.weight_format == mixture
    assert plan(file, mixture, 512).parts == stored.parts == plan(architecture(file), mixture, 512).parts
    known = {t.name: t.type for t in tensor_types(architecture(file), mixture)}
    assert known == {name: t.type for name, t in tensors.items() if len(t.shape) > 1}
