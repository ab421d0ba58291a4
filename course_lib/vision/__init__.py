"""Pictures: the models that read, draw and enlarge them, and the hygiene of picture files.

`course_lib.load` returns these models. Needs the extra `vision` for the drivers spandrel and onnxruntime.
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.vision.pictures import open_picture
    from course_lib.vision.pixel_diffusion import PixelDiffusionPipeline

__all__ = ["PixelDiffusionPipeline", "open_picture"]
_MODULES = {"open_picture": "pictures", "PixelDiffusionPipeline": "pixel_diffusion"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
