"""Every architecture, written by its own library with random weights: load, run, save, wrong files."""

import numpy as np
import pytest
from PIL import Image

from course_lib.models import load
from tests.vision import tiny, tiny_pipelines

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 27, 3), dtype=np.uint8))
PROMPTS = ["a red card", "a blue sign"]
RUNS = {
    "image-to-text": lambda model: model.caption([PICTURE], max_tokens=5),
    "image-upscale": lambda model: [np.asarray(model.upscale(PICTURE))],
    "image-generation": lambda model: [
        np.asarray(picture)
        for picture in model.draw(PROMPTS if model.kind.tokens else ["", ""], num_inference_steps=2)
    ],
    "face-embedding": lambda model: model.embed_faces([tiny.spots((5, 6))]),
}
STEPS = {"num_inference_steps": 2}
MODELS = {  # architecture -> task, writer
    "vit-gpt2": ("image-to-text", tiny.vit_gpt2),
    "blip": ("image-to-text", tiny.blip),
    "git": ("image-to-text", tiny.git),
    "flux": ("image-generation", tiny_pipelines.flux),
    "sdxl": ("image-generation", tiny_pipelines.sdxl),
    "hunyuan": ("image-generation", tiny_pipelines.hunyuan),
    "stable-diffusion": ("image-generation", tiny_pipelines.stable_diffusion),
    "deepfloyd-if": ("image-generation", tiny_pipelines.deepfloyd_if),
    "ddpm": ("image-generation", tiny_pipelines.ddpm),
    "ddim": ("image-generation", tiny_pipelines.ddim),
    "swin2sr": ("image-upscale", tiny.swin2sr),
    "esrgan": ("image-upscale", tiny.esrgan),
    "real-esrgan": ("image-upscale", tiny.real_esrgan),
    "swinir": ("image-upscale", tiny.swinir),
    "ldsr": ("image-upscale", tiny_pipelines.ldsr),
    "buffalo_l": ("face-embedding", tiny.buffalo_l),
    "vit": ("face-embedding", tiny.vit),
    "resnet": ("face-embedding", tiny.resnet),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_runs_and_saves(name, tmp_path):
    task, write = MODELS[name]
    write(tmp_path / "model")
    spec = {"task": task, "architecture": name, "params": STEPS if name == "ldsr" else {}}
    model = load(tmp_path / "model", **spec)
    results = RUNS[task](model)
    assert model.device == "cpu" and model.weight_bytes > 9_000
    if task == "image-generation" and model.kind.tokens:  # a side alone acts, too
        assert model.draw("a card", num_inference_steps=1, width=32).width == 32
        assert model.draw("a card", num_inference_steps=1, height=32).height == 32
    again = load(model.save(tmp_path / "saved"), **spec)
    assert all(np.array_equal(one, two) for one, two in zip(results, RUNS[task](again), strict=True))
