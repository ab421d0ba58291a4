"""Models in the formats of ncnn and dlib: a tiny one of ncnn's, and the real ones where they were pulled."""

import struct
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.drivers.fields import Unsupported
from course_lib.models.planner.memory import bytes_to_load
from course_lib.models.schema import ModelSpec

LAYERS = """7767517
3 3
Input data 0 1 data
Convolution blur 1 1 data wide 0={0} 1=3 4=1 5=1 6={1}
PixelShuffle up 1 1 wide output 0={2}
"""
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (110, 205, 3), dtype=np.uint8))


def write_upscaler(folder, scale=4, channels=3):
    """Write a model of ncnn that enlarges the mean of 3 x 3 pixels."""
    folder.mkdir(exist_ok=True)
    outputs = channels * scale**2
    kernel = np.zeros((outputs, 3, 3, 3), np.float32)
    for output in range(outputs):
        kernel[output, output // scale**2] = 1 / 9
    (folder / "toy.param").write_text(LAYERS.format(outputs, kernel.size, scale))
    bias = np.zeros(outputs, np.float32)
    (folder / "toy.bin").write_bytes(struct.pack("<I", 0) + kernel.tobytes() + bias.tobytes())
    return folder


def upscaler(folder, **changes):
    pytest.importorskip("ncnn", reason="the extra `vision` is not installed")
    return load(folder, task="image-upscale", driver="ncnn", **changes)


def test_ncnn_upscales_in_tiles_as_in_one_piece(tmp_path):
    model = upscaler(write_upscaler(tmp_path), architecture="real-esrgan", params={"scale": 4})
    assert (model.scale, model.parameters, model.device) == (4, 48 * 28, "cpu")
    enlarged = model.upscale(NOISE)
    assert enlarged.size == (820, 440) and model.upscale([]) == []
    around = np.pad(np.asarray(NOISE, float), ((1, 1), (1, 1), (0, 0)), "edge")
    means = sum(around[y : y + 110, x : x + 205] for y in range(3) for x in range(3)) / 9
    expected = means.repeat(4, 0).repeat(4, 1)
    assert np.abs(np.asarray(enlarged) - expected).max() <= 0.51, "the mean of 9 pixels, at seams too"
    dot = model.upscale(Image.new("RGB", (1, 1), "red"))
    assert dot.size == (4, 4) and np.ptp(np.asarray(dot), (0, 1)).max() == 0
    model.close()
    with pytest.raises(CourseError, match="closed"):
        model.upscale(NOISE)


def test_memory_grows_by_the_bytes_of_the_enlarged_picture_alone(tmp_path):
    model, picture = upscaler(write_upscaler(tmp_path)), Image.new("RGB", (400, 400))
    tracemalloc.start()
    try:
        model.upscale(picture)
        assert (
            tracemalloc.get_traced_memory()[1] < 4 * 1600 * 1600 * 3
        )  # with 32 bits per value, 4 of each copy
    finally:
        tracemalloc.stop()


def test_the_manager_counts_the_files_of_a_model_of_ncnn(tmp_path, manager):
    pytest.importorskip("ncnn", reason="the extra `vision` is not installed")
    folder = write_upscaler(tmp_path)
    spec = ModelSpec.parse({"source": str(folder), "task": "image-upscale", "driver": "ncnn"})
    assert bytes_to_load(spec) == sum(path.stat().st_size for path in folder.iterdir())
    with manager.use(spec) as model:
        assert model.scale == 4 and manager.loaded_models()[0].driver == "ncnn"


def test_ncnn_finds_the_factor_and_refuses_another(tmp_path):
    folder = write_upscaler(tmp_path, scale=2)
    assert upscaler(folder).scale == 2
    with pytest.raises(CourseError, match=r"scale is 4, and .* enlarges 2 times"):
        upscaler(folder, params={"scale": 4})
    for option in ({"precision": "float16"}, {"device": "cpu"}, {"batch_size": 2}):
        with pytest.raises(Unsupported, match=next(iter(option))):
            upscaler(folder, **option)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "toy.bin").write_bytes(b"\0" * 99), "cannot read toy.param with toy.bin"),
        (lambda folder: (folder / "toy.param").write_text("hello"), "cannot read toy.param with toy.bin"),
        (lambda folder: (folder / "toy.param").write_text(""), "cannot read toy.param with toy.bin"),
        (lambda folder: (folder / "toy.bin").unlink(), r"needs one file \*\.bin and has none"),
        (lambda folder: (folder / "b.param").touch(), r"one file \*\.param and has b\.param, toy\.param"),
        (lambda folder: write_upscaler(folder, channels=1), "none that enlarges pictures"),
    ],
)
def test_files_that_are_no_upscaler_are_refused(damage, message, tmp_path):
    damage(write_upscaler(tmp_path))
    with pytest.raises(CourseError, match=message):
        upscaler(tmp_path)
    with pytest.raises(CourseError, match="is not a folder"):
        upscaler(tmp_path / "none")


