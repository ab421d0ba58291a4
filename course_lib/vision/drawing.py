"""Draw pictures from texts with diffusers, and enlarge pictures by diffusion (LDSR).

A diffusion model removes noise step by step (DDPM: Ho et al. 2020, arXiv:2006.11239; DDIM, with fewer steps:
Song et al. 2021, arXiv:2010.02502). Latent diffusion does so in a smaller representation, the latent, which
the decoder of a VAE turns into pixels (also LDSR: Rombach et al. 2022, arXiv:2112.10752). Guidance is the
factor by which the text's influence is exaggerated (Ho and Salimans 2022, arXiv:2207.12598). A specification
(ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

import inspect
import math
import threading
from typing import Any, NamedTuple, Self

import numpy as np

from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.pretrained import library_errors, one_line, select_device
from course_lib.models.files.headers import PIPELINE_FILE, read_json
from course_lib.models.files.pictures import resolve_pictures
from course_lib.models.schema.pictures import Params
from course_lib.models.schema.spec import ModelSpec
from course_lib.quiet import quiet
from course_lib.vision.pipeline_weights import check_pipeline
from course_lib.vision.torch_model import TorchModel, check_architecture, no_numbers, stored_dtype
from course_lib.vision.upscaling import check_scale, to_picture
from course_lib.vision.working_memory import refuse_beyond_free


class Kind(NamedTuple):
    """A class of diffusers' pipelines, with limits that diffusers enforces silently, by cutting or rounding.

    architecture: its name in a model specification. tokens: tokenizer -> the most tokens of a prompt that it
    reads, unless the tokenizer itself states less. multiple: width and height must be multiples of it.
    """

    architecture: str
    tokens: dict[str, int]
    multiple: int = 8


PIPELINES = {  # task -> class in model_index.json -> kind
    "image-generation": {
        "FluxPipeline": Kind("flux", {"tokenizer_2": 512}, 16),
        "StableDiffusionXLPipeline": Kind("sdxl", {"tokenizer": 77, "tokenizer_2": 77}),
        "HunyuanDiTPipeline": Kind("hunyuan", {"tokenizer": 77, "tokenizer_2": 256}, 16),
        "StableDiffusionPipeline": Kind("stable-diffusion", {"tokenizer": 77}),
        "IFPipeline": Kind("deepfloyd-if", {"tokenizer": 77}),
        "DDPMPipeline": Kind("ddpm", {}),
        "DDIMPipeline": Kind("ddim", {}),
    },
    "image-upscale": {"LDMSuperResolutionPipeline": Kind("ldsr", {}, 32)},
}
# Options with which diffusers would change the prompt or the size; where a pipeline has them, they are off.
FIXED = {
    "clean_caption": False,
    "use_resolution_binning": False,
}


class Pipeline(TorchModel):
    """A loaded pipeline of diffusers: networks, tokenizers, and the scheduler that plans the steps."""

    driver = "diffusers"
    default_batch_size = 4

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        parts = [part for part in pipeline.components.values() if hasattr(part, "parameters")]
        main = getattr(pipeline, "unet", None) or pipeline.transformer  # the network that removes noise
        super().__init__(spec, [main, *(part for part in parts if part is not main)], [pipeline])
        self.kind = PIPELINES[spec.task][type(pipeline).__name__]
        self._lock = threading.Lock()  # schedulers and tokenizers hold the state of a call

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the pipeline. Raises CourseError for files that are missing, damaged, or of another kind."""
        import diffusers

        folder = resolve_pictures(spec.source)
        name = str(read_json(folder, PIPELINE_FILE).get("_class_name"))
        if name not in (known := PIPELINES[spec.task]):
            what = (
                f"{spec.name} is a {name}"
                if (folder / PIPELINE_FILE).is_file()
                else f"{folder} has no pipeline"
            )
            raise CourseError(
                f"{what}; for {spec.task}, diffusers runs {', '.join(known)}", "choose another model"
            )
        check_architecture(spec, (known[name].architecture,))
        device = select_device(spec)
        with library_errors(f"diffusers cannot load {spec.name}", "download it again"), quiet():
            left_out = check_pipeline(folder)
            pipeline = getattr(diffusers, name).from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=stored_dtype(spec, device, folder),
                **left_out,
            )
        pipeline.set_progress_bar_config(disable=True)
        return cls(spec, pipeline.to(device))

    @property
    def pipeline(self) -> Any:
        """The pipeline."""
        self._check_open()
        return self.parts[0]

    def _check_memory(self, size: tuple[int, int], count: int) -> None:
        """Raise CourseError if one layer at full size, for `count` pictures, exceeds the CPU's free memory.

        It is the last layer of the VAE, or without one the first of the U-Net.
        """
        decoders = (getattr(self.pipeline, name, None) for name in ("vae", "vqvae"))
        part = next(filter(None, decoders), self.model)
        if self.device == "cpu":
            channels = 2 * part.config.block_out_channels[0]  # of the layer's input and its output
            refuse_beyond_free(self.name, channels * part.dtype.itemsize, size, count)

    def _call(self, **options: Any) -> list[Any]:
        """Run the pipeline. Raises InputError for an option that it lacks, or whose value it refuses."""
        accepted = inspect.signature(type(self.pipeline).__call__).parameters
        given = {name: value for name, value in options.items() if value is not None}
        if unknown := next((name for name in given if name not in accepted), None):
            name = unknown.removesuffix("_scale")
            raise InputError(
                f"{self.name}, a {self.kind.architecture}, draws without {name}", f"leave {name} out"
            )
        given |= {name: value for name, value in FIXED.items() if name in accepted}
        try:
            with self._lock, quiet(), np.errstate(invalid="raise"):  # else a picture of NaN comes out black
                return list(self.pipeline(**given).images)
        except FloatingPointError as error:
            raise no_numbers(self.name) from error
        except (ValueError, IndexError) as error:  # more steps than the scheduler has
            raise InputError(f"{self.name}: {one_line(error)}", "change this value") from error


