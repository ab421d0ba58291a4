"""Files of every architecture that are cut off, of another model, or whose weights are no numbers."""

import json
import re

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from course_lib.errors import CourseError
from course_lib.models import load
from tests.vision import tiny, tiny_pipelines
from tests.vision.test_picture_models import MODELS

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 27, 3), dtype=np.uint8))


def with_tensors(path, change):
    """The bytes of a file of weights with its tensors changed."""
    changed = path.with_suffix(".changed")
    save_file(change(load_file(path)), changed, metadata={"format": "pt"})
    content = changed.read_bytes()
    changed.unlink()
    return content


def class_of(path):
    """The class whose weights a file holds, by the config.json beside it; else the file itself."""
    config = path.with_name("config.json")
    settings = json.loads(config.read_text()) if config.is_file() else {}
    return settings.get("_class_name") or settings.get("architectures", [path])[0]


def damages(path, headless, known):
    """name -> the content of a damaged file of weights.

    headless: its model may have a head beside it. known: whether single tensors were damaged in a file of its
    class before: they are compared by the same code wherever the class stands.
    """
    whole = path.read_bytes()
    yield "half", whole[: len(whole) // 2]
    yield "no weights", b"<html>no</html>"
    yield "a pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    if path.suffix == ".onnx":
        yield "empty", b""
        model = onnx.load_model_from_string(whole)
        del model.graph.output[:], model.graph.node[:]
        yield "another model", model.SerializeToString()
        return
    yield "one byte less", whole[:-1]
    yield "another model", with_tensors(path, lambda _: {"x": torch.ones(1)})
    if known:
        return
    largest = max(load_file(path).items(), key=lambda item: item[1].numel())[0]
    yield "a missing tensor", with_tensors(path, lambda t: {k: v for k, v in t.items() if k != largest})
    yield "another shape", with_tensors(path, lambda t: t | {largest: torch.cat([t[largest]] * 2)})
    yield "whole numbers", with_tensors(path, lambda t: t | {largest: t[largest].to(torch.int8)})
    if not headless:
        yield "an unknown tensor", with_tensors(path, lambda t: t | {"unknown.weight": torch.ones(1)})


@pytest.fixture(scope="module")
def damaged_classes():
    return set()


@pytest.mark.parametrize("name", MODELS)
def test_damaged_weights_are_refused(name, tmp_path, damaged_classes):
    task, write = MODELS[name]
    write(tmp_path / "model")
    files = [p for p in sorted((tmp_path / "model").rglob("*")) if p.suffix in (".safetensors", ".onnx")]
    assert files
    for path in files:
        whole = path.read_bytes()
        headless = name in ("vit", "resnet") or path.parent.name.startswith("text_encoder")
        known = class_of(path) in damaged_classes
        damaged_classes.add(class_of(path))
        for damage, content in list(damages(path, headless, known)):
            path.write_bytes(content)
            with pytest.raises(CourseError) as caught:
                load(tmp_path / "model", task=task, architecture=name)
            assert caught.value.fix, damage
        path.write_bytes(whole)
    assert load(tmp_path / "model", task=task, architecture=name).spec.task == task


def spoiled(write, folder, part=""):
    """The folder of a model, one file of which has NaN in place of its weights."""
    write(folder)
    path = next((folder / part).glob("*.safetensors"))
    path.write_bytes(with_tensors(path, lambda t: {k: torch.full_like(v, torch.nan) for k, v in t.items()}))
    return folder


@pytest.mark.parametrize("write", [tiny.vit_gpt2, tiny.blip, tiny.git])
def test_a_caption_of_no_numbers_is_refused(write, tmp_path):
    captioner = load(spoiled(write, tmp_path / "model"), task="image-to-text")
    with pytest.raises(CourseError, match=r"no finite numbers.*\n.*precision=\"float32\""):
        captioner.caption(PICTURE)


@pytest.mark.parametrize("write", [tiny.swin2sr, tiny.real_esrgan])
def test_an_enlarged_picture_of_no_numbers_is_refused(write, tmp_path):
    driver = "huggingface" if write is tiny.swin2sr else "spandrel"
    upscaler = load(spoiled(write, tmp_path / "model"), task="image-upscale", driver=driver)
    with pytest.raises(CourseError, match="no finite numbers"):
        upscaler.upscale(PICTURE)


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (tiny_pipelines.stable_diffusion, "vae"),  # as that of SDXL overflows in float16
        (tiny_pipelines.deepfloyd_if, "unet"),
        (tiny_pipelines.ddpm, "unet"),
    ],
)
def test_a_drawn_picture_of_no_numbers_is_refused(write, part, tmp_path):
    painter = load(spoiled(write, tmp_path / "model", part), task="image-generation")
    with pytest.raises(CourseError, match="no finite numbers"):
        painter.draw("a card" if painter.kind.tokens else "", num_inference_steps=1)


