"""From a source to files on this machine that are complete and safe to read: folders, GGUF files, the hub's cache."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.files.resolution import resolve

__all__ = ["resolve"]
_MODULES = {"resolve": "resolution"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
