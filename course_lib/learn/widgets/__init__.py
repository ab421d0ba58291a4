"""The interactive widgets of the chapters: controls, and a text and picture that depend on their values."""

from course_lib.learn.widgets.explorer import Choice, Explorer, Output, Range, Text

__all__ = ["Choice", "Explorer", "Output", "Range", "Text"]
