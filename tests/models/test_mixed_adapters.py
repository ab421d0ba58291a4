"""Several LoRA adapters of one model: their weighted sum is exact in memory, saved, and in llama.cpp."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import ModelSpec, catalog, load
from course_lib.models.drivers.adapters import base_record
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.gguf import export, export_adapter

pytest_plugins = ["tests.models.hub_fixtures"]
BASE = "haneul-300k"
IDS = torch.arange(5, 45)[None]
PROMPTS = ["When do you open?", "What is the fee of a card?", "Hello", "How do I close my account?"]
CONFIGS = {  # name -> arguments of peft's LoraConfig
    "small": {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"]},
    "large": {"r": 8, "lora_alpha": 6, "target_modules": ["q_proj", "k_proj", "down_proj"]},
    "root": {"r": 4, "lora_alpha": 2, "target_modules": ["o_proj", "q_proj"], "use_rslora": True},
    "uneven": {
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": {"up_proj": 2},
    },
}


def save_adapter(folder, seed=0, base=BASE, **config):
    """Save a random adapter whose changes are about as large as the weights; return its folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = base if isinstance(base, torch.nn.Module) else load(base).model
        get_peft_model(
            model, LoraConfig(**config, init_lora_weights=False, task_type="CAUSAL_LM")
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """name -> folder of an adapter with that configuration."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        name: save_adapter(folder / name, seed, **config)
        for seed, (name, config) in enumerate(CONFIGS.items())
    }


@pytest.fixture(scope="module")
def base_engine():
    return load(BASE)


def delta(folder):
    """Name of a weight -> what an adapter adds to it, alpha / r * B A, computed from the adapter's files."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    deltas = {}
    for name, a in tensors.items():
        if name.endswith("lora_A.weight"):
            b, rank = tensors[name.replace("lora_A", "lora_B")], a.shape[0]
            scale = config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank)
            weight_name = name.removeprefix("base_model.model.").replace("lora_A.", "")
            deltas[weight_name] = scale * (b.double().numpy() @ a.double().numpy())
    return deltas


def expected_weights(base_engine, folders, weight_of):
    """The weights of the base plus the weighted sum of its adapters, computed from their files."""
    expected = {
        name: weight.double().numpy().copy() for name, weight in base_engine.model.state_dict().items()
    }
    for name, weight in weight_of.items():
        for weight_name, added in delta(folders[name]).items():
            expected[weight_name] += weight * added
    return expected


def adapter_fields(folders, weight_of):
    """The field `adapters` of a ModelSpec. weight_of: name of an adapter -> its weight."""
    return [{"source": folders[name], "weight": weight} for name, weight in weight_of.items()]


def attach(base_engine, adapters, **spec):
    return base_engine.with_adapters(ModelSpec.parse(BASE, adapters=adapters, **spec))


def logits(engine):
    with torch.inference_mode():
        return engine.model(IDS).logits


def max_error(engine, expected):
    """The largest difference between a weight of the engine and the expected one."""
    return max(
        np.abs(weight.double().numpy() - expected[name]).max()
        for name, weight in engine.model.state_dict().items()
    )


# -- the exact sum ----------------------------------------------------------------------------------------

MIXTURES = [
    {"small": 1, "large": 1},
    {"small": 0.3, "large": -0.7},
    {"large": 0, "small": 2.5},
    {"root": 1, "uneven": -1.5},
    {"small": -1, "large": 0.5, "root": 3},
    {"uneven": 1, "root": 0, "large": -10},
    {"root": 0.7},
    {"uneven": -2},
]


@pytest.mark.parametrize("weight_of", MIXTURES, ids=str)
def test_any_mixture_is_the_weighted_sum_of_its_adapters(base_engine, folders, weight_of):
    adapters = adapter_fields(folders, weight_of)
    merged, attached = load(BASE, adapters=adapters), attach(base_engine, adapters)
    assert max_error(merged, expected_weights(base_engine, folders, weight_of)) < 1e-5
    assert torch.allclose(logits(attached), logits(merged), rtol=1e-4, atol=1e-4)
    assert (logits(merged) - logits(base_engine)).abs().max() > 0.1  # the adapters have an effect
    assert (
        merged.name == "+".join([BASE, *weight_of])
        and merged.parameters == attached.parameters == base_engine.parameters
    )
    assert torch.equal(logits(base_engine), logits(load(BASE)))  # the base is unchanged


@pytest.mark.parametrize(
    "weight_of", [{"small": 0.4, "large": 0.6}, {"small": -0.5, "large": 2, "root": 1}], ids=str
)
def test_the_sum_equals_that_of_peft_with_combination_type_cat(folders, weight_of):
    names = list(weight_of)
    peft_model = PeftModel.from_pretrained(load(BASE).model, folders[names[0]], adapter_name=names[0])
    for name in names[1:]:
        peft_model.load_adapter(folders[name], adapter_name=name)
    peft_model.add_weighted_adapter(
        names, [float(weight_of[name]) for name in names], "cat", combination_type="cat"
    )
    peft_model.set_adapter("cat")
    expected = peft_model.merge_and_unload()
    ours = load(BASE, adapters=adapter_fields(folders, weight_of)).model.state_dict()
    assert all(
        torch.allclose(weight, ours[name], atol=1e-5) for name, weight in expected.state_dict().items()
    )


