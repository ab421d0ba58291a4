"""Upscaling: Swin2SR with transformers, and ESRGAN, Real-ESRGAN and SwinIR with the library spandrel.

Swin2SR: Conde et al. 2022 (arXiv:2209.11345). ESRGAN: Wang et al. 2018 (arXiv:1809.00219); Real-ESRGAN: 2021
(arXiv:2107.10833). SwinIR: Liang et al. 2021 (arXiv:2108.10257). A specification (ModelSpec) says which model
to load, and how.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from course_lib.errors import CourseError
from course_lib.models.drivers.pretrained import library_errors, select_device
from course_lib.models.files.headers import read_safetensors_header
from course_lib.models.files.pictures import resolve_pictures
from course_lib.models.files.weights import refuse_integers
from course_lib.models.schema.spec import ModelSpec
from course_lib.shell import pip_install
from course_lib.vision.torch_model import (
    TorchModel,
    TransformersModel,
    check_architecture,
    no_numbers,
    stored_dtype,
)
from course_lib.vision.working_memory import check_memory

SPANDREL = {  # spandrel's name -> architectures of a specification
    "ESRGAN": ("esrgan", "real-esrgan"),  # one network, trained on other pictures
    "Compact": ("real-esrgan",),
    "SwinIR": ("swinir",),
}
_importing = threading.Lock()  # for `import_spandrel`: two threads would remove each other's stand-ins


class Swin2SR(TransformersModel):
    """A Swin2SR model."""

    task = "image-upscale"
    capabilities = frozenset({"upscale"})
    auto_class = "AutoModelForImageToImage"

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        model = super().load(spec)
        model.scale = check_scale(spec, int(model.model.config.upscale))
        return model

    def _upscale(self, pictures: list[Any], first: int) -> list[Any]:
        return batched(
            pictures, lambda batch: self.model(pixel_values=self.pixels(batch)).reconstruction, self
        )


class Spandrel(TorchModel):
    """A network of spandrel, from one .safetensors file, whose tensors tell the network's sizes."""

    task, driver = "image-upscale", "spandrel"
    capabilities = frozenset({"upscale"})

    def __init__(self, spec: ModelSpec, descriptor: Any) -> None:
        super().__init__(spec, [descriptor.model.eval()])
        self.descriptor, self.scale = descriptor, check_scale(spec, int(descriptor.scale))

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the network. Raises CourseError for files that are missing, damaged, or of another network."""
        from safetensors.torch import load_file

        path, spandrel = resolve_pictures(spec.source), import_spandrel()
        if path.suffix != ".safetensors":
            raise CourseError(f"{path} is no .safetensors file", 'load("./MODEL.safetensors", ...)')
        device = select_device(spec)
        what = f"spandrel knows no network with the tensors of {path.name}"
        with library_errors(what, "choose another model"):
            found = spandrel.ModelLoader().load_from_state_dict(load_file(path))
        if found.architecture.id not in SPANDREL or (found.input_channels, found.output_channels) != (3, 3):
            what = f"{path.name} is {found.architecture.id} with {found.input_channels} channels; "
            what += f"supported are {', '.join(SPANDREL)} with 3"
            raise CourseError(what, "choose another model")
        check_architecture(spec, SPANDREL[found.architecture.id])
        refuse_integers(path.name, [read_safetensors_header(path)], found.model.state_dict())
        return cls(spec, found.to(device=device, dtype=stored_dtype(spec, device, path)))

    def _upscale(self, pictures: list[Any], first: int) -> list[Any]:
        return batched(pictures, lambda batch: self.descriptor(as_tensor(batch, self.model)), self)

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_model

        save_model(self.model, str(folder / "model.safetensors"))


def import_spandrel() -> Any:
    """Import spandrel without torchvision, which only two unused networks need.

    With a torch without CUDA, PyPI's torchvision for Linux cannot be imported, and then breaks transformers.
    Raises CourseError if spandrel is not installed.
    """
    names = [f"torchvision{part}" for part in ("", ".transforms", ".transforms.functional")]
    with _importing:
        absent = [name for name in names if name not in sys.modules and "spandrel" not in sys.modules]
        stand_ins = {name: ModuleType(name) for name in absent}
        for module in stand_ins.values():
            module.__dict__.update(__path__=[], InterpolationMode=None, rotate=None, normalize=None)
        sys.modules.update(stand_ins)
        try:
            import spandrel
        except ImportError as error:
            fix = pip_install("--no-deps", "spandrel==0.4.2", "einops==0.8.2")  # without torchvision
            raise CourseError(f"the driver spandrel is not installed: {error}", fix) from error
        finally:
            for name, module in stand_ins.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
    return spandrel


def check_scale(spec: ModelSpec, scale: int) -> int:
    """Return the factor. Raises CourseError if the specification asks for another one than the model's."""
    if spec.params.scale not in (None, scale):
        what = f"params.scale is {spec.params.scale}, and {spec.name} enlarges {scale} times"
        raise CourseError(what, f'load(..., params={{"scale": {scale}}})')
    return scale


def as_tensor(pictures: list[Any], module: Any) -> Any:
    """Pictures of one size as values from 0 to 1: (pictures, 3, height, width), on the module's device."""
    import numpy as np
    import torch

    weight = next(module.parameters())
    values = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
    return values.to(weight.device, torch.float32).div(255).to(weight.dtype)


def batched(pictures: list[Any], run: Any, model: TorchModel) -> list[Any]:
    """Return the pictures enlarged by the model's `scale`. Pictures of one size are computed together.

    run: from pictures to values from 0 to 1, (pictures, 3, height, width).
    """
    import torch

    results: dict[int, Any] = {}
    for size in dict.fromkeys(picture.size for picture in pictures):
        places = [i for i, picture in enumerate(pictures) if picture.size == size]
        with torch.inference_mode():
            check_memory(model, run, size, len(places))
            values = run([pictures[i] for i in places])
        enlarged = (size[0] * model.scale, size[1] * model.scale)
        results |= {i: to_picture(v, enlarged, model.name) for i, v in zip(places, values, strict=True)}
    return [results[i] for i in range(len(pictures))]


def to_picture(values: Any, size: tuple[int, int], name: str) -> Any:
    """Return values from 0 to 1, (3, height, width), as a picture of `size`; padding is cut off.

    name: the model's, for the error. Raises CourseError for NaN, which would become black.
    """
    import torch
    from PIL import Image

    if not torch.isfinite(values).all():
        raise no_numbers(name)
    width, height = size
    rounded = (values[:, :height, :width].float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(rounded.permute(1, 2, 0).cpu().numpy())
