"""Get a model's files from its source (hub, package, folder or .gguf file), and check them."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.files.resolution import check_entry, has_size, on_this_machine, require, resolve

__all__ = ["check_entry", "has_size", "on_this_machine", "require", "resolve"]
_MODULES = dict.fromkeys(__all__, "resolution")
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
