"""The sizes of well-known models that draw pictures, by component.

A text encoder turns the prompt into vectors.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.models.planner.memory import BITS_OF


class Component(NamedTuple):
    """A text encoder, the network that removes noise (transformer or UNet), or the VAE, which makes pixels.

    parameters: the weights, of which `linear` can be quantized. kept: weights that stay in float32 while the
    others have float16. activations: values at the peak of a pass, constant and per pixel, as bytes in 16
    bits. upcast: whether it computes in float32 where the others have float16.
    """

    parameters: int
    linear: int
    kept: int
    activations: tuple[float, float]
    upcast: bool

    def weight_bytes(self, weight_format: str, precision: str) -> int:
        """Return the bytes of the weights: linear layers in `weight_format`, all others in `precision`.

        While SDXL's VAE decodes, its weights have 32 bits.
        """
        rest = self._precision(precision)
        linear = rest if weight_format == precision else weight_format
        kept = "float32" if precision == "float16" else precision
        others = self.parameters - self.linear - self.kept
        bits = self.linear * BITS_OF[linear] + self.kept * BITS_OF[kept] + others * BITS_OF[rest]
        return round(bits / 8)

    def activation_bytes(self, pixels: int, precision: str) -> int:
        """Return the bytes that one pass for one picture holds besides the weights at its peak."""
        constant, per_pixel = self.activations
        return round((constant + per_pixel * pixels) * BITS_OF[self._precision(precision)] / 16)

    def _precision(self, precision: str) -> str:
        return "float32" if self.upcast and precision == "float16" else precision


@dataclass(frozen=True)
class PictureModel:
    """A model that draws pictures.

    precision: The type in which its makers run it. passes: How often the transformer runs for one picture.
    """

    name: str
    hub: str
    precision: str
    passes: int
    components: dict[str, Component]


@functools.cache
def configurations() -> dict[str, dict[str, Any]]:
    """Return the contents of pictures.yaml."""
    import yaml

    text = (Path(__file__).parent / "pictures.yaml").read_text("utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def picture_model(name: object) -> PictureModel | None:
    """Return a model by its name or its id on the hub, in any case of letters; None for an unknown one."""
    wanted = str(name).lower()
    for known, fields in configurations().items():
        hub = fields["hub"].lower()
        if wanted in (known.lower(), hub, hub.partition("/")[2]):
            parts = {part: _component(sizes) for part, sizes in fields["components"].items()}
            return PictureModel(known, fields["hub"], fields["precision"], fields["passes"], parts)
    return None


def _component(sizes: dict[str, Any]) -> Component:
    constant, per_pixel = sizes["activations"]
    return Component(
        parameters=sizes["parameters"],
        linear=sizes["linear"],
        kept=sizes.get("kept", 0),
        activations=(constant, per_pixel),
        upcast=sizes.get("upcast", False),
    )
