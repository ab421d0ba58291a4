"""Upscaling with transformers: Swin2SR (Conde et al. 2022, arXiv:2209.11345)."""

from __future__ import annotations

from typing import Any, Self

from course_lib.errors import CourseError
from course_lib.models.schema.spec import ModelSpec
from course_lib.vision.torch_model import TorchPictures


class Swin2SR(TorchPictures):
    """A Swin2SR model."""

    task, driver = "image-upscale", "huggingface"
    capabilities = frozenset({"upscale"})
    auto_class = "AutoModelForImageToImage"

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        model = super().load(spec)
        model.scale = int(model.model.config.upscale)
        check_scale(spec, model.scale)
        return model

    def _upscale(self, pictures: list[Any]) -> list[Any]:
        return [self._enlarged(picture) for picture in pictures]

    def _enlarged(self, picture: Any) -> Any:
        import torch

        with torch.inference_mode():
            output = self.model(pixel_values=self.pixels([picture])).reconstruction
        return to_picture(output[0], (picture.width * self.scale, picture.height * self.scale))


def check_scale(spec: ModelSpec, scale: int) -> None:
    """Raise CourseError if the specification asks for another factor than the model's."""
    if spec.params.scale not in (None, scale):
        what = f"params.scale is {spec.params.scale}, but {spec.name} enlarges {scale} times"
        raise CourseError(what, f'load(..., params={{"scale": {scale}}})')


def to_picture(values: Any, size: tuple[int, int]) -> Any:
    """Values from 0 to 1, (3, height, width), as a picture; what was padded at the right and below is cut.

    size: width and height of the picture.
    """
    import torch
    from PIL import Image

    width, height = size
    bytes_ = (values[:, :height, :width].float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(bytes_.permute(1, 2, 0).cpu().numpy())
