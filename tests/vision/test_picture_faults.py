"""Files of picture models that are wrong, cut off, pickles, or of another model; and calls that cannot be."""

import json
import re
import sys
import tomllib
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.schema import SpecError
from course_lib.quiet import quiet
from course_lib.shell import command_line
from course_lib.vision import to_safetensors, upscaling
from tests.vision import tiny, tiny_pipelines

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 27, 3), dtype=np.uint8))


def test_a_pickle_is_refused_and_its_tensors_can_be_kept(tmp_path):
    tiny.esrgan(tmp_path / "model")
    spec = {"task": "image-upscale", "architecture": "esrgan"}
    expected = np.asarray(load(tmp_path / "model", **spec).upscale(PICTURE))
    path = tmp_path / "model" / "x4.pth"
    torch.save({"params_ema": load_file(path.with_suffix(".safetensors"))}, path)
    path.with_suffix(".safetensors").unlink()
    for source in (path, path.parent):
        with pytest.raises(CourseError, match=r"x4\.pth is a pickle.*run any code.*\n.*to_safetensors\("):
            load(source, **spec)
    assert np.array_equal(np.asarray(load(to_safetensors(path), **spec).upscale(PICTURE)), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(1), "b": {"c": torch.ones(1)}}, "has tensors inside 'b'"),  # would be left out
        ({1: torch.ones(1)}, "cannot hold"),
        ({"a": torch.ones(1, device="meta")}, "cannot hold"),
        ({"a": torch.ones(1).to_sparse()}, "cannot hold"),
        ([torch.ones(1)], "no tensors by name"),
        (torch.nn.Linear(1, 1), r"it needs torch\.nn\.modules\.linear\.Linear$"),  # not torch's advice
    ],
)
def test_a_pickle_that_cannot_be_kept_whole_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CourseError) as caught:
        to_safetensors(tmp_path / "x.pth")
    assert re.search(message, caught.value.what) and "safetensors" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]
    with pytest.raises(CourseError, match="is no file"):
        to_safetensors(tmp_path / "y.pth")


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'harm')!r}, 'w')",)

    torch.save({"params": {"a": torch.ones(1)}, "extra": Harm()}, tmp_path / "x.pth")
    with pytest.raises(CourseError, match="more than tensors"):
        to_safetensors(tmp_path / "x.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pth"]


def test_pickles_in_folders_of_transformers_and_diffusers_are_refused(tmp_path):
    tiny.vit(tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").rename(tmp_path / "vit" / "pytorch_model.bin")
    tiny_pipelines.ddpm(tmp_path / "ddpm")
    weights = tmp_path / "ddpm" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    for name, task in (("vit", "face-embedding"), ("ddpm", "image-generation")):
        with pytest.raises(CourseError, match="is a pickle"):
            load(tmp_path / name, task=task)


def test_another_architecture_or_factor_than_the_files_have_is_refused(tmp_path):
    tiny.vit_gpt2(tmp_path / "a")
    with pytest.raises(CourseError, match=r"architecture: 'blip', but a is vit-gpt2"):
        load(tmp_path / "a", task="image-to-text", architecture="blip")
    with pytest.raises(CourseError, match="is a vision-encoder-decoder; for face-embedding"):
        load(tmp_path / "a", task="face-embedding")
    with pytest.raises(CourseError, match="has no pipeline; for image-generation, diffusers runs Flux"):
        load(tmp_path / "a", task="image-generation")
    with pytest.raises(Unsupported, match=r"a model of pictures\n.*task=\"image-to-text\""):
        load(tmp_path / "a")
    tiny.swin2sr(tmp_path / "b")
    with pytest.raises(CourseError, match="scale is 4, and b enlarges 2 times") as caught:
        load(tmp_path / "b", task="image-upscale", params={"scale": 4})
    assert '"scale": 2' in caught.value.fix
    (tmp_path / "b" / "config.json").write_text("{}")
    with pytest.raises(CourseError, match=r"b has no model_type in its config\.json"):
        load(tmp_path / "b", task="image-upscale")
    tiny.git(tmp_path / "d")
    with pytest.raises(Unsupported, match="a model of pictures"):
        load(tmp_path / "d", task="text-embedding")
    tiny_pipelines.ldsr(tmp_path / "e")
    with pytest.raises(CourseError, match="e is a LDMSuperResolutionPipeline; for face-embedding"):
        load(tmp_path / "e", task="face-embedding")
    with pytest.raises(CourseError, match=r"a pipeline of diffusers.*\n.*task=\"image-upscale\""):
        load(tmp_path / "e")
    tiny_pipelines.ddpm(tmp_path / "c")
    with pytest.raises(CourseError, match=r"a pipeline of diffusers.*\n.*task=\"image-generation\""):
        load(tmp_path / "c")
    index = tmp_path / "c" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"unet": ["my_code", "Model"]}))
    with pytest.raises(CourseError, match="a Model of my_code"):
        load(tmp_path / "c", task="image-generation")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"task": "image-to-text", "architecture": "flux"}, r"'flux' is for the task image-generation"),
        ({"task": "image-to-text", "architecture": "nothing"}, r"those of the task image-to-text are blip"),
        ({"task": "image-generation", "driver": "huggingface"}, r"huggingface does not support the task"),
        ({"task": "image-generation", "params": {"guidance": float("nan")}}, r"params\.guidance: nan"),
        ({"task": "image-generation", "params": {"width": 0}}, r"params\.width: 0"),
        ({"driver": "diffusers"}, r"the driver diffusers does not support the task chat-completion"),
    ],
)
def test_a_wrong_declaration_is_refused(spec, message):
    with pytest.raises((SpecError, Unsupported), match=message):
        load({"source": "./nowhere"} | spec)


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    tiny_pipelines.sdxl(folder := tmp_path_factory.mktemp("painter") / "sdxl")
    return load(folder, task="image-generation")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 60}, r"width=60 is not divisible by 8.*\n.*width=64"),
        ({"guidance": float("inf")}, "guidance"),
        ({"guidance": 0.5}, r"guidance=0\.5: sdxl takes all below 1 as 1.*\n.*guidance=1\)"),
        ({"guidance": float("nan")}, "guidance"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"seed": -1}, "seed"),
        ({"steps": 3}, "steps: no such field"),
    ],
)
def test_a_wrong_option_of_drawing_is_refused(painter, options, message):
    with pytest.raises(CourseError, match=message):
        painter.draw(["a red card"], **options)


