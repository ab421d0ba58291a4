"""Every field with every task and driver of pictures: it has an effect on what comes out, or is refused."""

import functools

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import capability_table
from course_lib.models.drivers.engine import Unsupported
from tests.models.test_fields import VALUES, cells
from tests.vision import tiny, tiny_pipelines

FACE = tiny.spots((5, 6))
SMALL = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 9, 3), dtype=np.uint8))
COLUMNS = {  # "task, driver" -> architecture, writer, a call
    "image-to-text, huggingface": ("vit-gpt2", tiny.vit_gpt2, lambda model, *images: model.caption(*images)),
    "image-generation, diffusers": (
        "sdxl",
        tiny_pipelines.sdxl,
        lambda model, *prompts: model.draw(*prompts),
    ),
    "image-upscale, huggingface": ("swin2sr", tiny.swin2sr, lambda model, *images: model.upscale(*images)),
    "image-upscale, spandrel": ("esrgan", tiny.esrgan, lambda model, *images: model.upscale(*images)),
    "image-upscale, diffusers": ("ldsr", tiny_pipelines.ldsr, lambda model, *images: model.upscale(*images)),
    "face-embedding, huggingface": ("vit", tiny.vit, lambda model, *images: model.embed_faces(*images)),
    "face-embedding, onnxruntime": (
        "buffalo_l",
        tiny.buffalo_l,
        lambda model, *images: model.embed_faces(*images),
    ),
}
FEW = {"num_inference_steps": 2}
# Fields of the packaged models, by ncnn and dlib, have an effect in test_packaged_models.py.
GRID = {cell: value for cell, value in capability_table.picture_fields().items() if cell[0] in COLUMNS}


@pytest.mark.parametrize(("column", "field"), cells(capability_table.picture_fields(), False))
def test_a_field_without_an_effect_is_refused_by_name(column, field):
    task, driver = column.split(", ")
    parent, _, name = field.rpartition(".")
    value = "int8" if field == "quantization" else VALUES[field]
    spec = {parent: {name: value}} if parent else {field: value}
    if field == "generation.min_output_length":
        spec["generation"]["max_output_length"] = 8
    with pytest.raises(Unsupported, match=rf"{field}=|generation\.\w+ is set"):
        load({"source": "./nowhere", "task": task, "driver": driver} | spec)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Load the model of a column with one field set."""

    @functools.cache
    def folder(column):
        COLUMNS[column][1](path := tmp_path_factory.mktemp("pictures") / "model")
        return path

    def load_with(column, **spec):
        task, driver = column.split(", ")
        few = FEW if driver == "diffusers" else {}
        params = few | spec.pop("params", {})
        return load({"source": str(folder(column)), "task": task, "driver": driver, "params": params} | spec)

    return load_with


@pytest.mark.parametrize(("column", "field"), cells(GRID, True))
def test_a_field_has_an_effect_on_what_comes_out(column, field, make, tmp_path):
    call = functools.partial(COLUMNS[column][2])
    EFFECTS[field](column, functools.partial(make, column), call, tmp_path)


def given(column):
    return "a red card" if "generation" in column else FACE if column.startswith("face") else SMALL


def same(one, two):
    return np.array_equal(np.asarray(one), np.asarray(two))


def device(column, make, call, _):
    assert make(device="cpu").device == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(CourseError, match="device='cuda'"):
            make(device="cuda")


def precision(column, make, call, _):
    half = make(precision="bfloat16")
    assert half.weight_bytes == pytest.approx(make().weight_bytes / 2, rel=0.1)
    call(half, given(column))


def architecture(column, make, call, _):
    others = {"vit-gpt2": "blip", "sdxl": "flux", "esrgan": "swinir", "vit": "resnet"}
    right = COLUMNS[column][0]
    make(architecture=right)
    with pytest.raises(CourseError, match="architecture: "):
        make(architecture=others.get(right, "vit-gpt2"))


def batch_size(column, make, call, _):
    model, sizes = make(batch_size=2), []
    name = next(name for name in ("_caption", "_draw", "_upscale", "_embed_faces") if hasattr(model, name))
    run = getattr(model, name)
    setattr(model, name, lambda batch, *options: sizes.append(len(batch)) or run(batch, *options))
    three = call(model, [given(column)] * 3)
    assert sizes == [2, 1] and len(three) == 3


def image(column, make, call, folder):
    given(column).save(folder / "picture.png")
    assert same(call(make(image=folder / "picture.png")), call(make(), given(column)))
    with pytest.raises(CourseError, match="no picture to read"):
        call(make())


def prompt(column, make, call, _):
    assert same(call(make(prompt="a blue sign")), call(make(), "a blue sign"))


def side(name, place):
    def check(column, make, call, _):
        assert call(make(params={name: 32}), given(column)).size[place] == 32

    return check


def changes(name, value):
    def check(column, make, call, _):
        model = make(params={name: value})
        assert same(call(model, given(column)), call(model, given(column)))
        assert not same(call(model, given(column)), call(make(), given(column)))

    return check


def scale(column, make, call, _):
    factor = make().scale
    assert make(params={"scale": factor}).scale == factor
    with pytest.raises(CourseError, match=f"scale is 7, and model enlarges {factor} times"):
        make(params={"scale": 7})


def max_output_length(column, make, call, _):
    short = call(make(generation={"max_output_length": 2}), SMALL)
    assert len(short.split()) <= 2 < len(call(make(), SMALL).split())


EFFECTS = {
    "device": device,
    "precision": precision,
    "architecture": architecture,
    "batch_size": batch_size,
    "image": image,
    "prompt": prompt,
    "params.width": side("width", 0),
    "params.height": side("height", 1),
    "params.num_inference_steps": changes("num_inference_steps", 3),
    "params.guidance": changes("guidance", 9.0),
    "params.seed": changes("seed", 5),
    "params.scale": scale,
    "generation.max_output_length": max_output_length,
}


def test_a_picture_of_a_batch_does_not_depend_on_the_others(make):
    model = make("image-generation, diffusers")
    alone = make("image-generation, diffusers", batch_size=1)
    both = model.draw(["a red card", "a blue sign"], seed=3)
    # A product of matrices rounds differently with the number of rows: one step of 255 at most.
    for picture, other in (
        (both[1], model.draw("a blue sign", seed=4)),
        (both[0], alone.draw("a red card", seed=3)),
    ):
        assert np.abs(np.asarray(picture, int) - np.asarray(other, int)).max() <= 1
