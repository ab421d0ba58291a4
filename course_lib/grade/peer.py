"""Let two processes call each other's functions over two pipes, with one line of JSON per message.

`judge` is one side; `worker`, in which a learner's answer runs, is the other.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from course_lib.grade.values import Foreign, decode, decode_error, decode_record, encode, encode_error

T = TypeVar("T")
LARGEST_MESSAGE, LARGEST_TOTAL = 4_000_000, 40_000_000  # bytes of one message, and of all received ones
MOST_WARNINGS, LONGEST_WARNING = 20, 300  # warnings sent after one call; characters of each


class PeerFailed(BaseException):
    """The other process cannot go on. As a BaseException it passes a checker's `except Exception`."""


class Gone(PeerFailed):
    """The other process ended, or closed its pipe."""


class Broken(PeerFailed):
    """The other process sent something that is not a message."""


class Peer:
    """One end of the two pipes. While it waits for a reply, it serves the other side's calls.

    read_fd, write_fd: file descriptors. catch: the exceptions of this side's functions that are sent to the
    other side. trusts: whether records (dataclass instances) from the other side are rebuilt on this side.
    """

    def __init__(
        self, read_fd: int, write_fd: int, *, catch: type[BaseException] = Exception, trusts: bool = False
    ) -> None:
        self.read_fd, self.write_fd, self.catch, self.trusts = read_fd, write_fd, catch, trusts
        self._buffer, self._received = bytearray(), 0
        self._shared: list[Any] = []  # the functions and iterators of this side that the other side may call
        self._numbers: dict[int, int] = {}  # id -> place in `_shared`, which keeps the objects alive

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. Raises Gone if nobody reads any more."""
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.write_fd, data) :]
        except OSError as error:
            raise Gone(str(error)) from error

    def receive(self) -> dict[str, Any]:
        """Return the next message. Raises Gone, or Broken for a message that is too long or is not one."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > LARGEST_MESSAGE:
                raise Broken(f"more than {LARGEST_MESSAGE / 1e6:.0f} MB in one message")
            try:
                data = os.read(self.read_fd, 1 << 16)
            except OSError as error:
                raise Gone(str(error)) from error
            if not data:
                raise Gone("the pipe was closed")
            self._buffer += data
            self._received += len(data)
            if self._received > LARGEST_TOTAL:
                raise Broken(f"more than {LARGEST_TOTAL / 1e6:.0f} MB in all")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Broken(f"not JSON: {error}") from error
        if not isinstance(message, dict):
            raise Broken("not a message")
        return message

    def serve(self) -> None:
        """Serve the other side's calls until it is gone."""
        while True:
            self._serve_one(self.receive())

    def pack(self, value: Any) -> Any:
        """Return a value in a form that JSON can hold; functions and iterators become references."""
        return encode(value, self._refer)

    def unpack(self, value: Any) -> Any:
        """Return the value that the other side packed. Raises Broken if it is not a packed value."""
        return self._read(lambda: decode(value, self._resolve))

    def _read(self, reader: Callable[[], T]) -> T:
        """Return the result of `reader`, which reads a message. Raises Broken if the message is malformed."""
        try:
            return reader()
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError) as error:
            raise Broken(f"{type(error).__name__}: {error}") from error

    def _refer(self, value: Any) -> dict[str, int]:
        """Return a reference: kind and number, "yours" for an object that is the other side's."""
        if isinstance(value, (RemoteFunction, RemoteIterator)) and value.peer is self:
            return {"yours": value.number}  # an object that belongs to the receiver
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._shared)
            self._shared.append(value)
        return {"function" if callable(value) else "iterator": self._numbers[id(value)]}

    def _resolve(self, reference: dict[str, Any]) -> Any:
        """Return the object for a reference. Records are rebuilt only if the other side is trusted."""
        (kind, number) = next(iter(reference.items()))
        if kind == "record" and self.trusts:
            return decode_record(reference, self._resolve)
        if kind == "record":
            return Foreign(f"a {reference['class']}")
        if kind == "yours":
            return self._shared[int(number)]
        return {"function": RemoteFunction, "iterator": RemoteIterator}[kind](self, int(number))

    def call(self, number: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the other side's object with this number, and return its result or raise its exception.

        If the call changed an argument that is a list, dict, set or array, it is changed on this side too,
        but not one inside a tuple or another object.
        """
        self.send({"call": number, "arguments": self.pack(arguments), "named": self.pack(named)})
        reply = self.receive()
        while "call" in reply:
            self._serve_one(reply)
            reply = self.receive()
        by_place = _places(arguments, named)
        warned, changed = self._read(
            lambda: (
                [str(text) for text in reply["warnings"]],
                [(by_place[place], self.unpack(value)) for place, value in reply["changed"]],
            )
        )
        for text in warned:
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        for target, value in changed:
            self._read(partial(_assign, target, value))
        if "error" in reply:
            raise self._read(lambda: decode_error(reply))
        return self.unpack(reply.get("value"))

    def _serve_one(self, message: dict[str, Any]) -> None:
        """Call what the other side asks for, and send the result."""
        function, arguments, named = self._read(
            lambda: (
                self._shared[int(message["call"])],
                tuple(self.unpack(message["arguments"])),
                dict(self.unpack(message["named"])),
            )
        )
        by_place = _places(arguments, named)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                before = {place: json.dumps(self.pack(value)) for place, value in by_place.items()}
                value = function(*arguments, **named) if callable(function) else next(function)
                after = {place: self.pack(value) for place, value in by_place.items()}
                changed = [[p, packed] for p, packed in after.items() if json.dumps(packed) != before[p]]
                reply = {"value": self.pack(value), "changed": changed}
                json.dumps(reply)  # a whole number of 5,000 digits, for example, cannot be written
            except PeerFailed:
                raise
            except self.catch as error:
                reply = {**encode_error(error), "changed": []}
        reply["warnings"] = [str(w.message)[:LONGEST_WARNING] for w in warned[:MOST_WARNINGS]]
        self.send(reply)


def _places(arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[int | str, Any]:
    """Return place or name -> argument."""
    return dict(enumerate(arguments)) | named


class RemoteFunction:
    """A function of the other side."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer, self.number = peer, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.peer.call(self.number, arguments, named)


class RemoteIterator:
    """An iterator of the other side, which computes each item when it is asked for."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer, self.number = peer, number

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.peer.call(self.number, (), {})


def _assign(target: Any, value: Any) -> None:
    """Make `target` equal to `value` in place, where its type allows that."""
    if isinstance(target, list) and isinstance(value, list):
        target[:] = value
    elif isinstance(target, (dict, set)) and isinstance(value, type(target)):
        target.clear()
        target.update(value)
    elif hasattr(target, "__array__") and getattr(value, "shape", None) == getattr(target, "shape", ()):
        target[...] = value
