"""Picture models from the hub: a pipeline's parts, ONNX files, one file of weights; and what they weigh."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from course_lib.errors import CourseError
from course_lib.models import ModelManager, load
from tests.vision import tiny, tiny_pipelines
from tests.vision.test_picture_models import MODELS

pytest_plugins = ["tests.models.hub_fixtures"]


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_files_of_a_model_are_downloaded_and_no_others(online, tmp_path, offline):
    tiny_pipelines.ddpm(tmp_path / "ddpm")
    tiny.buffalo_l(tmp_path / "buffalo_l")
    tiny.esrgan(tmp_path / "esrgan")
    more = {
        "unet/diffusion_pytorch_model.fp16.safetensors": b"x",
        "all.safetensors": b"x",
        "unet/x.bin": b"x",
    }
    pickled = {"model_index.json": b"{}", "unet/diffusion_pytorch_model.bin": b"x"}
    online(
        {
            "o/ddpm": contents(tmp_path / "ddpm") | more,
            "o/faces": contents(tmp_path / "buffalo_l"),
            "o/x4": contents(tmp_path / "esrgan"),
            "o/old": pickled,
        }
    )
    single = {"source": {"type": "huggingface", "repository": "o/x4", "filename": "x4.safetensors"}}
    specs = [
        {"source": "o/ddpm", "task": "image-generation"},
        {"source": "o/faces", "task": "face-embedding", "architecture": "buffalo_l"},
        single | {"task": "image-upscale", "architecture": "esrgan"},
    ]
    models = [load(spec) for spec in specs]
    with pytest.raises(CourseError, match="is a pickle"):
        load("o/old", task="image-generation")
    cached = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink() or path.is_file()}
    assert not cached & {"diffusion_pytorch_model.fp16.safetensors", "all.safetensors", "x.bin"}
    offline()
    assert [load(spec).weight_bytes for spec in specs] == [model.weight_bytes for model in models]


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_loaded_from_the_hub(name, online, tmp_path):
    task, write = MODELS[name]
    write(tmp_path / "model")
    files = contents(tmp_path / "model")
    online({"o/model": files})
    source = "o/model"
    if len(files) == 1:
        source = {"type": "huggingface", "repository": source, "filename": next(iter(files))}
    model = load({"source": source, "task": task, "architecture": name})
    assert model.weight_bytes == load(tmp_path / "model", task=task, architecture=name).weight_bytes


def test_two_calls_at_once_draw_what_one_would(tmp_path):
    tiny_pipelines.sdxl(tmp_path / "sdxl")
    painter = load(tmp_path / "sdxl", task="image-generation")
    steps = [2, 5, 2, 5]
    alone = [np.asarray(painter.draw("a card", num_inference_steps=n)) for n in steps]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: np.asarray(painter.draw("a card", num_inference_steps=n)), steps))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_the_default_settings_are_those_of_pictures_too(tmp_path, monkeypatch):
    tiny_pipelines.ddpm(tmp_path / "ddpm")
    tiny.buffalo_l(tmp_path / "faces")
    monkeypatch.setenv("MODEL_DTYPE", "bfloat16")
    with ModelManager().use({"source": str(tmp_path / "ddpm"), "task": "image-generation"}) as model:
        assert model.spec.precision == "bfloat16" and model.weight_bytes == 2 * model.parameters
    faces = {"source": str(tmp_path / "faces"), "task": "face-embedding", "architecture": "buffalo_l"}
    with ModelManager().use(faces) as model:
        assert model.spec.precision == "auto"


def test_the_manager_knows_their_bytes_before_it_loads_them(tmp_path):
    tiny_pipelines.ddpm(tmp_path / "ddpm")
    spec = {"source": str(tmp_path / "ddpm"), "task": "image-generation"}
    with ModelManager(byte_limit=10**6).use(spec) as model:
        assert np.asarray(model.draw("", num_inference_steps=1)).shape == (16, 16, 3)
        needed = model.weight_bytes
    with pytest.raises(CourseError, match="over the limit"), ModelManager(byte_limit=needed - 1).use(spec):
        pass
