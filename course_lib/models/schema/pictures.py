"""The part of a model's declaration that is about pictures: architectures, and parameters of drawing.

An architecture is a kind of network, such as flux, which draws, or esrgan, which enlarges.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from course_lib.models.schema.validation import Frozen

PictureTask = Literal["image-to-text", "image-generation", "image-upscale", "face-embedding"]
# task -> architecture -> the drivers (software) that run it; the first one of a task is its default
ARCHITECTURES: dict[str, dict[str, tuple[str, ...]]] = {
    "image-to-text": dict.fromkeys(("blip", "git", "vit-gpt2"), ("huggingface",)),
    "image-generation": dict.fromkeys(
        ("flux", "sdxl", "hunyuan", "stable-diffusion", "deepfloyd-if", "ddpm", "ddim"), ("diffusers",)
    ),
    "image-upscale": {
        "swin2sr": ("huggingface",),
        "swinir": ("spandrel",),
        "real-esrgan": ("spandrel", "ncnn"),
        "esrgan": ("spandrel",),
        "ldsr": ("diffusers",),
    },
    "face-embedding": {
        "vit": ("huggingface",),
        "resnet": ("huggingface",),
        "buffalo_l": ("onnxruntime",),
        "dlib": ("dlib",),
    },
}
MODEL_TYPES = {  # task -> model_type in a config.json of transformers -> architecture
    "image-to-text": {"blip": "blip", "git": "git", "vision-encoder-decoder": "vit-gpt2"},
    "image-upscale": {"swin2sr": "swin2sr"},
    "face-embedding": {"vit": "vit", "resnet": "resnet"},
}
SUFFIXES = {".safetensors": "spandrel", ".onnx": "onnxruntime"}  # suffix of a single file -> its driver


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

    suffix: The suffix of the model's path, for a single file.
    """
    known = ARCHITECTURES.get(task) if isinstance(task, str) else None
    if known is None:
        return None
    if isinstance(architecture, str) and architecture in known:
        return known[architecture][0]
    drivers = [driver for names in known.values() for driver in names]
    return SUFFIXES[suffix] if SUFFIXES.get(suffix) in drivers else drivers[0]
