"""Convert values to JSON and back, for `peer`. Without pickle: data of an untrusted process stay plain data.

Numbers, texts, bytes, lists, tuples, dicts, sets, ranges and NumPy arrays are restored as they were.
Functions and iterators stay in their process; the other side gets a reference that it can call. Records,
which are dataclass instances of the course, are rebuilt only by the process that runs the answer. For any
other object, the name of its type and its `repr` are sent.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

PLAIN = (bool, int, float, str)  # types that JSON keeps as they are
# Name in the JSON -> type.
SEQUENCES: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "list": list,
}
ARRAY_KINDS = "biufcU"  # NumPy's kinds of numbers, booleans and texts; no Python objects
LONGEST_TEXT = 300  # characters of a repr or of an exception's message


class Foreign:
    """Stands for an object that cannot be sent. Its class has the name of the object's class."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def encode(value: Any, refer: Callable[[Any], dict[str, int]]) -> Any:
    """Return `value` as a JSON value. refer: registers a function or iterator, and returns its reference."""
    if value is None or type(value) in PLAIN:
        return value
    if value is ...:
        return {"ellipsis": 0}
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(value, "__array__"):
        array = numpy.asarray(value)
        if array.dtype.kind in ARRAY_KINDS:
            data = base64.b64encode(numpy.ascontiguousarray(array).tobytes()).decode()
            kind = "scalar" if isinstance(value, numpy.generic) else "array"
            return {kind: data, "dtype": array.dtype.str, "shape": list(array.shape)}
    for plain in (str, bool, int, float):  # subclasses
        if isinstance(value, plain):
            return plain(value)
    return _encode_container(value, refer)


def _encode_container(value: Any, refer: Callable[[Any], dict[str, int]]) -> Any:
    if isinstance(value, dict):
        return {"dict": [[encode(k, refer), encode(v, refer)] for k, v in value.items()]}
    for name, kind in SEQUENCES.items():
        if isinstance(value, kind):  # type: ignore[arg-type]
            return {name: [encode(item, refer) for item in value]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if is_record(value):
        fields = {f.name: encode(getattr(value, f.name), refer) for f in dataclasses.fields(value)}
        return {"record": fields, "class": type(value).__qualname__, "module": type(value).__module__}
    if callable(value) or isinstance(value, Iterator):
        return refer(value)
    return {"foreign": _text(repr, value), "class": type(value).__name__}


def is_record(value: object) -> bool:
    """Whether a value is an instance of one of the course's dataclasses."""
    of_course = type(value).__module__.startswith("course_lib.")
    return of_course and dataclasses.is_dataclass(value) and not isinstance(value, type)


def decode_record(value: dict[str, Any], resolve: Callable[[dict[str, Any]], Any]) -> Any:
    """Return the dataclass instance that `encode` encoded. Only for values from a trusted process."""
    kind = getattr(importlib.import_module(value["module"]), value["class"])
    return kind(**{name: decode(field, resolve) for name, field in value["record"].items()})


def decode(value: Any, resolve: Callable[[dict[str, Any]], Any]) -> Any:
    """Return the value that `encode` encoded. resolve: returns the object for a reference or a record.

    Raises ValueError for JSON that `encode` does not produce.
    """
    if value is None or isinstance(value, PLAIN):
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError("not a value")
    kind, content = next(iter(value.items()))
    if kind == "dict":
        return {decode(k, resolve): decode(v, resolve) for k, v in content}
    if kind in SEQUENCES:
        return SEQUENCES[kind](decode(item, resolve) for item in content)
    if kind in ("array", "scalar"):
        return _decode_array(value, base64.b64decode(content))
    makers: dict[str, Callable[[], Any]] = {
        "ellipsis": lambda: ...,
        "bytes": lambda: base64.b64decode(content),
        "complex": lambda: complex(*content),
        "fraction": lambda: Fraction(*map(_whole, content)),  # Fraction("1e999999999") computes for hours
        "range": lambda: range(*content),
        "foreign": lambda: _class(str(value["class"]), Foreign)(str(content)),
    }
    return makers[kind]() if kind in makers else resolve(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r:.60} is no whole number")
    return value


def _decode_array(value: dict[str, Any], data: bytes) -> Any:
    import numpy as np

    dtype = np.dtype(str(value["dtype"]))
    if dtype.kind not in ARRAY_KINDS:
        raise ValueError(f"an array of {dtype}")
    array = np.frombuffer(data, dtype).reshape(value["shape"]).copy()
    return array[()] if "scalar" in value else array


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return an exception as its class and message, and its arguments if all are plain values."""
    kind = type(error)
    plain = all(isinstance(a, (*PLAIN, bytes, type(None))) for a in error.args)
    arguments = encode(list(error.args), dict) if plain else {"list": [_text(str, error)]}
    text = _text(str, error)
    return {"error": kind.__name__, "module": kind.__module__, "text": text, "arguments": arguments}


def decode_error(message: dict[str, Any]) -> Exception:
    """Return the exception that `encode_error` encoded.

    If its class is one of Python, NumPy or the course, that class is used, else a new one of the same name.
    """
    name, module = str(message.get("error")), str(message.get("module"))
    known = module.partition(".")[0] in {*sys.stdlib_module_names, "builtins", "numpy", "course_lib"}
    kind = getattr(sys.modules.get(module), name, None) if known else None
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = _class(name, Exception)
    arguments = decode(message.get("arguments"), dict)
    try:
        return kind(*arguments) if module == "builtins" else _made(kind, arguments)
    except TypeError:
        return _made(kind, [str(message.get("text"))])


def _made(kind: type[Exception], arguments: list[Any]) -> Exception:
    """Return an exception without calling its class's own __init__, which may want other arguments."""
    error = kind.__new__(kind, *arguments)
    error.args = tuple(arguments)
    return error


def printable(text: str) -> str:
    """Return a text with control and other unprintable characters, except line breaks, replaced by U+FFFD."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _class(name: str, base: type) -> Any:
    return type(name[:80] if name.isidentifier() else base.__name__, (base,), {})


def _text(show: Callable[[Any], str], value: Any) -> str:
    try:
        text = show(value)
    except Exception as error:  # an object's own __repr__ may fail
        text = f"{type(value).__name__} object, whose text cannot be shown: {type(error).__name__}"
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."
