"""Adapters that are not sums of LoRA matrices: exact, or refused by name."""

import shutil
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.engine import Unsupported

BASE = MODELS / "haneul-300k"
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, "task_type": "CAUSAL_LM"}
TEXT = "The fee of the account"


def float32_base():
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)


def adapter(folder, config):
    """Save a random adapter of haneul-300k."""
    torch.manual_seed(0)
    model = get_peft_model(float32_base(), config)
    for name, parameter in model.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1.5
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    configs = {"lora": LoraConfig(**LORA), "dora": LoraConfig(**LORA, use_dora=True)}
    configs["prompt"] = PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    return {name: adapter(folder / name, config) for name, config in configs.items()}


def test_a_dora_adapter_alone_is_as_in_peft(folders):
    engine = load(BASE, adapters=[str(folders["dora"])])
    peft_model = PeftModel.from_pretrained(float32_base(), folders["dora"]).eval()
    ids = torch.tensor([engine.ids(TEXT)])
    with torch.inference_mode():
        expected = peft_model(ids).logits
        assert torch.allclose(engine.model(ids).logits, expected, atol=1e-4)
        assert not torch.allclose(load(BASE).model(ids).logits, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("names", "weight"), [(["dora"], 0), (["dora"], 0.5), (["dora", "lora"], 1), (["lora", "dora"], 1)]
)
def test_a_dora_adapter_cannot_be_weighted_or_combined(folders, names, weight):
    parts = [{"source": str(folders[name]), "weight": weight} for name in names]
    message = rf"dora has .*lora_magnitude_vector.* cannot be weighted.*weight={weight}.*one of {len(names)}"
    with pytest.raises(Unsupported, match=message):
        load(BASE, adapters=parts)


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_a_prompt_tuning_adapter_is_refused_with_its_kind(folders, driver):
    with pytest.raises(CourseError, match="prompt is an adapter of the kind PROMPT_TUNING") as raised:
        load(BASE, driver=driver, adapters=[str(folders["prompt"])])
    assert "PeftModel.from_pretrained" in raised.value.fix


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_an_adapter_in_a_pickle_is_refused_with_the_way_round(folders, driver, tmp_path):
    old = shutil.copytree(folders["lora"], tmp_path / "old")
    (old / "adapter_model.safetensors").rename(old / "adapter_model.bin")
    with pytest.raises(CourseError, match=r"adapter_model\.bin is a pickle") as raised:
        load(BASE, driver=driver, adapters=[str(old)])
    assert "save_pretrained" in raised.value.fix


@pytest.mark.parametrize(
    ("named", "warned"),
    [
        ("theirs/other-model", True),
        (str(BASE), False),
        ("me/Haneul-300K", False),
        ("C:\\x\\haneul-300k", False),
    ],
)
def test_an_adapter_that_names_another_base_is_told(folders, tmp_path, named, warned):
    folder = shutil.copytree(folders["lora"], tmp_path / "lora")
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace(str(BASE), named.replace("\\", "\\\\")))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(BASE, adapters=[str(folder)])
    told = [str(w.message) for w in caught if "was made for" in str(w.message)]
    assert told == ["the adapter lora was made for theirs/other-model, and is used on haneul-300k"] * warned
