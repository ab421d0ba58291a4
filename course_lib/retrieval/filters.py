"""Filters: search only documents whose metadata meet a condition.

A filter is a mapping such as {"lang": "ko", "year": [2023, 2024]}, or a function from the metadata to bool.

The rule for mappings: each field must have the wanted value, or one of several wanted values. A field that
holds a list matches if one of its items does. Values are compared with ==; texts (and fields) match whether
"é" is one Unicode character or two (`nfc` makes it one). Comparisons, "not" and "or" across fields need a
function. Operators of other search libraries, such as {"$gte": 2021}, are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.names import nfc

if TYPE_CHECKING:
    from langchain_core.documents import Document

Filter = Mapping[str, Any] | Callable[[Mapping[str, Any]], bool]
PYTHON_OPERATORS = {  # of the operators in MongoDB's dialect, which many vector stores use
    "$eq": "==",
    "$ne": "!=",
    "$gt": ">",
    "$gte": ">=",
    "$lt": "<",
    "$lte": "<=",
    "$in": "in",
    "$nin": "not in",
}


def matching_ids(documents: Mapping[str, Document], condition: Filter) -> set[str]:
    """Return the keys of the documents that match a filter. Without a field, all match.

    Raises CourseError for anything but a mapping or a function, for an operator, for a field that no document
    has, and for a value of a type that the field has in no document ("2020" where all years are numbers).
    Errors of a function are not caught.
    """
    if callable(condition):
        return {key for key, document in documents.items() if condition(document.metadata)}
    if not isinstance(condition, Mapping):
        raise CourseError(
            f"filter={condition!r:.80} is neither a mapping nor a function", 'filter={"lang": "ko"}'
        )
    ids = set(documents)
    for field, wanted in condition.items():
        ids &= _matching_field(documents, field, wanted)
    return ids


def _matching_field(documents: Mapping[str, Document], field: Any, wanted: Any) -> set[str]:
    """Return the keys of the documents that have a wanted value in a field. Raises as `matching_ids` does."""
    _check_operators(field, wanted)
    wanted_values, values = _values(wanted), dict[str, list[Any]]()
    for key, document in documents.items():
        if (name := _name_in(document.metadata, field)) in document.metadata:
            values[key] = _values(document.metadata[name])
    if documents and not values:
        first = next(iter(documents.values())).metadata
        raise CourseError(
            f"no document has the metadata field {field!r}; the first document has: "
            f"{', '.join(map(str, first)) or 'none'}",
            "filter by a field that the documents have",
        )
    types = {_type(value): value for held in values.values() for value in held}
    for value in wanted_values:
        if types and value is not None and _type(value) not in types:
            example = next(iter(types.values()))
            raise CourseError(
                f"filter: {field}={value!r:.60} is of type {type(value).__name__}, which the field has in no "
                f"document; a value that it has is {example!r:.60}",
                f"filter={{{field!r}: {example!r:.60}}}",
            )
    return {key for key, held in values.items() if any(value in wanted_values for value in held)}


def _name_in(metadata: Mapping[Any, Any], field: Any) -> Any:
    """Return the name of a field as these metadata have it, maybe in the other Unicode form."""
    if field in metadata:
        return field
    return next((name for name in metadata if _comparable(name) == _comparable(field)), field)


def _values(value: Any) -> list[Any]:
    """Return the items of a list, array, range or other iterable, or the single value, to be compared."""
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy's arrays and numbers
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return [_comparable(item) for item in value]
    return [_comparable(value)]


def _comparable(value: Any) -> Any:
    return nfc(value) if isinstance(value, str) else value


def _type(value: Any) -> type:
    """Return the type of a value, one for all kinds of numbers, because 2020 == 2020.0."""
    return Number if isinstance(value, Number) else type(value)


def _check_operators(field: Any, wanted: Any) -> None:
    """Raise CourseError for {"$and": ...} and for {field: {"$gte": ...}}."""
    if isinstance(field, str) and field.startswith("$"):
        raise CourseError(
            f"filter: {field} is an operator, and a filter has fields only",
            'filter=lambda metadata: metadata["year"] == 2020 or metadata["lang"] == "ko"',
        )
    if isinstance(wanted, Mapping):
        access = f"metadata[{field!r}]"  # Python code for the fix
        known = [(PYTHON_OPERATORS[name], v) for name, v in wanted.items() if name in PYTHON_OPERATORS]
        tests = [f"{access} {operator} {v!r:.60}" for operator, v in known]
        if not any(str(name).startswith("$") for name in wanted):
            tests = [f"{access} == {wanted!r:.60}"]
        elif len(tests) < len(wanted):  # an operator that is not in Python
            tests = [f"your_test({access})"]
        raise CourseError(
            f"filter: {field}={wanted!r:.60} is a mapping, such as other libraries use for operators; "
            "a filter has values only",
            f"filter=lambda metadata: {' and '.join(tests)}",
        )