SETTINGS = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, content) for name in SETTINGS for content in ("null", "[]", "")),
        ("config.json", '{"model_type": "git", "hidden_size": "x"}'),
        ("tokenizer.json", '{"added_tokens": 3}'),
    ],
)
def test_damaged_settings_are_refused(name, content, tmp_path):
    tiny.git(tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    with pytest.raises(CourseError):
        load(tmp_path / "model", task="image-to-text").caption(PICTURE)


@pytest.mark.parametrize(
    ("write", "task", "part", "name"),
    [
        (tiny.blip, "image-to-text", ".", "num_hidden_layers"),
        (tiny_pipelines.flux, "image-generation", "text_encoder_2", "num_layers"),
        (tiny_pipelines.flux, "image-generation", "transformer", "num_single_layers"),
    ],
)
def test_settings_with_endless_layers_are_refused(write, task, part, name, tmp_path):
    write(tmp_path / "model")
    path = tmp_path / "model" / part / "config.json"
    path.write_text(re.sub(rf'"{name}": \d+', f'"{name}": 10000000', path.read_text()))
    with pytest.raises(CourseError, match="asks for 10,000,000 layers"):
        load(tmp_path / "model", task=task)


def test_a_scheduler_without_settings_is_refused(tmp_path):
    tiny_pipelines.ddpm(tmp_path / "model")
    (tmp_path / "model" / "scheduler" / "scheduler_config.json").write_text("{}")
    with pytest.raises(CourseError, match="model/scheduler has no settings"):
        load(tmp_path / "model", task="image-generation")


def test_an_index_that_leads_out_of_the_folder_is_refused(tmp_path):
    tiny_pipelines.ddpm(tmp_path / "model")
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    names = dict.fromkeys(load_file(weights), "../../elsewhere.safetensors")
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.with_suffix(".safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(CourseError, match="does not list files"):
        load(tmp_path / "model", task="image-generation")


def test_settings_that_do_not_fit_the_weights_are_refused(tmp_path):
    tiny.vit(tmp_path / "model")
    settings = tmp_path / "model" / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("32", "64"))
    with pytest.raises(CourseError, match=r"cannot compute this: .*\n.*saved with the weights"):
        load(tmp_path / "model", task="face-embedding").embed_faces(PICTURE)


@pytest.mark.parametrize(
    ("write", "task", "part"),
    [
        (tiny.vit, "face-embedding", "."),
        (tiny_pipelines.stable_diffusion, "image-generation", "text_encoder"),
        (tiny_pipelines.ddpm, "image-generation", "unet"),
    ],
)
def test_quantized_weights_are_refused(write, task, part, tmp_path):
    write(tmp_path / "model")
    path = tmp_path / "model" / part / "config.json"
    quantized = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    path.write_text(json.dumps(json.loads(path.read_text()) | quantized))
    with pytest.raises(CourseError, match="has quantized weights"):
        load(tmp_path / "model", task=task)


def test_code_beside_the_weights_is_not_run(tmp_path):
    tiny.vit_gpt2(tmp_path / "model")
    (tmp_path / "model" / "evil.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\nclass E: pass\n")
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        path = tmp_path / "model" / name
        named = dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText", "AutoImageProcessor"), "evil.E")
        settings = {"auto_map": named | {"AutoTokenizer": [None, "evil.E"]}, "trust_remote_code": True}
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    assert isinstance(load(tmp_path / "model", task="image-to-text").caption(PICTURE), str)
    assert not (tmp_path / "harm").exists()