def test_adapters_with_weight_0_leave_the_base_bit_for_bit_unchanged(base_engine, folders):
    adapters = adapter_fields(folders, {"small": 0, "large": 0, "root": 0})
    merged, attached = load(BASE, adapters=adapters), attach(base_engine, adapters)
    before = base_engine.model.state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in merged.model.state_dict().items())
    assert base_engine.generate(PROMPTS) == merged.generate(PROMPTS) == attached.generate(PROMPTS)


@pytest.mark.parametrize("combination_type", ["svd", "linear"])
def test_other_combination_types_are_not_the_exact_sum(base_engine, tmp_path, combination_type):
    """Not even for two adapters of the same rank and layers, which linear requires."""
    pair = {
        name: save_adapter(tmp_path / name, seed, **CONFIGS["large"]) for seed, name in enumerate(["a", "b"])
    }
    weight_of = {"a": 0.7, "b": 0.6}
    expected = expected_weights(base_engine, pair, weight_of)
    exact, other = (
        load(BASE, adapters=adapter_fields(pair, weight_of), combination_type=combination)
        for combination in ("cat", combination_type)
    )
    assert max_error(exact, expected) < 1e-5 < 1e-3 < max_error(other, expected)
    assert (
        logits(other) - logits(base_engine)
    ).abs().max() > 0.1 and other.model.state_dict().keys() == expected.keys()
    attached = attach(base_engine, adapter_fields(pair, weight_of), combination_type=combination_type)
    assert torch.allclose(logits(attached), logits(other), rtol=1e-4, atol=1e-3)
    alone = load(
        BASE, adapters=adapter_fields(pair, {"a": 0.7}), combination_type=combination_type
    )  # a single adapter is exact
    assert max_error(alone, expected_weights(base_engine, pair, {"a": 0.7})) < 1e-5


def test_ranks_that_linear_cannot_combine_are_an_error(folders):
    pair = adapter_fields(folders, {"small": 1, "large": 1})
    message = r"combination_type='linear': .*same r(.|\n)*combination_type=.cat.\)"
    with pytest.raises(CourseError, match=message):
        load(BASE, adapters=pair, combination_type="linear")
    assert load(BASE, adapters=pair, combination_type="svd").parameters > 0


def test_a_mixture_is_saved_as_one_model(base_engine, folders, tmp_path):
    adapters = adapter_fields(folders, {"small": 0.5, "root": -1})
    attached = attach(base_engine, adapters)
    assert (
        attached.generate(PROMPTS)
        == load(attached.save(tmp_path / "mixed")).generate(PROMPTS)
        != base_engine.generate(PROMPTS)
    )
    quantized = load(BASE, quantization="nf4", adapters=adapters)
    with pytest.raises(
        Unsupported, match="adapters cannot be merged into quantized weights without rounding"
    ):
        quantized.save(tmp_path / "quantized")


# -- llama.cpp --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weight_of", [{"small": 0.5}, {"large": -0.5, "root": 0.5}, {"uneven": 1.5}], ids=str
)
def test_llama_cpp_gives_the_answers_of_the_merged_model(folders, tmp_path, weight_of, base_engine):
    adapters = adapter_fields(folders, weight_of)
    saved = load(load(BASE, adapters=adapters).save(tmp_path / "merged"))
    expected = saved.generate(PROMPTS, max_output_length=24)
    in_llama_cpp = load(BASE, driver="llamacpp", adapters=adapters)
    assert in_llama_cpp.generate(PROMPTS, max_output_length=24) == expected
    assert expected != base_engine.generate(PROMPTS, max_output_length=24)


def test_llama_cpp_loads_gguf_files_of_base_and_adapter(folders, tmp_path):
    base, file = (
        export(MODELS / BASE, tmp_path / "base.gguf"),
        export_adapter(folders["small"], MODELS / BASE, tmp_path / "a.gguf"),
    )
    expected = load(BASE, driver="llamacpp", adapters=[folders["small"]]).generate(
        PROMPTS, max_output_length=24
    )
    assert load(base, driver="llamacpp", adapters=[file]).generate(PROMPTS, max_output_length=24) == expected
    with pytest.raises(
        Unsupported, match=r"small is a PEFT folder, but the base model base\.gguf is a GGUF file"
    ):
        load(base, driver="llamacpp", adapters=[folders["small"]])