class Painter(Pipeline):
    """A pipeline that draws pictures from texts, or without a text pictures like those of its training."""

    task = "image-generation"
    capabilities = frozenset({"draw"})

    def _draw(self, prompts: list[str], params: Params) -> list[Any]:
        sides = self._sides(params)
        self._check_memory(self._size(sides), len(prompts))
        options = {
            **sides,
            "num_inference_steps": params.num_inference_steps,
            "guidance_scale": params.guidance,
            "generator": generators(params.seed, len(prompts)),
        }
        if not self.kind.tokens:
            if text := next(filter(None, prompts), None):
                raise InputError(f"{self.name} draws without a prompt; got {text!r:.60}", 'draw([""])')
            return self._call(batch_size=len(prompts), **options)
        self._check_lengths(prompts)
        if params.guidance is not None:
            self._check_guidance(params.guidance)
        return self._call(prompt=prompts, **options)

    def _sides(self, params: Params) -> dict[str, int | None]:
        """Return width and height; None for the pipeline's own.

        Raises InputError for a side that would be rounded.
        """
        sides, multiple = {"width": params.width, "height": params.height}, self.kind.multiple
        for name, side in sides.items():
            if side is not None and side % multiple:
                what = f"{name}={side} is not divisible by {multiple}, as {self.kind.architecture} needs"
                raise InputError(what, f"draw(prompts, {name}={math.ceil(side / multiple) * multiple})")
        if self.kind.architecture == "stable-diffusion" and any(sides.values()):
            # This pipeline ignores a side that is given without the other one.
            sides["width"], sides["height"] = self._size(sides)
        return sides

    def _size(self, sides: dict[str, int | None]) -> tuple[int, int]:
        """Return width and height in pixels, with the pipeline's own value for a side that is not given."""
        latent = getattr(self.pipeline, "default_sample_size", None) or self.model.config.sample_size
        height, width = np.broadcast_to(latent, 2) * getattr(self.pipeline, "vae_scale_factor", 1)
        return sides["width"] or int(width), sides["height"] or int(height)

    def _check_guidance(self, guidance: float) -> None:
        """Raise InputError for a value that the pipeline would treat as 1, or ignore."""
        if self.kind.architecture != "flux":
            if guidance < 1:
                what = f"guidance={guidance}: {self.kind.architecture} takes all below 1 as 1, which is none"
                raise InputError(what, "draw(prompts, guidance=1)")
        elif not self.model.config.guidance_embeds:  # FLUX.1-schnell, for example
            raise InputError(f"{self.name} was trained without guidance", "leave guidance out")

    def _check_lengths(self, prompts: list[str]) -> None:
        for part, most in self.kind.tokens.items():
            tokenizer = getattr(self.pipeline, part)
            most = min(most, tokenizer.model_max_length)
            with self._lock:  # a tokenizer holds the padding settings of the running call
                read = tokenizer(prompts, verbose=False)["input_ids"]
            for i, ids in enumerate(read):
                if len(ids) > most:
                    what = f"prompts[{i}] has {len(ids)} tokens; {self.name} reads {most}"
                    raise InputError(what, "use a shorter prompt")


class LatentUpscaler(Pipeline):
    """LDSR: a diffusion model that draws the enlarged picture. The details that it adds are invented."""

    task = "image-upscale"
    capabilities = frozenset({"upscale"})

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        super().__init__(spec, pipeline)
        # The latent has the size of the picture, and the decoder doubles it between its blocks.
        self.scale = check_scale(spec, 2 ** (len(pipeline.vqvae.config.block_out_channels) - 1))

    def _upscale(self, pictures: list[Any], first: int) -> list[Any]:
        params, results = self.spec.params, []
        for i, picture in enumerate(pictures, first):
            given = padded(picture, self.kind.multiple)
            self._check_memory((given.width * self.scale, given.height * self.scale), 1)
            (values,) = self._call(
                image=given,
                num_inference_steps=params.num_inference_steps,
                generator=generators(params.seed + i, 1),
                output_type="pt",  # output as pictures fails with bfloat16
            )
            size = (picture.width * self.scale, picture.height * self.scale)
            results.append(to_picture(values, size, self.name))
        return results


def generators(seed: int, count: int) -> list[Any]:
    """Return a random generator for each picture, with the seeds seed, seed + 1, and so on."""
    import torch

    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def padded(picture: Any, multiple: int) -> Any:
    """Return the picture extended at the right and bottom so that its sides are multiples of `multiple`.

    The last column and row of pixels are repeated.
    """
    from PIL import Image

    right, below = (-side % multiple for side in picture.size)
    return Image.fromarray(np.pad(np.asarray(picture), ((0, below), (0, right), (0, 0)), mode="edge"))
