"""From a source to complete, checked files on this machine: folders, GGUF files, the hub's cache."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.files.resolution import on_this_machine, resolve

__all__ = ["on_this_machine", "resolve"]
_MODULES = {"on_this_machine": "resolution", "resolve": "resolution"}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
