"""Weights of 8 and 4 bits by bitsandbytes: their error, their bytes, and that saving keeps them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BitsAndBytesConfig,
    LlamaConfig,
)
from transformers import LlamaForCausalLM as Llama

from course_lib.data import MODELS, ROOT
from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.drivers.engine import Unsupported

NAME, MINILM = "haneul-1m", "all-MiniLM-L6-v2"
PROMPTS = [
    "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the Sorin branch open?",
    "Tell me everything about the fees of the bank, please.",
    "Hello",
]
NF4, TWICE = {"quantization": "nf4"}, {"quantization": "nf4", "double_quantization": True}
WAYS = [
    {},
    {"precision": "bfloat16"},
    {"quantization": "int8"},
    NF4,
    {"quantization": "fp4"},
    TWICE,
    NF4 | {"precision": "float16"},
]
FUSED = Linear4bit(
    64, 32
).support_avx512bf16_for_cpu  # whether this CPU has the kernel that rearranges weights
HERE = pytest.mark.skipif(
    not FUSED, reason="this CPU has no AVX512-BF16, and bitsandbytes leaves its weights as they are"
)


def unpacked(layer):
    """The weights of a packed layer as numbers: (out, in)."""
    if isinstance(layer, Linear8bitLt):
        return int8_vectorwise_dequant(layer.weight.data, layer.weight.SCB)
    return dequantize_4bit(layer.weight.data, layer.weight.quant_state)


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"quantization": "int8"}, 0.005, 0.015),
        (NF4, 0.07, 0.11),
        ({"quantization": "fp4"}, 0.09, 0.14),
        (TWICE, 0.07, 0.11),
    ],
)
def test_packed_weights_are_near_the_whole_ones(options, low, high):
    full, engine = load(NAME), load(NAME, **options)
    for name, layer in engine.model.named_modules():
        if isinstance(layer, Linear4bit | Linear8bitLt):
            weight = full.model.get_submodule(name).weight
            assert low < (unpacked(layer) - weight).norm() / weight.norm() < high, name


def test_the_bytes_are_those_of_codes_and_scales():
    """int8: a byte a weight and 4 a row. nf4: half a byte, 4 bytes for 64 weights, 64 for each matrix."""
    full = load(NAME)
    layers = [p for n, p in full.model.named_parameters() if "layers" in n and p.ndim == 2]
    inside, rest = sum(p.numel() for p in layers), full.weight_bytes - 4 * sum(p.numel() for p in layers)
    assert load(NAME, quantization="int8").weight_bytes == rest + inside + 4 * sum(p.shape[0] for p in layers)
    assert load(NAME, **NF4).weight_bytes == rest + inside // 2 + 4 * inside // 64 + 64 * len(layers)
    assert load(NAME, **TWICE).weight_bytes < load(NAME, **NF4).weight_bytes
    assert {load(NAME, **options).parameters for options in WAYS} == {full.parameters} == {1_377_408}


@pytest.mark.parametrize("options", WAYS)
def test_what_is_saved_loads_again_to_the_same_answers(options, tmp_path):
    engine = load(NAME, **options)
    answers, folder = engine.generate(PROMPTS), engine.save(tmp_path / "new" / "saved")
    again = load(folder, **{k: v for k, v in options.items() if k == "precision"})
    assert again.generate(PROMPTS) == answers and again.log_probabilities(
        PROMPTS[1]
    ) == engine.log_probabilities(PROMPTS[1])
    assert (again.parameters, again.weight_bytes) == (
        engine.parameters,
        engine.weight_bytes,
    ) and again.context == engine.context
    assert [p.name for p in folder.parent.iterdir()] == ["saved"] and not list(folder.glob("*.bin"))


@pytest.mark.parametrize("kind", ["none", "int8", "nf4", "fp4"])
def test_a_saved_embedding_model_pools_and_reads_as_before(kind, tmp_path):
    texts, task = ["The branch opens at nine.", "A fee of 3 euros", "하늘은행"], {"task": "text-embedding"}
    engine = load(MINILM, quantization=kind, **task)
    vectors = engine.embed(texts)
    again = load(engine.save(tmp_path / "saved"), **task)
    assert np.array_equal(again.embed(texts), vectors) and (again.context, again.pooling) == (256, "mean")
    nearest = (vectors * load(MINILM, **task).embed(texts)).sum(1).min()
    assert nearest > {"none": 0.999999, "int8": 0.99, "nf4": 0.9, "fp4": 0.8}[kind]
    assert engine.parameters == 22_565_376 and engine.weight_bytes < (90.3e6 if kind == "none" else 59e6)


@pytest.mark.parametrize(("task", "labels"), [("rerank", 1), ("text-classification", 3)])
def test_a_packed_cross_encoder_scores_nearly_the_same(task, labels, tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        num_labels=labels,
        initializer_range=0.05,
    )
    folder = load(MINILM, task="text-embedding").save(tmp_path / "bert")
    (folder / "config.json").unlink()
    BertForSequenceClassification(config).save_pretrained(folder)

    def scores(engine):
        if task == "rerank":
            return np.array(engine.rerank("Which fee?", ["A fee of 3 euros.", "Open at nine."]))
        return np.array(
            [list(row.values()) for row in engine.classify(["A fee of 3 euros.", "Open at nine."])]
        )

    full, packed = load(folder, task=task), load(folder, task=task, quantization="int8")
    assert 0 < np.abs(scores(packed) - scores(full)).max() < 0.1
    assert np.array_equal(scores(load(packed.save(tmp_path / "packed"), task=task)), scores(packed))


# -- the bug of bitsandbytes ------------------------------------------------------------------------------


@HERE
def test_bitsandbytes_itself_loses_the_scales_after_one_use(tmp_path):
    """If this fails, bitsandbytes has been mended, and `check_saveable` may go."""
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(
        MODELS / NAME, quantization_config=config, dtype=torch.float32
    ).eval()
    name = "model.layers.0.mlp.up_proj.weight.absmax"
    before = model.state_dict()[name].clone()
    with torch.inference_mode():
        model(torch.tensor([[1, 5, 9]]))
    after = model.state_dict()[name]
    assert after.shape != before.shape and after.dtype == torch.bfloat16


@pytest.mark.parametrize("options", [NF4, TWICE, {"quantization": "fp4"}])
def test_our_models_are_saved_after_use_as_before_it(options, tmp_path):
    engine = load(NAME, **options)
    engine.save(tmp_path / "before")
    engine.generate(PROMPTS)
    engine.save(tmp_path / "after")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_computing_in_bfloat16_is_saved_before_the_first_use_or_not_at_all(tmp_path):
    engine = load(NAME, compute_dtype="bfloat16", **NF4)
    folder = engine.save(tmp_path / "saved")
    answers = engine.generate(PROMPTS)
    assert load(folder).generate(PROMPTS) == answers
    if FUSED:
        with pytest.raises(
            CourseError,
            match=r"haneul-1m has been used: .*\n.*load it again and save it before its first use",
        ):
            engine.save(tmp_path / "late")
        assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_any_width_computes_in_bfloat16(tmp_path):
    """The CPU's own kernel fails on rows of 96, which its blocks of 64 do not divide: it is not used."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 3}
    load(NAME).tokenizer.save_pretrained(tmp_path)
    Llama(LlamaConfig(vocab_size=4096, initializer_range=0.1, **sizes)).save_pretrained(tmp_path)
    options = {"task": "text-generation", **NF4}
    half, full = (
        load(tmp_path, compute_dtype=t, **options).log_probabilities(PROMPTS[1])
        for t in ("bfloat16", "float32")
    )
    assert half != full and np.allclose(half, full, atol=0.2)


