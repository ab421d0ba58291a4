"""Folders as their makers publish them, which differ from what a pipeline of a few parts writes."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.fields import Unsupported
from course_lib.models.files.pictures import part_weights, stored_type
from course_lib.models.schema import ModelSpec
from course_lib.vision.torch_model import stored_dtype
from tests.vision import tiny_pipelines


def test_stable_diffusion_is_loaded_with_its_safety_checker(tmp_path):
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    checker = tiny_pipelines.safety_checker(StableDiffusionSafetyChecker)
    tiny_pipelines.stable_diffusion(folder := tmp_path / "sd", **checker)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["safety_checker"] == ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]  # as published
    (folder / "model_index.json").write_text(json.dumps(index))
    weights, old = folder / "safety_checker" / "model.safetensors", "vision_model.vision_model."
    tensors = load_file(weights)
    tensors = {name.replace("vision_model.", old): tensor for name, tensor in tensors.items()}
    tensors[f"{old}embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, weights, metadata={"format": "pt"})
    model = load(folder, task="image-generation")
    assert model.draw("a red card", num_inference_steps=1).size == (64, 64)
    assert type(model.pipeline.safety_checker).__name__ == "StableDiffusionSafetyChecker"
    with pytest.raises(
        Unsupported, match=r"diffusers does not support params\.scale=4 with the task image-gen"
    ):
        model.draw("a red card", scale=4)
    held = model.pipeline.safety_checker.state_dict()["vision_model.embeddings.class_embedding"]
    assert torch.equal(held, tensors[f"{old}embeddings.class_embedding"])
    del tensors["concept_embeds"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CourseError, match=r"lacks 1 of the model's tensors, such as concept_embeds"):
        load(folder, task="image-generation")
    index["safety_checker"] = ["pipeline_utils", "DiffusionPipeline"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CourseError, match="a DiffusionPipeline of pipeline_utils"):
        load(folder, task="image-generation")


def test_deepfloyd_if_is_loaded_with_its_watermarker_and_without_its_safety_checker(tmp_path):
    from diffusers.pipelines.deepfloyd_if import IFSafetyChecker, IFWatermarker

    checker = tiny_pipelines.safety_checker(IFSafetyChecker) | {"watermarker": IFWatermarker()}
    tiny_pipelines.deepfloyd_if(folder := tmp_path / "if", **checker)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["watermarker"] == ["deepfloyd_if", "IFWatermarker"]
    model = load(folder, task="image-generation")
    assert model.draw("a red card", num_inference_steps=1, width=32, height=32).size == (32, 32)
    assert model.pipeline.safety_checker is None and model.pipeline.watermarker is not None


def test_on_a_gpu_weights_keep_the_type_in_which_they_are_stored(tmp_path):
    file = tmp_path / "x.safetensors"
    spec = ModelSpec.parse({"source": "./x", "task": "image-upscale", "driver": "spandrel"})
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        save_file({"a": torch.ones(2, dtype=dtype)}, file)
        assert stored_dtype(spec, "cuda", file) is dtype and stored_dtype(spec, "cpu", file) is torch.float32
    (tmp_path / "unet").mkdir()
    save_file({"a": torch.ones(2).half()}, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    assert stored_type(tmp_path) == "f16"


def test_a_folder_with_several_files_of_weights_is_refused(tmp_path):
    for name in ("x2", "x4"):
        save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(
        CourseError, match=r"has 2 \.safetensors files: x2\.safetensors, x4\.safetens"
    ) as caught:
        load(tmp_path, task="image-upscale", driver="spandrel")
    assert f'load("{tmp_path / "x2.safetensors"}", ...)' in caught.value.fix


def test_an_index_that_lists_no_files_is_refused(tmp_path):
    name = "diffusion_pytorch_model.safetensors.index.json"
    (tmp_path / name).write_text(json.dumps({"weight_map": {"a": ["x.safetensors"]}}))
    with pytest.raises(CourseError, match="does not list files"):
        part_weights(tmp_path)


def test_prompts_are_counted_by_each_encoder_that_would_cut_them(tmp_path):
    tiny_pipelines.hunyuan(tmp_path / "hunyuan")
    model = load(tmp_path / "hunyuan", task="image-generation")
    with pytest.raises(InputError, match=r"prompts\[0\] has 82 tokens; hunyuan reads 77"):
        model.draw(["a " * 80])


def test_each_picture_that_ldsr_enlarges_has_noise_of_its_own(tmp_path):
    tiny_pipelines.ldsr(tmp_path / "ldsr")
    model = load(
        tmp_path / "ldsr", task="image-upscale", driver="diffusers", params={"num_inference_steps": 1}
    )
    pictures = model.upscale([Image.new("RGB", (8, 8), "red")] * 5)
    assert len({picture.tobytes() for picture in pictures}) == 5
