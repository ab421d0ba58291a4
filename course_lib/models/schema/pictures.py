"""The part of a model's declaration that is about pictures: architectures, and parameters of drawing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from course_lib.models.schema.validation import Frozen

PictureTask = Literal["image-to-text", "image-generation", "image-upscale", "face-embedding"]
# task -> architecture -> the driver (the software that runs it); the first driver of a task is its default
ARCHITECTURES: dict[str, dict[str, str]] = {
    "image-to-text": {"blip": "huggingface", "git": "huggingface", "vit-gpt2": "huggingface"},
    "image-generation": {
        "flux": "diffusers",
        "sdxl": "diffusers",
        "hunyuan": "diffusers",
        "ddpm": "diffusers",
        "pixel-diffusion": "diffusers",
    },
    "image-upscale": {
        "swin2sr": "huggingface",
        "swinir": "spandrel",
        "real-esrgan": "spandrel",
        "esrgan": "spandrel",
        "ldsr": "diffusers",
    },
    "face-embedding": {"vit": "huggingface", "buffalo_l": "onnxruntime"},
}
Architecture = Literal[
    "blip",
    "git",
    "vit-gpt2",
    "flux",
    "sdxl",
    "hunyuan",
    "ddpm",
    "pixel-diffusion",
    "swin2sr",
    "swinir",
    "real-esrgan",
    "esrgan",
    "ldsr",
    "vit",
    "buffalo_l",
]
SUFFIXES = {".safetensors": "spandrel", ".onnx": "onnxruntime"}  # of a single file -> its driver


class Params(Frozen):
    """Parameters of drawing and upscaling. None: the model's own."""

    width: int | None = Field(None, ge=8, le=8192, description="pixels of a drawn picture")
    height: int | None = Field(None, ge=8, le=8192, description="pixels of a drawn picture")
    num_inference_steps: int | None = Field(None, ge=1, le=1000, description="steps from noise to a picture")
    guidance: float | None = Field(
        None, ge=0, le=100, description="how much more the prompt counts than chance; 1: not more"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the noise; the same seed draws the same picture")
    scale: int | None = Field(None, ge=1, le=16, description="factor of upscaling that the model must have")


def default_driver(task: object, architecture: object, suffix: str) -> str | None:
    """The driver of a picture model; None for a task of text.

    suffix: of the model's path, for a single file.
    """
    drivers = ARCHITECTURES.get(task) if isinstance(task, str) else None
    if drivers is None:
        return None
    if isinstance(architecture, str) and architecture in drivers:
        return drivers[architecture]
    fitting = SUFFIXES.get(suffix)
    return fitting if fitting in drivers.values() else next(iter(drivers.values()))