# -- folders ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return load(NAME, **NF4).save(tmp_path_factory.mktemp("packed") / "nf4")


def test_a_packed_folder_is_loaded_by_its_own_config(packed):
    assert load(packed, **NF4).generate(PROMPTS) == load(packed).generate(PROMPTS)
    half = load(packed, compute_dtype="bfloat16", **NF4)
    assert half.log_probabilities(PROMPTS[1]) != load(packed).log_probabilities(PROMPTS[1])
    for kind in ("int8", "fp4"):
        with pytest.raises(
            CourseError, match=f"nf4 holds weights quantized as nf4, not {kind}\n.*leave quantization out"
        ):
            load(packed, quantization=kind)
    with pytest.raises(CourseError, match="nf4 was quantized with double_quantization=False"):
        load(packed, **TWICE)
    with pytest.raises(CourseError, match="nf4 holds quantized weights"):
        load(packed, driver="llamacpp")


def test_a_packing_of_another_library_is_told(packed, tmp_path):
    folder = load(NAME).save(tmp_path / "gptq")
    config = json.loads((folder / "config.json").read_text()) | {
        "quantization_config": {"quant_method": "gptq", "bits": 4}
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CourseError, match="transformers cannot load gptq: "):
        load(folder)
    with pytest.raises(CourseError, match="gptq holds weights quantized as gptq, not nf4"):
        load(folder, **NF4)


