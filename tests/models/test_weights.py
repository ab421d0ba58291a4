"""The weights in a folder are compared with its config.json before anything is loaded or exported."""

import json

import pytest
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models.files.headers import weight_paths
from course_lib.models.files.weights import check_weights

SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)


@pytest.fixture
def folder(tmp_path):
    LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)).save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def reconfigure(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", sorted(p.parent.name for p in MODELS.glob("haneul*/config.json")))
def test_our_own_models_fit_their_configurations(name):
    config = json.loads((MODELS / name / "config.json").read_text())
    auto_class = {
        "LlamaForCausalLM": AutoModelForCausalLM,
        "VisionEncoderDecoderModel": AutoModelForImageTextToText,
    }
    check_weights(MODELS / name, auto_class.get(config["architectures"][0], AutoModel))


DIFFERENCES = {
    r"m lacks 1 of the model's tensors, such as lm_head\.weight": {"tie_word_embeddings": False},
    r"m lacks 9 .* such as model\.layers\.2\.": {"num_hidden_layers": 3},
    r"m has 9 tensors that .* does not describe, such as model\.layers\.1\.": {"num_hidden_layers": 1},
    r"m lacks 8 .* such as model\.layers\.0\.self_attn\.k_proj\.bias": {"attention_bias": True},
    r"down_proj\.weight has the shape \(32, 32\); .* is \(32, 64\)": {"intermediate_size": 64},
    r"embed_tokens\.weight has the shape \(64, 32\); .* is \(65, 32\)": {"vocab_size": 65},
}


@pytest.mark.parametrize("message", DIFFERENCES)
def test_a_configuration_of_other_weights_is_refused(message, folder):
    check_weights(folder, AutoModelForCausalLM)
    reconfigure(folder, **DIFFERENCES[message])
    with pytest.raises(CourseError, match=message):
        check_weights(folder, AutoModelForCausalLM)


def test_tensors_that_the_configuration_does_not_know_are_refused_by_name(folder):
    norm = load_file(folder / "model.safetensors")["model.norm.weight"]
    for name in ("model.layers.0.self_attn.q_proj.bias", "adapter.weight"):
        change_tensors(folder, lambda tensors, name=name: tensors.update({name: norm.clone()}))
        with pytest.raises(
            CourseError, match=f"1 tensors that its config.json does not describe, such as {name}"
        ):
            check_weights(folder, AutoModelForCausalLM)
        change_tensors(folder, lambda tensors, name=name: tensors.pop(name))


def test_a_tensor_that_an_adapter_replaces_may_be_missing(folder):
    change_tensors(folder, lambda tensors: tensors.pop("model.norm.weight"))
    check_weights(folder, AutoModelForCausalLM, replaced=["model.norm.weight"])
    with pytest.raises(CourseError, match=r"such as model\.norm\.weight"):
        check_weights(folder, AutoModelForCausalLM)


def test_a_base_model_may_lie_in_a_file_with_a_head_but_not_with_more_layers(tmp_path):
    BertForMaskedLM(BertConfig(**SIZES)).save_pretrained(tmp_path)
    check_weights(tmp_path, AutoModel, replaced=["pooler.dense.weight", "pooler.dense.bias"])
    reconfigure(tmp_path, num_hidden_layers=1)
    with pytest.raises(CourseError, match=r"16 tensors .* such as bert\.encoder\.layer\.1\."):
        check_weights(tmp_path, AutoModel, replaced=["pooler.dense.weight", "pooler.dense.bias"])


def test_only_the_shards_that_the_index_names_are_read(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    shards = [path.name for path in weight_paths(folder)]
    assert len(shards) > 2
    for stale in ("consolidated.safetensors", "model-00001-of-00002.safetensors"):
        save_file(load_file(folder / shards[0]), folder / stale)
    assert [path.name for path in weight_paths(folder)] == shards
    check_weights(folder, AutoModelForCausalLM)
    index = folder / "model.safetensors.index.json"
    for names in ({"a": "../x.safetensors"}, ["x"]):
        index.write_text(json.dumps({"weight_map": names}))
        with pytest.raises(CourseError, match=r"model\.safetensors\.index\.json of m does not list files"):
            weight_paths(folder)


def test_quantized_weights_have_other_shapes_and_are_not_checked(folder):
    reconfigure(
        folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}, vocab_size=65
    )
    check_weights(folder, AutoModelForCausalLM)
