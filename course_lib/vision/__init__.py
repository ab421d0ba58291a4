"""Models that describe, draw and enlarge pictures or recognise faces, and safe reading of picture files.

`course_lib.load` returns these models; docs/pictures.md describes them.
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.vision.pickles import to_safetensors
    from course_lib.vision.pictures import open_picture

__all__ = ["open_picture", "to_safetensors"]
_MODULES = {"open_picture": "pictures", "to_safetensors": "pickles"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
