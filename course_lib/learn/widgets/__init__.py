"""Widgets: controls in, text and a picture out."""

from course_lib.learn.widgets.explorer import Choice, Explorer, Range, Shown, Text

__all__ = ["Choice", "Explorer", "Range", "Shown", "Text"]
