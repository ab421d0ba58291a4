"""Reject a picture that is too large for the memory, before the system kills the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from course_lib.vision.torch_model import TorchModel

LARGE = 250_000  # pixels; smaller pictures are not checked
SIDE = 64  # side of the test picture with which the layers are measured


def check_memory(
    model: TorchModel, run: Callable[[list[Any]], Any], size: tuple[int, int], count: int
) -> None:
    """Raise CourseError if one layer's input and output for `count` pictures exceed the free memory.

    This is a lower bound of what a network needs. It is measured with a small picture, and grows with the
    number of pixels. Only the CPU is checked, since a GPU without enough memory raises an error by itself.
    run: applies the network to a list of pictures.
    """
    from PIL import Image

    pixels = size[0] * size[1] * count
    if model.device != "cpu" or pixels <= LARGE:
        return
    layers = []
    hooks = [
        module.register_forward_hook(lambda _, given, made: layers.append(_bytes(given) + _bytes(made)))
        for module in model.model.modules()
    ]
    try:
        run([Image.new("RGB", (SIDE, SIDE))])
    finally:
        for hook in hooks:
            hook.remove()
    refuse_beyond_free(model.name, max(layers) / SIDE**2, size, count)


def refuse_beyond_free(name: str, pixel_bytes: float, size: tuple[int, int], count: int) -> None:
    """Raise CourseError if `count` pictures of `size` need more memory than is free.

    name: the model's, for the error. pixel_bytes: bytes per pixel in the layer that needs the most.
    """
    import psutil

    needed = count * size[0] * size[1] * pixel_bytes
    if needed > (free := psutil.virtual_memory().available):
        what = (
            f"{name} needs more than {needed / 2**30:,.1f} GiB for {count} x {size[0]} x {size[1]} pixels, "
        )
        what += f"{pixel_bytes:,.0f} bytes each in one layer, and {free / 2**30:,.1f} GiB are free"
        raise CourseError(what, f"choose at most {free / count / pixel_bytes:,.0f} pixels for each picture")


def _bytes(value: Any) -> int:
    """Return the bytes of a tensor, or of those in a tuple."""
    if isinstance(value, tuple | list):
        return sum(map(_bytes, value))
    return int(getattr(value, "nbytes", 0))
