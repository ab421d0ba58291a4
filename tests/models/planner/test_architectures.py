"""The list of architectures has the numbers of parameters and of windowed layers that torch builds."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.catalog.names import TUNED
from course_lib.models.planner.architectures import (
    FAMILIES,
    architectures,
    from_config,
    known_configs,
)
from course_lib.models.planner.lookup import architecture

KNOWN = architectures()
ALSO_READS_IMAGES = {"gemma-3-4b-it"}
WITH_POOLER = {"multilingual-e5-small"}  # which nothing uses, and the drivers do not load


def built(config):
    """A model of a configuration on torch's meta device, where weights have sizes and take no memory."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    encoder = config["model_type"] == "bert"
    if config["model_type"] == "exaone4" and not config.get("sliding_window"):
        config = config | {"layer_types": ["full_attention"] * config["num_hidden_layers"]}
    config = AutoConfig.for_model(**config)
    with torch.device("meta"):
        return (
            AutoModel.from_config(config, add_pooling_layer=False)
            if encoder
            else AutoModelForCausalLM.from_config(config)
        )


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", KNOWN)
def test_torch_builds_as_many_parameters(name):
    config = dict(known_configs()[name])
    parameters = config.pop("parameters")
    model = built(config)
    assert KNOWN[name].parameters == parameters == count(model)
    kinds = getattr(model.config, "layer_types", None)
    if kinds and KNOWN[name].window:
        assert KNOWN[name].windowed == sum(k != "full_attention" for k in kinds)


def test_the_well_known_are_there_and_agree_with_the_catalogue():
    assert len(KNOWN) >= 45
    assert {
        "Llama-3.2-1B",
        "Llama-3.2-3B",
        "Llama-3.1-8B",
        "Llama-3.3-70B",
        "Mistral-7B-v0.3",
        "Qwen2.5-0.5B",
        "Qwen2.5-72B",
        "gemma-2-9b",
        "gemma-3-27b",
        "Phi-3-mini-4k",
        "phi-4",
        "EXAONE-3.5-7.8B",
        "SOLAR-10.7B",
        "SmolLM2-135M",
        "gemma-3-270m",
        "Qwen3-8B",
        "Qwen3-30B-A3B",
        "Llama-4-Scout",
        "Llama-3-8B",
        "gemma-7b",
    } <= set(KNOWN)
    found = 0
    for entry in catalog.entries():
        if TUNED.sub("", entry.model) in KNOWN and entry.model not in ALSO_READS_IMAGES | WITH_POOLER:
            assert architecture(entry.model).parameters == entry.parameters, entry.model
            assert architecture(entry.model).context >= entry.context, entry.model
            found += 1
    assert found >= 20


sizes = st.fixed_dictionaries(
    {
        "model_type": st.sampled_from(sorted(FAMILIES)),
        "hidden_size": st.sampled_from([32, 96]),
        "intermediate_size": st.integers(1, 200),
        "num_hidden_layers": st.integers(1, 7),
        "num_key_value_heads": st.just(2),
        "num_attention_heads": st.sampled_from([2, 4]),
        "head_dim": st.sampled_from([8, 16]),
        "vocab_size": st.integers(10, 99),
        "tie_word_embeddings": st.booleans(),
        "max_position_embeddings": st.just(64),
        "sliding_window": st.sampled_from([None, 8]),
        "pad_token_id": st.just(0),
        "bos_token_id": st.just(1),
        "eos_token_id": st.just(2),
        "num_local_experts": st.integers(2, 8),
        "num_experts_per_tok": st.just(1),
        "moe_intermediate_size": st.integers(1, 200),
        "attention_chunk_size": st.just(8),
    }
)
ONLY_FOR = {
    "moe_intermediate_size": ("qwen3_moe",),
    "attention_chunk_size": ("llama4_text",),
    "num_local_experts": ("qwen3_moe", "llama4_text", "mixtral"),
    "num_experts_per_tok": ("qwen3_moe", "llama4_text", "mixtral"),
}


