"""Every architecture, written by its own library with random weights: load, run, save, wrong files."""

import numpy as np
import pytest
from PIL import Image

from course_lib.models import load
from tests.vision import tiny

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 27, 3), dtype=np.uint8))
PROMPTS = ["a red card", "a blue sign"]
RUNS = {
    "image-to-text": lambda model: model.caption([PICTURE], max_tokens=5),
    "image-upscale": lambda model: [np.asarray(model.upscale(PICTURE))],
    "image-generation": lambda model: [np.asarray(p) for p in model.draw(PROMPTS, num_inference_steps=2)],
    "face-embedding": lambda model: model.embed_faces([PICTURE]),
}
MODELS = {  # name -> task, writer
    "vit-gpt2": ("image-to-text", tiny.vit_gpt2),
    "swin2sr": ("image-upscale", tiny.swin2sr),
    "vit": ("face-embedding", tiny.vit),
    "pixel-diffusion": ("image-generation", tiny.pixel_diffusion),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_runs_and_saves(name, tmp_path):
    task, write = MODELS[name]
    write(tmp_path / "model")
    model = load(tmp_path / "model", task=task, architecture=name)
    results = RUNS[task](model)
    assert model.parameters > 0 and model.weight_bytes == 4 * model.parameters
    again = load(model.save(tmp_path / "saved"), task=task)
    assert all(np.array_equal(one, two) for one, two in zip(results, RUNS[task](again), strict=True))
