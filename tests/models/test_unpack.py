"""A GGUF file becomes a Hugging Face folder: the same token ids, the same weights, the same answers."""

import os
import random
import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, MistralConfig

from course_lib.cli import main
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.files.weights import check_weights
from course_lib.models.gguf import export, unpack
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.unpack_tokenizer import REGEXES
from course_lib.models.gguf.vocabulary import PIECES, llama_cpp_ids
from tests.models.random_models import (
    FAMILIES,
    LLAMAS,
    PROMPTS,
    llama,
    model_of,
    reconfigured,
    with_tokenizer,
)
from tests.models.spm_like import save_tokenizer

pytest_plugins = ["tests.models.random_models"]


def weights_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def equal_weights(ours, theirs):
    """Whether two models have the same weights, up to the rounding to bfloat16."""
    ours, theirs = weights_of(ours), weights_of(theirs)
    return ours.keys() == theirs.keys() and all(
        torch.allclose(weight, theirs[name], rtol=2**-8, atol=1e-7) for name, weight in ours.items()
    )


def make(folder, family):
    if family in LLAMAS:
        return llama(folder, **LLAMAS[family])
    config_class, changes = FAMILIES[family]
    return model_of(folder, config_class, **changes)


@pytest.mark.parametrize("family", [*LLAMAS, *(name for name in FAMILIES if name != "Mistral")])
def test_the_configuration_and_the_weights_come_back(family, tmp_path):
    folder = make(tmp_path / "m", family)
    if family == "positions of Llama 3":  # as of published models
        rope = LLAMAS[family]["rope_parameters"] | {"original_max_position_embeddings": 8192}
        reconfigured(folder, rope_parameters=rope)
    unpack(export(folder, tmp_path / "m.gguf"), tmp_path / "back")
    assert equal_weights(folder, tmp_path / "back")
    check_weights(tmp_path / "back", AutoModelForCausalLM)
    assert all(
        path.stat().st_mode & 0o044 == 0o044 for path in (tmp_path / "back").iterdir()
    )  # a class shares it
    ours, theirs = (AutoConfig.from_pretrained(path).to_dict() for path in (folder, tmp_path / "back"))
    different = {key for key in ours if ours[key] != theirs.get(key)}
    unsaid = {"initializer_range", "max_window_layers", "_name_or_path"}  # in a GGUF file
    assert different <= {"dtype", "architectures", "head_dim"} | unsaid
    assert theirs["dtype"] == "bfloat16" and "quantization_config" not in theirs


def test_exporting_it_again_gives_the_same_file(tmp_path):
    folder = shutil.copytree(MODELS / "haneul-300k", tmp_path / "m")
    first = export(folder, tmp_path / "first.gguf", "bf16")
    unpack(first, tmp_path / "back" / "m")
    second = export(tmp_path / "back" / "m", tmp_path / "second.gguf", "bf16")
    assert second.read_bytes() == first.read_bytes()


def test_the_answers_are_those_of_the_file(tmp_path, exact_attention):
    file = export(llama(tmp_path / "m", num_attention_heads=3), tmp_path / "m.gguf", "q4_0")
    unpack(file, tmp_path / "back")
    again = export(tmp_path / "back", tmp_path / "again.gguf", "f32")
    engines = load(tmp_path / "back"), load(again)
    ours, theirs = (engine.generate(PROMPTS[:20], max_output_length=16) for engine in engines)
    assert ours == theirs and len(set(ours)) == 20
    template = (tmp_path / "back" / "chat_template.jinja").read_text()
    assert read_header(file).fields["tokenizer.chat_template"] == template


@pytest.mark.parametrize("kind", ["GPT-2", "SmolLM", "Llama 3", "Gemma", "Llama 2"])
def test_texts_become_the_same_tokens(kind, tmp_path):
    if kind in ("Gemma", "Llama 2"):
        save_tokenizer(model_of(tmp_path / "m", MistralConfig, sliding_window=None), kind)
    else:
        with_tokenizer(tmp_path / "m", kind, 1)
    unpack(export(tmp_path / "m", tmp_path / "m.gguf"), tmp_path / "back")
    rng = random.Random(1)
    texts = ["".join(rng.choices(PIECES, k=rng.randrange(1, 14))) for _ in range(300)]
    ours, theirs = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("back", "m"))
    ids = theirs(texts)["input_ids"]
    assert ours(texts)["input_ids"] == ids
    assert ours.batch_decode(ids) == theirs.batch_decode(ids)
    assert ours.bos_token == theirs.bos_token and ours.eos_token == theirs.eos_token
    assert ours.model_max_length == AutoConfig.from_pretrained(tmp_path / "m").max_position_embeddings


def rewritten(file, target, change):
    """The file with its fields and tensors changed by `change(fields, tensors)`."""
    header, tensors = read_header(file, decode_arrays=True), {}
    for tensor in gguf.GGUFReader(file).tensors:
        tensors[tensor.name] = np.array(tensor.data)
    fields = {key: value for key, value in header.fields.items() if key != "general.architecture"}
    change(fields, tensors)
    writer = gguf.GGUFWriter(target, fields.pop("architecture", "llama"))
    for key, value in fields.items():
        kind = gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)
        writer.add_key_value(key, value, kind)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


