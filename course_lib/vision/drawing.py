"""Pictures from texts with diffusers: Flux, SDXL, HunyuanDiT, plain DDPM, and diffusion on pixels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.pretrained import LOADING_ERRORS, select_device, weight_dtype
from course_lib.models.files.headers import read_json
from course_lib.models.planner.memory import memory_footprint
from course_lib.models.schema.pictures import Params
from course_lib.models.schema.spec import ModelSpec
from course_lib.quiet import quiet
from course_lib.vision.engine import PictureModel
from course_lib.vision.files import picture_folder
from course_lib.vision.torch_model import check_architecture, save_parts

PIPELINES: Mapping[str, str] = {  # class in model_index.json -> architecture
    "FluxPipeline": "flux",
    "StableDiffusionXLPipeline": "sdxl",
    "HunyuanDiTPipeline": "hunyuan",
    "DDPMPipeline": "ddpm",
    "DDIMPipeline": "ddpm",
    "PixelDiffusionPipeline": "pixel-diffusion",
    "LDMSuperResolutionPipeline": "ldsr",
}
OWN = "PixelDiffusionPipeline"  # not a class of diffusers


class Painter(PictureModel):
    """A pipeline of diffusers that draws."""

    task, driver = "image-generation", "diffusers"
    capabilities = frozenset({"draw"})
    default_batch_size = 4

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        super().__init__(spec)
        self.pipeline = pipeline
        self.models = [part for part in pipeline.components.values() if hasattr(part, "parameters")]

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the pipeline. Raises CourseError for files that are missing, damaged, or of another model."""
        folder = picture_folder(spec)
        name = str(read_json(folder, "model_index.json").get("_class_name"))
        if name not in PIPELINES:
            what = f"{folder.name} is a {name}; the driver diffusers runs {', '.join(PIPELINES)}"
            raise CourseError(what, "choose another model")
        check_architecture(spec, folder, PIPELINES[name])
        device = select_device(spec)
        dtype = weight_dtype(spec, device)
        options = {} if dtype == "auto" else {"torch_dtype": dtype}
        try:
            with quiet():
                pipeline = _pipeline_class(name).from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, **options
                )
        except LOADING_ERRORS as error:
            what = f"diffusers cannot load {folder.name}: {' '.join(str(error).split()):.300}"
            raise CourseError(what, "download it again") from error
        pipeline.set_progress_bar_config(disable=True)
        return cls(spec, pipeline.to(device))

    def _draw(self, prompts: list[str], params: Params) -> list[Any]:
        import torch

        accepted = inspect.signature(type(self.pipeline).__call__).parameters
        generators = [torch.Generator().manual_seed(params.seed + i) for i in range(len(prompts))]
        options = {
            "prompt": prompts,
            "width": params.width,
            "height": params.height,
            "num_inference_steps": params.num_inference_steps,
            "guidance_scale": params.guidance,
        }
        given = {name: value for name, value in options.items() if value is not None}
        if unknown := [name for name in given if name not in accepted]:
            raise InputError(f"{self.name} draws without {unknown[0]}", f"leave {unknown[0]} out")
        with quiet():
            return list(self.pipeline(**given, generator=generators).images)

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for model in self.models for weight in model.parameters())

    @property
    def weight_bytes(self) -> int:
        return sum(map(memory_footprint, self.models))

    @property
    def device(self) -> str:
        return str(self.pipeline.device.type)

    def save(self, folder: Path | str) -> Path:
        """Write the pipeline to a new folder. Loaded from there, it draws the same pictures."""
        self._check_open()
        return save_parts(folder, [self.pipeline])

    def close(self) -> None:
        self.pipeline, self.models = None, []

    def _is_closed(self) -> bool:
        return self.pipeline is None


def _pipeline_class(name: str) -> Any:
    """The class of a pipeline."""
    import diffusers

    from course_lib.vision import pixel_diffusion

    return getattr(pixel_diffusion if name == OWN else diffusers, name)
