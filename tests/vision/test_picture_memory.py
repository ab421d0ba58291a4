"""Pictures that would not fit into the memory: refused with the sum, before anything is computed."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.vision import working_memory
from tests.vision import tiny, tiny_pipelines

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 27, 3), dtype=np.uint8))


def free(monkeypatch, size):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))


def test_drawn_pixels_that_are_too_many_for_the_memory_are_refused(tmp_path, monkeypatch):
    tiny_pipelines.sdxl(tmp_path / "sdxl")
    painter = load(tmp_path / "sdxl", task="image-generation")
    free(monkeypatch, 2**30)
    with pytest.raises(
        CourseError,
        match=r"sdxl needs more than 8\.0 GiB for 2 x 8192 x 8192 pixels, 64 bytes each in one la",
    ) as caught:
        painter.draw(["a card"] * 2, width=8192, height=8192)
    assert caught.value.fix == "choose at most 8,388,608 pixels for each picture"  # 2**30 / 2 / 64
    free(monkeypatch, 2**24)
    with pytest.raises(CourseError, match="1 x 8192 x 64 pixels"):  # a side alone, with the pipeline's other
        painter.draw("a card", width=8192)


@pytest.mark.parametrize(
    ("write", "size"),
    [
        (tiny_pipelines.flux, (1024, 1024)),
        (tiny_pipelines.sdxl, (64, 64)),
        (tiny_pipelines.hunyuan, (64, 64)),
        (tiny_pipelines.stable_diffusion, (64, 64)),
        (tiny_pipelines.deepfloyd_if, (16, 16)),
        (tiny_pipelines.ddpm, (16, 16)),
    ],
)
def test_a_pipelines_own_size_is_checked_too(write, size, tmp_path, monkeypatch):
    write(tmp_path / "model")
    model = load(tmp_path / "model", task="image-generation")
    prompt = "a card" if model.kind.tokens else ""
    if size != (1024, 1024):  # which takes seconds
        assert model.draw(prompt, num_inference_steps=1).size == size
    free(monkeypatch, 2**12)
    with pytest.raises(
        CourseError, match=rf"GiB for 1 x {size[0]} x {size[1]} pixels, \d+ bytes each in one"
    ):
        model.draw(prompt)


def test_a_picture_that_ldsr_cannot_hold_enlarged_is_refused(tmp_path, monkeypatch):
    tiny_pipelines.ldsr(tmp_path / "ldsr")
    model = load(tmp_path / "ldsr", task="image-upscale", driver="diffusers")
    free(monkeypatch, 2**30)
    with pytest.raises(
        CourseError, match=r"ldsr needs more than 8\.6 GiB for 1 x 12032 x 12032 pixels, 64 bytes each in one"
    ):
        model.upscale(Image.new("RGB", (3000, 3000)))  # 3008 x 3008 with its edge, enlarged 4 times


@pytest.mark.parametrize("write", [tiny.swin2sr, tiny.esrgan])
def test_a_picture_that_is_too_large_for_the_memory_is_refused(write, tmp_path, monkeypatch):
    write(tmp_path / "model")
    driver = "huggingface" if write is tiny.swin2sr else "spandrel"
    model = load(tmp_path / "model", task="image-upscale", driver=driver)
    expected = np.asarray(model.upscale(PICTURE))
    monkeypatch.setattr(working_memory, "LARGE", 0)
    assert np.array_equal(np.asarray(model.upscale(PICTURE)), expected)
    free(monkeypatch, 2**30)
    with pytest.raises(
        CourseError, match=r"GiB for 1 x 3000 x 3000 pixels, [\d,]+ bytes each in one layer, and 1\.0 GiB are"
    ):
        model.upscale(Image.new("RGB", (3000, 3000)))