CHANGES = {
    "has the architecture qwen2moe; supported are": lambda f, t: f.update(architecture="qwen2moe"),
    r"1 unknown and 0 missing, such as blk\.0\.ffn_gate_inp\.weight": lambda f, t: t.update(
        {"blk.0.ffn_gate_inp.weight": t["output_norm.weight"]}
    ),
    r"0 unknown and 1 missing, such as blk\.1\.attn_q\.weight": lambda f, t: t.pop("blk.1.attn_q.weight"),
    "stretches its positions by yarn": lambda f, t: f.update({"llama.rope.scaling.type": "yarn"}),
    "a tokenizer of the type gpt2, falcon": lambda f, t: f.update({"tokenizer.ggml.pre": "falcon"}),
    "cannot be read: KeyError: 'block_count'": lambda f, t: f.pop("llama.block_count"),
    "cannot be read: Exception: .* out of vocabulary": lambda f, t: f.update(
        {"tokenizer.ggml.merges": ["zz qq"]}
    ),
    "rope_freqs": lambda f, t: t.update({"rope_freqs.weight": np.full(16, 3.0, np.float32)}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_would_not_be_the_same_model_is_refused(message, tmp_path):
    file = export(MODELS / "haneul-300k", tmp_path / "m.gguf")
    changed = rewritten(file, tmp_path / "x.gguf", CHANGES[message])
    with pytest.raises(CourseError, match=message):
        unpack(changed, tmp_path / "back")
    assert {p.name for p in tmp_path.iterdir()} == {"m.gguf", "x.gguf"}


def test_the_tokenizer_is_that_of_the_file(tmp_path):
    def say_smollm(fields, tensors):
        fields["tokenizer.ggml.pre"] = "smollm"

    with_tokenizer(tmp_path / "m", "GPT-2", 1)
    file = export(tmp_path / "m", tmp_path / "m.gguf")
    unpack(rewritten(file, tmp_path / "x.gguf", say_smollm), tmp_path / "back")
    ids = [AutoTokenizer.from_pretrained(tmp_path / name)("12345")["input_ids"] for name in ("m", "back")]
    assert len(ids[0]) < len(ids[1]) == 5


def test_a_tokenizer_with_other_ids_is_refused(tmp_path, monkeypatch):
    with_tokenizer(tmp_path / "m", "Llama 3", 1)
    file = export(tmp_path / "m", tmp_path / "m.gguf")
    monkeypatch.setitem(REGEXES, "llama-bpe", REGEXES["qwen2"])
    with pytest.raises(CourseError, match=r"m\.gguf: llama\.cpp cannot give the token ids"):
        unpack(file, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_tokenizer_that_llama_cpp_cannot_use_is_refused(tmp_path):
    save_tokenizer(model_of(tmp_path / "m", MistralConfig, sliding_window=None), "Gemma")
    file = export(tmp_path / "m", tmp_path / "m.gguf")

    def without_bytes(fields, tensors):
        fields["tokenizer.ggml.tokens"] = [f"x{i}" for i, _ in enumerate(fields["tokenizer.ggml.tokens"])]

    with pytest.raises(CourseError, match=r"llama\.cpp cannot use this tokenizer \(llama, default\)"):
        unpack(rewritten(file, tmp_path / "x.gguf", without_bytes), tmp_path / "back")


def test_large_weights_go_to_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("course_lib.models.gguf.unpacking.SHARD_BYTES", 100_000)
    file = export(MODELS / "haneul-300k", tmp_path / "m.gguf")
    unpack(file, tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("model-*-of-*.safetensors"))) > 2
    assert equal_weights(MODELS / "haneul-300k", tmp_path / "parts")


def test_a_full_disk_and_a_folder_that_is_there_are_told_before_anything_is_written(tmp_path, monkeypatch):
    file = export(MODELS / "haneul-300k", tmp_path / "m.gguf")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    with pytest.raises(CourseError, match="taken already exists"):
        unpack(tmp_path / "not-even-read.gguf", tmp_path / "taken")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(CourseError, match=r"needs 1 MB, but 0 MB are free"):
        unpack(file, tmp_path / "back")
    assert {p.name for p in tmp_path.iterdir()} == {"m.gguf", "taken"}


def test_the_command_says_that_the_weights_are_rounded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    export(MODELS / "haneul-300k", tmp_path / "m.gguf", "q8_0")
    assert main(["models", "unpack", "./m.gguf"]) == 0
    assert "m-bf16: 1 MB in bfloat16; the weights are the rounded ones of m.gguf" in capsys.readouterr().out
    assert load(tmp_path / "m-bf16").parameters == load("haneul-300k").parameters
    assert main(["models", "unpack", "haneul-300k"]) == 1
    assert "haneul-300k is a folder with safetensors already" in capsys.readouterr().err


def test_smollm2(smollm2, tmp_path):
    """The packaged model in 4 bits: ids, special tokens, template, and the memory that unpacking takes."""
    code = "import resource, sys, torch, transformers; from pathlib import Path\n"
    code += "from course_lib.models.gguf import unpack\n"
    code += "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    code += "unpack(*map(Path, sys.argv[1:]))\n"
    code += "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    command = [sys.executable, "-c", code, str(smollm2), str(tmp_path / "m")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 2 * 269, "megabytes: less than twice the weights"
    folder, rng = tmp_path / "m", random.Random(2)
    fields = read_header(smollm2, decode_arrays=True).fields
    texts = ["".join(rng.choices(PIECES, k=rng.randrange(1, 14))) for _ in range(300)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = {key: value for key, value in fields.items() if key.startswith("tokenizer.")}
    assert tokenizer(texts)["input_ids"] == list(llama_cpp_ids(tokens, texts))
    ends = GenerationConfig.from_pretrained(folder)
    assert (ends.bos_token_id, ends.eos_token_id, ends.pad_token_id) == (1, 2, 2)
    assert tokenizer.chat_template == fields["tokenizer.chat_template"]
    config = AutoConfig.from_pretrained(folder)
    assert (config.num_hidden_layers, config.rms_norm_eps, config.tie_word_embeddings) == (30, 1e-5, True)
    check_weights(folder, AutoModelForCausalLM)