def test_prompts_are_texts_that_fit(painter):
    assert painter.draw([]) == []
    for prompts, message in (
        (["a " * 80], r"prompts\[0\] has 82 tokens; sdxl reads 77"),
        ([3], r"prompts\[0\] is 3"),
        (None, "no prompt to draw"),
        ({"a": 1}, "prompts is"),
    ):
        with pytest.raises(InputError, match=message):
            painter.draw(prompts)
    with pytest.raises(Unsupported, match="cannot caption"):
        painter.caption([PICTURE])
    with pytest.raises(Unsupported, match="cannot generate"):
        painter.generate(["hello"])


def test_a_prompt_is_not_cut_where_a_shorter_tokenizer_would(tmp_path):
    tiny_pipelines.stable_diffusion(tmp_path / "model")
    settings = tmp_path / "model" / "tokenizer" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 8}))
    short = load(tmp_path / "model", task="image-generation")
    with pytest.raises(InputError, match=r"prompts\[0\] has 9 tokens; model reads 8"):
        short.draw("a red card with a blue sign", num_inference_steps=1)
    with pytest.raises(InputError, match="index 1000 is out of bounds"):
        short.draw("a card", num_inference_steps=1000)


def test_what_a_model_has_not_is_refused(tmp_path):
    tiny_pipelines.ddpm(tmp_path / "ddpm")
    ddpm = load(tmp_path / "ddpm", task="image-generation")
    with pytest.raises(InputError, match="draws without a prompt"):
        ddpm.draw(["a card"], num_inference_steps=1)
    with pytest.raises(InputError, match="draws without guidance"):
        ddpm.draw([""], num_inference_steps=1, guidance=2.0)
    tiny_pipelines.flux(tmp_path / "flux", guidance_embeds=False)
    schnell = load(tmp_path / "flux", task="image-generation")
    with pytest.raises(InputError, match="trained without guidance"):
        schnell.draw("a card", num_inference_steps=1, guidance=2.0)
    with pytest.raises(InputError, match="width=72 is not divisible by 16"):
        schnell.draw("a card", width=72)


def test_pictures_of_any_size_are_read(tmp_path):
    tiny.vit_gpt2(tmp_path / "captioner")
    captioner = load(tmp_path / "captioner", task="image-to-text")
    assert isinstance(captioner.caption(Image.new("L", (1, 1)), max_tokens=2), str)
    with pytest.raises(InputError, match=r"max_tokens is 0, where a whole number.*\n.*caption\("):
        captioner.caption(PICTURE, max_tokens=0)
    with pytest.raises(CourseError, match=r"max_tokens is 40, .* at most 31"):
        captioner.caption(PICTURE, max_tokens=40)
    for write, scale in ((tiny.swin2sr, 2), (tiny.esrgan, 4), (tiny.swinir, 2)):
        write(tmp_path / write.__name__)
        name = write.__name__
        model = load(tmp_path / name, task="image-upscale", architecture=name)
        for size in ((1, 1), (3, 17)):
            assert model.upscale(Image.new("RGB", size)).size == (size[0] * scale, size[1] * scale)
    for value in (np.zeros((4, 4, 3)), [b"x"], 7):
        with pytest.raises(InputError, match=r"images?(\[0\])? is .*where a (picture|list of pictures)"):
            captioner.caption(value)
    captioner.close()
    with pytest.raises(CourseError, match="has been closed"):
        captioner.caption(PICTURE)


def test_spandrel_is_imported_without_removing_what_another_thread_imports(monkeypatch):
    upscaling.import_spandrel()
    monkeypatch.delitem(sys.modules, "spandrel")
    other = ModuleType("torchvision")

    class Elsewhere:
        def find_spec(self, name, path, target=None):
            if name == "spandrel":
                sys.modules["torchvision"] = other

    monkeypatch.setattr(sys, "meta_path", [Elsewhere(), *sys.meta_path])
    monkeypatch.setitem(sys.modules, "torchvision", None)
    del sys.modules["torchvision"]
    upscaling.import_spandrel()
    assert sys.modules["torchvision"] is other and "torchvision.transforms" not in sys.modules


@pytest.mark.parametrize(
    ("made_by", "command"),
    [
        ("", [sys.executable, "-m", "pip", "install"]),
        ("uv = 0.9", ["uv", "pip", "install", "--python", sys.executable]),
    ],
)
def test_a_missing_spandrel_is_told_with_the_command_for_this_environment(
    monkeypatch, tmp_path, made_by, command
):
    (tmp_path / "pyvenv.cfg").write_text(f"home = /usr\n{made_by}\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setitem(sys.modules, "spandrel", None)  # as if it were not installed
    with pytest.raises(CourseError, match="spandrel is not installed") as told:
        upscaling.import_spandrel()
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    (spandrel,) = tools["course"]["without-dependencies"]
    assert told.value.fix == command_line(*command, "--no-deps", spandrel, "einops==0.8.2")


def test_quiet_while_another_thread_imports_diffusers(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", ModuleType("diffusers"))
    with quiet():
        pass
