"""Several adapters of a language model: their sum is exact, in memory, in a file, and in llama.cpp."""

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
KINDS = {
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


def adapter(folder, seed=0, base=BASE, **config):
    """A random adapter, as strong as the weights that it changes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = base if isinstance(base, torch.nn.Module) else load(base).model
        get_peft_model(
            model, LoraConfig(**config, init_lora_weights=False, task_type="CAUSAL_LM")
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return {name: adapter(folder / name, seed, **config) for seed, (name, config) in enumerate(KINDS.items())}


@pytest.fixture(scope="module")
def plain():
    return load(BASE)


def delta(folder):
    """Name of a weight -> what an adapter adds to it: alpha / r * B A, by hand, from its files."""
    config, tensors = (
        json.loads((folder / "adapter_config.json").read_text()),
        load_file(folder / "adapter_model.safetensors"),
    )
    deltas = {}
    for name, a in tensors.items():
        if name.endswith("lora_A.weight"):
            b, rank = tensors[name.replace("lora_A", "lora_B")], a.shape[0]
            scale = config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank)
            place = name.removeprefix("base_model.model.").replace("lora_A.", "")
            deltas[place] = scale * (b.double().numpy() @ a.double().numpy())
    return deltas


def summed(plain, made, weight_of):
    """The weights of the base with the sum of its adapters, by hand."""
    expected = {name: weight.double().numpy().copy() for name, weight in plain.model.state_dict().items()}
    for name, weight in weight_of.items():
        for place, added in delta(made[name]).items():
            expected[place] += weight * added
    return expected


def weighted(made, weight_of):
    return [{"source": made[name], "weight": weight} for name, weight in weight_of.items()]


def attach(plain, adapters, **spec):
    return plain.with_adapters(ModelSpec.parse(BASE, adapters=adapters, **spec))


def logits(engine):
    with torch.inference_mode():
        return engine.model(IDS).logits


def error(engine, expected):
    """The largest difference of a weight from what it should be."""
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
def test_any_mixture_is_the_sum_of_its_parts(plain, made, weight_of):
    adapters = weighted(made, weight_of)
    merged, attached = load(BASE, adapters=adapters), attach(plain, adapters)
    assert error(merged, summed(plain, made, weight_of)) < 1e-5
    assert torch.allclose(logits(attached), logits(merged), rtol=1e-4, atol=1e-4)
    assert (logits(merged) - logits(plain)).abs().max() > 0.1  # else it would show nothing
    assert (
        merged.name == "+".join([BASE, *weight_of])
        and merged.parameters == attached.parameters == plain.parameters
    )
    assert torch.equal(logits(plain), logits(load(BASE)))  # which was not touched


@pytest.mark.parametrize(
    "weight_of", [{"small": 0.4, "large": 0.6}, {"small": -0.5, "large": 2, "root": 1}], ids=str
)
def test_it_is_what_peft_makes_by_putting_them_side_by_side(made, weight_of):
    names = list(weight_of)
    theirs = PeftModel.from_pretrained(load(BASE).model, made[names[0]], adapter_name=names[0])
    for name in names[1:]:
        theirs.load_adapter(made[name], adapter_name=name)
    theirs.add_weighted_adapter(
        names, [float(weight_of[name]) for name in names], "cat", combination_type="cat"
    )
    theirs.set_adapter("cat")
    expected = theirs.merge_and_unload()
    ours = load(BASE, adapters=weighted(made, weight_of)).model.state_dict()
    assert all(
        torch.allclose(weight, ours[name], atol=1e-5) for name, weight in expected.state_dict().items()
    )


def test_no_weight_is_the_base_bit_for_bit(plain, made):
    adapters = weighted(made, {"small": 0, "large": 0, "root": 0})
    merged, attached = load(BASE, adapters=adapters), attach(plain, adapters)
    before = plain.model.state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in merged.model.state_dict().items())
    assert plain.generate(PROMPTS) == merged.generate(PROMPTS) == attached.generate(PROMPTS)


@pytest.mark.parametrize("combination_type", ["svd", "linear"])
def test_other_ways_to_mix_act_and_are_not_the_sum(plain, tmp_path, combination_type):
    """Even of two adapters of one rank and the same layers, which is all that linear takes."""
    pair = {name: adapter(tmp_path / name, seed, **KINDS["large"]) for seed, name in enumerate(["a", "b"])}
    weight_of = {"a": 0.7, "b": 0.6}
    expected = summed(plain, pair, weight_of)
    exact, other = (
        load(BASE, adapters=weighted(pair, weight_of), combination_type=way)
        for way in ("cat", combination_type)
    )
    assert error(exact, expected) < 1e-5 < 1e-3 < error(other, expected)
    assert (
        logits(other) - logits(plain)
    ).abs().max() > 0.1 and other.model.state_dict().keys() == expected.keys()
    attached = attach(plain, weighted(pair, weight_of), combination_type=combination_type)
    assert torch.allclose(logits(attached), logits(other), rtol=1e-4, atol=1e-3)
    alone = load(
        BASE, adapters=weighted(pair, {"a": 0.7}), combination_type=combination_type
    )  # of one there is nothing to mix
    assert error(alone, summed(plain, pair, {"a": 0.7})) < 1e-5


def test_ranks_that_linear_cannot_mix_are_told(made):
    pair = weighted(made, {"small": 1, "large": 1})
    message = r"combination_type='linear': .*same r(.|\n)*combination_type=.cat.\)"
    with pytest.raises(CourseError, match=message):
        load(BASE, adapters=pair, combination_type="linear")
    assert load(BASE, adapters=pair, combination_type="svd").parameters > 0


def test_a_mixture_is_saved_as_one_model(plain, made, tmp_path):
    adapters = weighted(made, {"small": 0.5, "root": -1})
    attached = attach(plain, adapters)
    assert (
        attached.generate(PROMPTS)
        == load(attached.save(tmp_path / "mixed")).generate(PROMPTS)
        != plain.generate(PROMPTS)
    )
    packed = load(BASE, quantization="nf4", adapters=adapters)
    with pytest.raises(
        Unsupported, match="adapters cannot be merged into quantized weights without rounding"
    ):
        packed.save(tmp_path / "packed")


# -- llama.cpp --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weight_of", [{"small": 0.5}, {"large": -0.5, "root": 0.5}, {"uneven": 1.5}], ids=str
)
def test_llama_cpp_writes_what_the_merged_model_writes(made, tmp_path, weight_of, plain):
    adapters = weighted(made, weight_of)
    saved = load(load(BASE, adapters=adapters).save(tmp_path / "merged"))
    expected = saved.generate(PROMPTS, max_output_length=24)
    in_llama_cpp = load(BASE, driver="llamacpp", adapters=adapters)
    assert in_llama_cpp.generate(PROMPTS, max_output_length=24) == expected
    assert expected != plain.generate(PROMPTS, max_output_length=24)


def test_llama_cpp_takes_gguf_files_of_both(made, tmp_path):
    base, file = (
        export(MODELS / BASE, tmp_path / "base.gguf"),
        export_adapter(made["small"], MODELS / BASE, tmp_path / "a.gguf"),
    )
    expected = load(BASE, driver="llamacpp", adapters=[made["small"]]).generate(PROMPTS, max_output_length=24)
    assert load(base, driver="llamacpp", adapters=[file]).generate(PROMPTS, max_output_length=24) == expected
    with pytest.raises(
        Unsupported, match=r"small is a PEFT folder, but the base model base\.gguf is a GGUF file"
    ):
        load(base, driver="llamacpp", adapters=[made["small"]])


def test_what_llama_cpp_cannot_hold_is_told(made, tmp_path):
    with pytest.raises(Unsupported, match=r"combination_type='svd': llama\.cpp can only add adapters up"):
        pair = weighted(made, {"small": 1, "large": 1})
        load(BASE, driver="llamacpp", adapters=pair, combination_type="svd")
    one = adapter(tmp_path / "one", r=2, target_modules=["q_proj", "up_proj"], alpha_pattern={"up_proj": 3})
    two = adapter(
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
    dora = adapter(tmp_path / "dora", r=2, target_modules=["q_proj"], use_dora=True)
    with pytest.raises(CourseError, match=r"dora: llama\.cpp does not support the tensor .*magnitude"):
        load(BASE, driver="llamacpp", adapters=[dora])
    (one / "adapter_config.json").write_text("{}")
    with pytest.raises(CourseError, match="one is not a LoRA adapter: 'lora_alpha'"):
        export_adapter(one, MODELS / BASE, tmp_path / "one.gguf")


# -- another base -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_matrices_of_another_shape_are_told_with_both_shapes(made, driver, monkeypatch):
    monkeypatch.setattr(PeftModel, "from_pretrained", None)  # it is not asked
    message = r"small does not fit this model: its A for model\.layers\.0\.self_attn\.q_proj has the shape "
    shapes = r"2 x 64, and the model's matrix 128 x 128(.|\n)*adapter of this base model"
    with pytest.raises(CourseError, match=message + shapes):
        load("haneul-1m", driver=driver, adapters=[made["small"]])


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_an_adapter_of_other_weights_is_refused_by_both_drivers(tmp_path, driver):
    folder = adapter(tmp_path / "mine", **KINDS["small"])
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


def test_an_adapter_of_a_model_that_keeps_its_matrices_turned_fits(tmp_path):
    """GPT-2's: three times as wide as they are high, and (inputs, outputs)."""
    config = GPT2Config(
        vocab_size=4096, n_embd=32, n_layer=1, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=2
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    AutoTokenizer.from_pretrained(catalog.verify_shipped(BASE)).save_pretrained(tmp_path / "gpt2")
    base = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2")
    folder = adapter(tmp_path / "turned", base=base, r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    merged = load(tmp_path / "gpt2", adapters=[folder])
    assert (logits(merged) - logits(load(tmp_path / "gpt2"))).abs().max() > 0.01


# -- the hub ----------------------------------------------------------------------------------------------


def test_an_adapter_of_the_hub_is_downloaded_and_is_no_model(made, online, offline):
    others = {"README.md": b"#", "optimizer.pt": b"\x80", "tokenizer.json": b"{}"}
    files = {path.name: path.read_bytes() for path in made["small"].iterdir()}
    hub = online({"course/small": files | others})
    for driver in ("huggingface", "llamacpp"):
        there, here = (
            load(BASE, driver=driver, adapters=[source]) for source in ("course/small", made["small"])
        )
        assert there.generate(PROMPTS) == here.generate(PROMPTS) and there.name == f"{BASE}+course/small"
    requested = {request.path.rpartition("/")[2] for request in hub.requests_for("/resolve/")}
    assert requested == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    with pytest.raises(
        CourseError, match=r'course/small is a LoRA adapter, .*(.|\n)*adapters=\["course/small"\]'
    ):
        load("course/small")
    offline()
    assert load(BASE, adapters=["course/small"]).generate(PROMPTS) == load(
        BASE, adapters=[made["small"]]
    ).generate(PROMPTS)
    for source, called in (
        ("course/small", "course/small"),
        ({"source": "course/small", "name": "mine"}, "mine"),
    ):
        with pytest.raises(CourseError, match=f"the adapter {called} does not fit this model"):
            load("haneul-1m", adapters=[source])
    with pytest.raises(CourseError, match=r"course/other .*is missing(.|\n)*course models pull course/other"):
        load(BASE, adapters=["course/other"])