@pytest.mark.parametrize(("driver", "task"), [("ncnn", "image-upscale"), ("dlib", "face-embedding")])
def test_a_driver_that_is_not_installed_is_named_with_its_package(driver, task, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(CourseError, match=f"the driver {driver} is not installed.*\n.*pip install {driver}"):
        load(write_upscaler(tmp_path), task=task, driver=driver)


def test_files_that_are_not_dlibs_are_refused(tmp_path):
    pytest.importorskip("dlib", reason="the extra `vision` is not installed")
    (tmp_path / "resnet.dat").write_bytes(b"not a network" * 100)
    (tmp_path / "5_landmarks.dat").write_bytes(b"")
    with pytest.raises(CourseError, match=r"dlib cannot read resnet\.dat"):
        load(tmp_path, task="face-embedding", driver="dlib")


def test_real_esrgan_enlarges_a_picture_and_keeps_its_colours(realesrgan, monkeypatch):
    pytest.importorskip("ncnn", reason="the extra `vision` is not installed")
    monkeypatch.setenv("COURSE_MODELS_DIR", str(realesrgan.parent))
    with load("realesrgan-x4plus") as model:
        entry = catalog.entry("realesrgan-x4plus")
        assert (model.scale, model.parameters) == (4, entry.parameters)
        picture = Image.new("RGB", (16, 16), (200, 60, 60))
        picture.paste((240, 240, 240), (0, 0, 8, 16))
        enlarged = np.asarray(model.upscale(picture), int)
    assert enlarged.shape == (64, 64, 3)
    small = enlarged.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(small - np.asarray(picture)).mean() < 8  # 6.1 measured


def test_dlib_embeds_one_face_and_refuses_none_and_two(dlib_faces, monkeypatch):
    """NASA's portrait of Eileen Collins, in the public domain, comes with scikit-image."""
    pytest.importorskip("dlib", reason="the extra `vision` is not installed")
    data = pytest.importorskip("skimage.data", reason="the extra `vision` is not installed")
    monkeypatch.setenv("COURSE_MODELS_DIR", str(dlib_faces.parent))
    portrait = Image.fromarray(data.astronaut())
    with load("dlib-face-recognition") as model:
        vectors = model.embed_faces([portrait, portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
        assert vectors.shape == (2, 128) and vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1) and vectors[0] @ vectors[1] > 0.97
        alone = model.embed_faces(portrait.resize((256, 256)))
        assert vectors[0] @ alone[0] > 0.97, "half as large"
        with pytest.raises(CourseError, match=r"images\[1\], .* 64 x 48 pixels, has no face that dlib"):
            model.embed_faces([portrait, Image.new("RGB", (64, 48))])
        two = Image.new("RGB", (1024, 512))
        two.paste(portrait, (0, 0))
        two.paste(portrait, (512, 0))
        with pytest.raises(CourseError, match="1024 x 512 pixels, has 2 faces that dlib finds"):
            model.embed_faces(two)
