"""The text that a classifier reads: of a row of a table, by a template or from the column text or message."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

import numpy as np

from course_lib.errors import CourseError

Row = str | Mapping[str, Any]  # a text, or a row of a table as column -> value
Template = str | Callable[[Mapping[str, Any]], str]
TEXT_COLUMNS = ("text", "message")  # the columns that are read without a template


def as_text(row: Row, template: Template | None = None) -> str:
    """Return the text to classify. Raises CourseError if it or a column of the template is empty or missing.

    >>> as_text({"product": "Blue Card", "text": "It is lost."}, "{product}: {text}")
    'Blue Card: It is lost.'
    """
    if isinstance(row, str):
        text: Any = row
    else:
        columns = [str(name) for name in row.keys()]  # noqa: SIM118 - a pandas Series iterates its values
        try:
            if template is None:
                name = next((name for name in TEXT_COLUMNS if name in columns), "text")
                text = row[name]
            else:
                text = template(row) if callable(template) else _filled(template, dict(row.items()))
        except KeyError as error:
            what = f"the row has no column {error}; it has {', '.join(columns)}"
            raise CourseError(what, f'template="{{{columns[0] if columns else "text"}}}"') from error
    if not isinstance(text, str) or not text.strip():
        raise CourseError(f"the text to classify is {text!r}", "drop rows without a text: frame.dropna()")
    return text


def _filled(template: str, row: dict[Any, Any]) -> str:
    """Return a template with the values of a row. Raises CourseError where a value is missing."""
    fields = (re.split(r"[.\[]", name)[0] for _, name, _, _ in Formatter().parse(template) if name)
    for name in fields:
        value = row.get(name, "")
        is_na = type(value).__name__ in ("NAType", "NaTType")  # pandas' NA and NaT, without importing pandas
        if value is None or is_na or (np.isscalar(value) and value != value):  # the last is for NaN
            what = f"the column {name!r} of a row is empty: {value!r}"
            raise CourseError(what, f'frame.fillna({{"{name}": ""}})')
    return template.format_map(row)