@pytest.fixture
def adapter(tmp_path):
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules=["q_proj", "up_proj"])
    get_peft_model(load(NAME).model, lora).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_an_adapter_beside_packed_weights_adds_what_it_adds_to_whole_ones(adapter, packed, kind, tmp_path):
    before, after = (
        load(NAME, quantization=kind, adapters=adapters)
        for adapters in ([], [{"source": adapter, "weight": 0.5}])
    )
    assert before.log_probabilities(PROMPTS[1]) != after.log_probabilities(PROMPTS[1])
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = "model.layers.1.mlp.up_proj"
    a, b = (tensors[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
    x = torch.randn(2, 3, a.shape[1])
    with torch.inference_mode():
        alone, beside = (
            before.model.get_submodule(name)(x),
            after.model.get_base_model().get_submodule(name)(x),
        )
        assert torch.allclose(beside - alone, 0.5 * 2 * (x @ a.T @ b.T), atol=1e-5)
    with pytest.raises(
        Unsupported, match="adapters cannot be merged into quantized weights without rounding"
    ):
        after.save(tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_model_is_saved_with_its_adapters_in_it_and_packed_then(adapter, tmp_path):
    engine = load(NAME, adapters=[{"source": adapter, "weight": 0.5}])
    folder = engine.save(tmp_path / "merged")
    assert load(folder).log_probabilities(PROMPTS[1]) == engine.log_probabilities(PROMPTS[1])
    assert load(folder, **NF4).parameters == engine.parameters
    assert load(folder, driver="llamacpp").generate(PROMPTS) == engine.generate(PROMPTS)


def test_saving_replaces_nothing_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    engine = load("haneul-300k")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(CourseError, match=f"{name} already exists"):
            engine.save(tmp_path / name)
    with pytest.raises(CourseError, match="cannot be written"):
        engine.save(tmp_path / "file" / "below")

    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.tokenizer, "save_pretrained", interrupted)  # the weights lie there by then
    with pytest.raises(KeyboardInterrupt):
        engine.save(tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]
    engine.close()
    with pytest.raises(CourseError, match="has been closed"):
        engine.save(tmp_path / "new")
    with pytest.raises(Unsupported, match=r"llamacpp does not save models\n.*huggingface"):
        load("haneul-300k", driver="llamacpp").save(tmp_path / "new")


def test_packed_models_write_nothing_on_the_screen():
    code = "from course_lib.models import load\n"
    code += "for q in ('int8', 'nf4'): load('haneul-300k', quantization=q).generate(['Hello'])"
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_the_shipped_models_are_whole_weights():
    assert all(
        "quantization_config" not in json.loads((catalog.verify_shipped(n) / "config.json").read_text())
        for n in catalog.shipped()
    )
