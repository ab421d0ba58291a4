"""Widgets of the chapters: controls in, text and a picture out."""

from course_lib.learn.widgets.explorer import Choice, Explorer, Output, Range, Text

__all__ = ["Choice", "Explorer", "Output", "Range", "Text"]
