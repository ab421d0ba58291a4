"""The course's models give the same answers in llama.cpp, as GGUF, as in transformers."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import load_file

from course_lib import cli, data
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.gguf.architecture import interleave
from course_lib.models.gguf.writer import export
from course_lib.models.schema import SpecError
from course_lib.rag.answering import given_passages
from course_lib.rag.prompt import Source, question_prompt

NAME = "haneul-1m"


@pytest.fixture(scope="module")
def model():
    return load(NAME)


@pytest.fixture(scope="module")
def llama_cpp():
    """The real llama.cpp, in this process, over the float32 file."""
    return load(NAME, driver="llamacpp")


@pytest.fixture(scope="module")
def prompts():
    passages = data.load_passages()
    chosen = [q for q in data.load_questions("validation") if len(q.gold) == 1][:50]
    shown = [[Source(p.title, p.text) for p in given_passages(q, passages, 1)] for q in chosen]
    return [question_prompt(q.question, s, q.options) for q, s in zip(chosen, shown, strict=True)]


def test_the_same_greedy_text_on_fifty_prompts(model, llama_cpp, prompts):
    assert len(prompts) == 50 and llama_cpp.generate(prompts) == model.generate(prompts)


def test_the_chat_template_and_the_tokenizer_agree(model, llama_cpp, prompts):
    """llama.cpp tokenizes the chat by its own rules: as many prompt tokens, and the same answer."""
    for prompt in prompts[::5]:
        request = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 128}
        reply = llama_cpp.server.request("/v1/chat/completions", request)
        assert reply["usage"]["prompt_tokens"] == model.count_tokens(prompt) == llama_cpp.count_tokens(prompt)
        assert reply["choices"][0]["message"]["content"].strip() == model.generate([prompt])[0]


def test_a_prompt_that_does_not_fit_is_refused_and_not_truncated(llama_cpp):
    with pytest.raises(CourseError, match=r"\d+ tokens with the answer, but haneul-1m reads 2048"):
        llama_cpp.generate(["word " * 2100])


def test_options_that_llama_cpp_does_not_support_are_refused(llama_cpp):
    with pytest.raises(SpecError, match="temperature: -1"):
        llama_cpp.generate(["Hello"], temperature=-1)
    with pytest.raises(Unsupported, match="min_output_length=4"):
        llama_cpp.generate(["Hello"], max_output_length=8, min_output_length=4)


def test_options_have_an_effect(llama_cpp, prompts):
    text = llama_cpp.generate(prompts[:1], max_output_length=40, min_output_length=40)[0]
    assert text.tokens == 40 and text.finish_reason == "length"
    samples = {llama_cpp.generate(prompts[:1], temperature=5.0, seed=s)[0] for s in (1, 2, 3)}
    assert len(samples) > 1
    assert llama_cpp.generate(prompts[:1], temperature=5.0, seed=1) == llama_cpp.generate(
        prompts[:1], temperature=5.0, seed=1
    )
    assert llama_cpp.generate([]) == []


def test_quantized_weights_can_be_loaded(prompts):
    assert len(load(NAME, driver="llamacpp", quantization="q8_0").generate(prompts[:2])) == 2
    with pytest.raises(ValueError, match=r"q3.*q8_0"):
        load(NAME, driver="llamacpp", quantization="q3")
    for kind in ("int8", "nf4", "fp4"):
        reason = "needs the driver huggingface; the driver llamacpp supports q8_0, q4_0"
        with pytest.raises(SpecError, match=f"quantization: '{kind}' {reason}"):
            load(NAME, driver="llamacpp", quantization=kind)


def test_a_file_keeps_its_quantization(tmp_path):
    target = export(MODELS / NAME, tmp_path / "m.gguf", "q4_0")
    assert load(target, driver="llamacpp", quantization="q4_0").generate(["Hello"])
    with pytest.raises(Unsupported, match=r"m\.gguf holds weights of type q4_0, not q8_0"):
        load(target, driver="llamacpp", quantization="q8_0")


@pytest.mark.parametrize(
    ("kind", "bits"), [("f32", 32), ("f16", 16), ("bf16", 16), ("q8_0", 8.5), ("q4_0", 4.5)]
)
def test_each_weight_type_has_its_bits_per_weight(tmp_path, kind, bits):
    reader = GGUFReader(export(MODELS / NAME, tmp_path / "m.gguf", kind))
    matrices = [t for t in reader.tensors if len(t.shape) == 2]
    assert {t.tensor_type.name for t in matrices} == {kind.upper()}
    assert sum(t.n_bytes for t in matrices) * 8 / sum(t.n_elements for t in matrices) == bits
    assert {t.tensor_type.name for t in reader.tensors if len(t.shape) == 1} == {"F32"}


def test_exported_weights_are_close_to_the_original(tmp_path):
    weights = load_file(MODELS / NAME / "model.safetensors")
    for kind, tolerance in (("f32", 0), ("f16", 1e-3), ("q8_0", 0.01), ("q4_0", 0.15)):
        tensors = {t.name: t for t in GGUFReader(export(MODELS / NAME, tmp_path / "m.gguf", kind)).tensors}
        original = weights["model.layers.0.mlp.up_proj.weight"].float().numpy()
        exported = dequantize(tensors["blk.0.ffn_up.weight"].data, tensors["blk.0.ffn_up.weight"].tensor_type)
        assert np.linalg.norm(exported - original) <= tolerance * np.linalg.norm(original)


def test_rows_are_interleaved_within_each_head():
    rows = np.arange(8.0)[:, None]  # two heads of four rows
    assert interleave(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="one of f32, f16"):
        export(MODELS / NAME, MODELS / "x.gguf", "q3")


def test_a_failed_export_leaves_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CourseError, match="cannot be written"):
        export(MODELS / NAME, tmp_path / "file" / "x.gguf")
    (tmp_path / f".full.gguf.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(CourseError, match="No space left"):
        export(MODELS / NAME, tmp_path / "full.gguf")
    assert not (tmp_path / "full.gguf").exists()


def test_the_export_command_writes_a_file_and_prints_its_size(tmp_path, capsys, monkeypatch):
    target = tmp_path / "new" / "m.gguf"
    assert cli.main(["models", "export", NAME, "--to", "gguf", "--out", str(target), "--type", "q8_0"]) == 0
    assert f"{target}: 1.6 MB, q8_0" in capsys.readouterr().out
    assert cli.main(["models", "export", "llama3:13b", "--out", str(target)]) == 1
    monkeypatch.chdir(tmp_path)
    shutil.copytree(MODELS / NAME, tmp_path / "mine")
    for name in (NAME, "mine", str(tmp_path / "mine")):
        assert cli.main(["models", "export", name, "--type", "q4_0", "--force"]) == 0
    assert {p.name for p in tmp_path.glob("*.gguf")} == {f"{NAME}-q4_0.gguf", "mine-q4_0.gguf"}
    assert load(tmp_path / "mine-q4_0.gguf", driver="llamacpp").parameters == 1_377_408


def test_the_export_command_replaces_a_file_only_with_force(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / f"{NAME}-f16.gguf"
    target.write_text("my own")
    assert cli.main(["models", "export", NAME]) == 1 and target.read_text() == "my own"
    assert "already exists" in (stderr := capsys.readouterr().err) and "--force" in stderr
    assert cli.main(["models", "export", NAME, "--force"]) == 0 and target.stat().st_size > 2_000_000
    assert cli.main(["models", "export", str(target), "--out", "x.gguf"]) == 1
    assert "is a gguf file already" in capsys.readouterr().err
    assert cli.main(["models", "export", "all-MiniLM-L6-v2"]) == 1
    assert "has the architecture BertModel; supported are LlamaForCausalLM" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value", "known"), [("--to", "onnx", "gguf"), ("--type", "q3_k", "q4_0")])
def test_the_error_for_an_unknown_format_lists_the_known_ones(option, value, known, capsys):
    with pytest.raises(SystemExit):
        cli.main(["models", "export", NAME, option, value])
    assert value in (stderr := capsys.readouterr().err) and known in stderr


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory):
    """The bytes of a GGUF file."""
    return export(MODELS / "haneul-300k", tmp_path_factory.mktemp("gguf") / "m.gguf", "q8_0").read_bytes()


@pytest.mark.parametrize("fraction", [0.0001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_reported_with_its_size(gguf_bytes, fraction, tmp_path):
    size = int(fraction * len(gguf_bytes))
    (tmp_path / "cut.gguf").write_bytes(gguf_bytes[:size])
    with pytest.raises(CourseError, match=rf"cut\.gguf is truncated or damaged: it has {size:,} bytes"):
        load(tmp_path / "cut.gguf", driver="llamacpp")


def test_a_file_of_an_unknown_architecture_is_refused(gguf_bytes, tmp_path):
    (tmp_path / "m.gguf").write_bytes(
        gguf_bytes.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lxama").replace(
            b"llama.", b"lxama."
        )
    )
    with pytest.raises(
        CourseError, match=r"m\.gguf has the architecture 'lxama', which llama.cpp does not support"
    ):
        load(tmp_path / "m.gguf", driver="llamacpp")


def public_file(name):
    """A public GGUF file in the folder COURSE_DATA_DIR; skip the test if it is missing."""
    path = Path(os.environ.get("COURSE_DATA_DIR", "../shared/data")) / "models" / name
    if not path.is_file():
        pytest.skip(f"{path} is not here: set COURSE_DATA_DIR to the folder of real data")
    return path


def test_a_file_with_only_a_tokenizer_is_refused():
    with pytest.raises(
        CourseError, match=r"ggml-vocab-gpt-2\.gguf holds only a tokenizer \(gpt2\), no weights"
    ):
        load(public_file("ggml-vocab-gpt-2.gguf"), driver="llamacpp", task="text-generation")


def test_a_public_model_can_be_loaded():
    engine = load(public_file("stories260K.gguf"), driver="llamacpp", task="text-generation")
    assert engine.generate(["Once upon a"], max_output_length=4)[0].startswith(" time")