@settings(max_examples=60)
@given(sizes)
def test_any_sizes_are_counted_as_torch_builds_them(config):
    kind = config["model_type"]
    config = {k: v for k, v in config.items() if kind in ONLY_FOR.get(k, (kind,))}
    if config["model_type"] in ("bert", "phi3"):  # these say no head_dim
        config = {k: v for k, v in config.items() if k != "head_dim"}
    if config["model_type"] == "bert":
        config = config | {"num_key_value_heads": config["num_attention_heads"]}
    model = built(config)
    found = from_config("any", config)
    assert found.parameters == count(model)
    assert (
        from_config("any", model.config.to_dict() | {"sliding_window": config["sliding_window"]}).parameters
        == found.parameters
    )


def test_a_model_is_named_by_its_base_by_itself_or_by_its_folder(tmp_path):
    assert architecture("llama-3.1-8b-instruct") == architecture("Llama-3.1-8B") == KNOWN["Llama-3.1-8B"]
    assert (
        architecture("gemma-2-2b-it").name == "gemma-2-2b" and architecture(KNOWN["phi-4"]) is KNOWN["phi-4"]
    )
    for name in catalog.shipped():
        assert architecture(name) == architecture(MODELS / name) == architecture(str(MODELS / name))
        assert architecture(name).parameters == catalog.entry(name).parameters
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma2", "num_hidden_layers": 4}))
    assert architecture(tmp_path).windowed == 2, "transformers completes what the file leaves out"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba"}, r"the model type 'mamba'; the planner knows llama, "),
        ({"model_type": "gemma3"}, r"the model type 'gemma3'"),
        ([], r"no readable config\.json"),
        ({"model_type": "llama", "num_hidden_layers": "many"}, "transformers cannot read the config.json"),
        ({"model_type": "llama", "num_attention_heads": 0}, "cannot read|sizes that cannot be"),
        ({"model_type": "llama", "num_hidden_layers": 10**9}, "sizes that cannot be: layers=1000000000"),
        ({"model_type": "llama", "vocab_size": -5}, "sizes that cannot be"),
        ({"model_type": "llama", "text_config": 5}, r"no readable config\.json"),
        ({}, r"the model type None"),
        (
            {"model_type": "llama", "attention_bias": True},
            "attention_bias=True, which the planner does not support",
        ),
    ],
)
def test_what_is_not_known_is_refused(config, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CourseError, match=message):
        architecture(tmp_path)


def test_a_name_that_is_not_known_gets_those_that_are_alike(tmp_path):
    with pytest.raises(CourseError, match=r"not know a model 'Llama-3\.1-80B'\n.*Llama-3\.1-8B"):
        architecture("Llama-3.1-80B")
    for unknown in ("?", "deepseek-r1", "Llama-5-8B", "gemma-4-4b", "gpt-oss-20b", "owner/mistral-large"):
        with pytest.raises(
            CourseError, match="give the path of its folder"
        ):  # no proposal is not a wrong one
            architecture(unknown)
    for known in ("Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct"):
        assert architecture(known).name in known, "as on the hub"
    with pytest.raises(CourseError, match=r"no readable config\.json"):
        architecture(tmp_path)
    with pytest.raises(CourseError, match="has no field 'vocab_size'"):
        from_config("x", {k: v for k, v in known_configs()["phi-4"].items() if k != "vocab_size"})


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [("Qwen3-30B-A3B", 30.5, 3.3), ("Mixtral-8x7B", 46.7, 12.9), ("Llama-4-Scout", 107.8, 17.2)],
)
def test_a_mixture_of_experts_uses_a_part_of_its_weights_for_a_token(name, total, active):
    """The numbers of billions that the makers state (without Scout's part that reads images)."""
    assert KNOWN[name].parameters / 1e9 == pytest.approx(total, abs=0.05)
    assert KNOWN[name].active_parameters / 1e9 == pytest.approx(active, abs=0.06)
    assert KNOWN["Qwen3-32B"].active_parameters == KNOWN["Qwen3-32B"].parameters
