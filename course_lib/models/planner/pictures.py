"""Estimate how much memory a model that draws pictures will need, by component, and on which GPU it fits.

Weights are exact. Activations are what torch's operations allocate, with attention that does not store its
score matrix. The sum is within 3% of diffusers' own measurements on a GPU. Not counted: work space of cuDNN
(NVIDIA's library), fragmentation, a GPU's context and the program itself, for which `usable_bytes` keeps a
tenth free; the scales of int8 (0.1%); what bitsandbytes holds while it multiplies. Text encoders turn the
prompt into vectors, a transformer or UNet removes noise, and the VAE makes pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from course_lib.errors import CourseError
from course_lib.models.catalog.names import similar
from course_lib.models.planner.estimate import BITSANDBYTES, format_bytes
from course_lib.models.planner.gpus import GPUS, usable_bytes
from course_lib.models.planner.picture_models import PictureModel, configurations, picture_model
from course_lib.models.planner.quants import WHOLE
from course_lib.tables import table

Offload = Literal["none", "model"]
FORMATS = (*BITSANDBYTES, *WHOLE)
PIXEL_STEP = 8  # one latent value stands for 8 x 8 pixels
MAX_SIDE = 8192  # pixels
# What `ways` compares: the formats of the transformer and of the text encoders, and what is offloaded.
WAYS: tuple[tuple[str | None, str | None, Offload], ...] = (
    (None, None, "none"),
    (None, None, "model"),
    ("int8", None, "none"),
    ("int8", "int8", "none"),
    ("int8", "int8", "model"),
    ("nf4", None, "none"),
    ("nf4", "nf4", "none"),
    ("nf4", "nf4", "model"),
)


@dataclass(frozen=True)
class PicturePlan:
    """The bytes that a model needs while it draws `batch` pictures.

    weight_format, text_format: Of the linear layers in the transformer (or UNet) and in the text encoders.
    offload: none: all components are on the GPU; model: each is there only while it computes, and else in
    RAM. weights, activations: By component.
    """

    model: str
    precision: str
    weight_format: str
    text_format: str
    offload: Offload
    width: int
    height: int
    batch: int
    weights: dict[str, int]
    activations: dict[str, int]

    @property
    def total(self) -> int:
        """The bytes on the GPU at the peak."""
        if self.offload == "model":
            return max(self.weights[name] + self.activations[name] for name in self.weights)
        return sum(self.weights.values()) + max(self.activations.values())

    @property
    def ram(self) -> int:
        """The bytes of RAM for components that wait there."""
        return sum(self.weights.values()) if self.offload == "model" else 0

    def __str__(self) -> str:
        rows = [
            [name, format_bytes(size), format_bytes(self.activations[name])]
            for name, size in self.weights.items()
        ]
        peak = max(self.activations.values())
        rows.append(["all", format_bytes(sum(self.weights.values())), format_bytes(peak)])
        formats = f"{self.weight_format}, text encoders {self.text_format}, the rest {self.precision}"
        title = f"{self.model}, {formats}: {self.batch} x {self.width} x {self.height} pixels"
        where = "one component on the GPU at a time" if self.offload == "model" else "all on the GPU"
        text = f"{title}\n{table(['component', 'weights', 'activations'], rows)}\n"
        text += f"At the peak, with {where}: {format_bytes(self.total)}"
        return text + (f", and {format_bytes(self.ram)} of RAM." if self.ram else ".")


def plan_pictures(
    model: str,
    weight_format: str | None = None,
    *,
    text_format: str | None = None,
    offload: Offload = "none",
    width: int = 1024,
    height: int = 1024,
    batch: int = 1,
) -> PicturePlan:
    """Return the memory plan of FLUX.1-dev, SDXL or HunyuanDiT.

    weight_format: Of the transformer (or UNet): int8, nf4 or fp4 for its linear layers by bitsandbytes; or
    float32, float16 or bfloat16 for all components. By default the type in which its makers run it.
    text_format: int8, nf4 or fp4 for the text encoders; by default they are not quantized.
    offload: none, or model: `enable_model_cpu_offload()` of diffusers, by which only the component that
    computes is on the GPU. (`enable_sequential_cpu_offload()`, which is much slower, is not planned.)
    width, height: Pixels of a picture, divisible by 8. batch: Pictures at the same time.
    Raises CourseError for an unknown model or option.
    """
    sizes = known_picture_model(model)
    weight_format = (weight_format or sizes.precision).lower()
    precision = weight_format if weight_format in WHOLE else sizes.precision
    text_format = (text_format or precision).lower()
    _check(weight_format, text_format, precision, offload, (width, height), batch)
    formats = {
        name: precision if name == "vae" else text_format if "text" in name else weight_format
        for name in sizes.components
    }
    passes = {name: 1 if name == "vae" or "text" in name else sizes.passes for name in sizes.components}
    parts = sizes.components.items()
    return PicturePlan(
        model=sizes.name,
        precision=precision,
        weight_format=weight_format,
        text_format=text_format,
        offload=offload,
        width=width,
        height=height,
        batch=batch,
        weights={name: part.weight_bytes(formats[name], precision) for name, part in parts},
        activations={
            name: batch * passes[name] * part.activation_bytes(width * height, precision)
            for name, part in parts
        },
    )


def ways(model: str, *, width: int = 1024, height: int = 1024, batch: int = 1) -> Iterator[PicturePlan]:
    """Yield the plans of a model with and without quantization and offloading, the least compressed first."""
    for weight_format, text_format, offload in WAYS:
        yield plan_pictures(
            model,
            weight_format,
            text_format=text_format,
            offload=offload,
            width=width,
            height=height,
            batch=batch,
        )


def ways_table(model: str, *, width: int = 1024, height: int = 1024, batch: int = 1) -> str:
    """Return a table of `ways`, with the smallest GPU of the planner that has enough memory for each."""
    rows = []
    for planned in ways(model, width=width, height=height, batch=batch):
        gpu = smallest_gpu(planned.total)
        offload = "one at a time" if planned.offload == "model" else "all"
        bytes_ = [format_bytes(planned.total), format_bytes(planned.ram) if planned.ram else "-"]
        rows.append([planned.weight_format, planned.text_format, offload, *bytes_, gpu or "none"])
    titles = ["transformer", "text encoders", "on the GPU", "GPU memory", "RAM", "fits from"]
    return table(titles, rows)


def smallest_gpu(needed: int) -> str | None:
    """Return the smallest GPU whose usable memory holds `needed` bytes, or None."""
    cards = sorted((size, name) for name, size in GPUS.items() if "RAM" not in name)
    return next((name for _, name in cards if usable_bytes(name) >= needed), None)


def known_picture_model(name: str) -> PictureModel:
    """Return the sizes of a model. Raises CourseError for an unknown name."""
    if found := picture_model(name):
        return found
    meant = similar(str(name), configurations()) or list(configurations())
    what = f"the planner does not know a model {str(name)[:100]!r} that draws pictures"
    raise CourseError(what, f"plan_pictures({meant[0]!r})")


def _check(
    weight_format: str, text_format: str, precision: str, offload: str, size: tuple[int, int], batch: int
) -> None:
    if weight_format not in FORMATS:
        what = f"weight_format={weight_format!r} is unknown"
        raise CourseError(what, f"choose one of {', '.join(FORMATS)}")
    if text_format not in (*BITSANDBYTES, precision):
        what = (
            f"text_format={text_format!r}: text encoders are quantized, or have {precision} as the rest has"
        )
        raise CourseError(what, f"choose one of {', '.join(BITSANDBYTES)}, or leave text_format out")
    if offload not in ("none", "model"):
        raise CourseError(f"offload={offload!r} is unknown", "choose none or model")
    if any(type(side) is not int or side % PIXEL_STEP or not 0 < side <= MAX_SIDE for side in size):
        what = f"{size[0]} x {size[1]} pixels: sides are divisible by {PIXEL_STEP}, and at most {MAX_SIDE:,}"
        raise CourseError(what, "plan_pictures(..., width=1024, height=1024)")
    if type(batch) is not int or batch < 1:
        raise CourseError(f"batch={batch}: it must be at least 1", "plan_pictures(..., batch=1)")