def test_adapters_that_llama_cpp_does_not_support_are_refused(folders, tmp_path):
    with pytest.raises(Unsupported, match=r"combination_type='svd': llama\.cpp can only add adapters up"):
        pair = adapter_fields(folders, {"small": 1, "large": 1})
        load(BASE, driver="llamacpp", adapters=pair, combination_type="svd")
    one = save_adapter(
        tmp_path / "one", r=2, target_modules=["q_proj", "up_proj"], alpha_pattern={"up_proj": 3}
    )
    two = save_adapter(
        tmp_path / "two",
        r=2,
        target_modules=["q_proj", "up_proj"],
        rank_pattern={"up_proj": 3},
        use_rslora=True,
    )
    for folder in (one, two):
        with pytest.raises(
            CourseError, match=f'{folder.name} has a separate alpha(.|\n)*driver="huggingface"'
        ):
            load(BASE, driver="llamacpp", adapters=[folder])
    dora = save_adapter(tmp_path / "dora", r=2, target_modules=["q_proj"], use_dora=True)
    with pytest.raises(CourseError, match=r"dora: llama\.cpp does not support the tensor .*magnitude"):
        load(BASE, driver="llamacpp", adapters=[dora])
    (one / "adapter_config.json").write_text("{}")
    with pytest.raises(CourseError, match="one is not a LoRA adapter: 'lora_alpha'"):
        export_adapter(one, MODELS / BASE, tmp_path / "one.gguf")


# -- another base -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_the_error_for_other_shapes_shows_both(folders, driver, monkeypatch):
    monkeypatch.setattr(PeftModel, "from_pretrained", None)  # the check comes before peft
    message = r"small does not fit this model: its A for model\.layers\.0\.self_attn\.q_proj has the shape "
    shapes = r"2 x 64, and the model's matrix 128 x 128(.|\n)*adapter of this base model"
    with pytest.raises(CourseError, match=message + shapes):
        load("haneul-1m", driver=driver, adapters=[folders["small"]])


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_an_adapter_of_other_weights_is_refused_by_both_drivers(tmp_path, driver):
    folder = save_adapter(tmp_path / "mine", **CONFIGS["small"])
    (folder / "base.json").write_text(json.dumps(base_record(MODELS / BASE)))
    assert load(BASE, driver=driver, adapters=[folder]).generate(["Hello"])
    model = load(BASE).model
    model.model.norm.weight.data[0] += 1
    other = tmp_path / "other"
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(MODELS / BASE).save_pretrained(other)
    with pytest.raises(
        CourseError, match=rf"mine was made for {BASE}, whose weights have SHA-256 .*; those of other have "
    ):
        load(other, driver=driver, adapters=[folder])


def test_an_adapter_of_a_model_with_transposed_matrices_fits(tmp_path):
    """GPT-2 stores its matrices as (inputs, outputs); c_attn has three times as many outputs as inputs."""
    config = GPT2Config(
        vocab_size=4096, n_embd=32, n_layer=1, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=2
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    AutoTokenizer.from_pretrained(catalog.verify_shipped(BASE)).save_pretrained(tmp_path / "gpt2")
    base = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2")
    folder = save_adapter(
        tmp_path / "transposed", base=base, r=2, target_modules=["c_attn"], fan_in_fan_out=True
    )
    merged = load(tmp_path / "gpt2", adapters=[folder])
    assert (logits(merged) - logits(load(tmp_path / "gpt2"))).abs().max() > 0.01


# -- the hub ----------------------------------------------------------------------------------------------


def test_an_adapter_on_the_hub_is_downloaded_and_is_not_a_model(folders, online, offline):
    others = {"README.md": b"#", "optimizer.pt": b"\x80", "tokenizer.json": b"{}"}
    files = {path.name: path.read_bytes() for path in folders["small"].iterdir()}
    hub = online({"course/small": files | others})
    for driver in ("huggingface", "llamacpp"):
        from_hub, from_folder = (
            load(BASE, driver=driver, adapters=[source]) for source in ("course/small", folders["small"])
        )
        assert from_hub.generate(PROMPTS) == from_folder.generate(PROMPTS)
        assert from_hub.name == f"{BASE}+course/small"
    requested = {request.path.rpartition("/")[2] for request in hub.requests_for("/resolve/")}
    assert requested == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    with pytest.raises(
        CourseError, match=r'course/small is a LoRA adapter, .*(.|\n)*adapters=\["course/small"\]'
    ):
        load("course/small")
    offline()
    assert load(BASE, adapters=["course/small"]).generate(PROMPTS) == load(
        BASE, adapters=[folders["small"]]
    ).generate(PROMPTS)
    for source, label in (
        ("course/small", "course/small"),
        ({"source": "course/small", "name": "mine"}, "mine"),
    ):
        with pytest.raises(CourseError, match=f"the adapter {label} does not fit this model"):
            load("haneul-1m", adapters=[source])
    with pytest.raises(CourseError, match=r"course/other .*is missing(.|\n)*course models pull course/other"):
        load(BASE, adapters=["course/other"])
