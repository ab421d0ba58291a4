"""Two processes that call each other's functions over two pipes, a line of JSON a message."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from course_lib.grade.values import decode, decode_error, encode, encode_error

LARGEST_MESSAGE = 8_000_000  # bytes


class Ended(BaseException):
    """The other side cannot go on. No `except Exception` of a checker takes it for an error of the answer."""


class Gone(Ended):
    """The other process ended, or closed its pipe."""


class Broken(Ended):
    """The other process sent what is no message."""


class Peer:
    """One end of the two pipes. While it waits for a reply, it answers the other side's calls.

    read_fd, write_fd: file descriptors.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        self._buffer = bytearray()
        self._shared: list[Any] = []  # what the other side may call

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
                raise Broken(f"more than {LARGEST_MESSAGE / 1e6:.0f} MB in one value")
            if not (data := os.read(self.read_fd, 1 << 16)):
                raise Gone("the pipe was closed")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Broken(f"not JSON: {error}") from error
        if not isinstance(message, dict):
            raise Broken("not a message")
        return message

    def serve(self) -> None:
        """Answer calls until the other side is gone."""
        while True:
            self._answer(self.receive())

    def pack(self, value: Any) -> Any:
        """Return a value as what JSON can hold; functions and iterators become references."""
        return encode(value, self._refer)

    def unpack(self, value: Any) -> Any:
        """Return the value that the other side packed. Raises Broken if it is none."""
        return self._unpack(lambda packed: decode(packed, self._resolve), value)

    def _unpack(self, decoded: Callable[[Any], Any], value: Any) -> Any:
        try:
            return decoded(value)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
            raise Broken(f"not a value: {type(error).__name__}: {error}") from error

    def _refer(self, value: Any) -> dict[str, int]:
        if isinstance(value, (RemoteFunction, RemoteIterator)):
            return {"yours": value.number}
        self._shared.append(value)
        return {"function" if callable(value) else "iterator": len(self._shared) - 1}

    def _resolve(self, reference: dict[str, Any]) -> Any:
        (kind, number) = next(iter(reference.items()))
        if kind == "yours":
            return self._shared[int(number)]
        return {"function": RemoteFunction, "iterator": RemoteIterator}[kind](self, int(number))

    def call(self, number: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the other side's object with this number, and return its result or raise its exception.

        Lists, dicts and arrays among the arguments are changed here as they were changed there.
        """
        self.send({"call": number, "arguments": self.pack(arguments), "named": self.pack(named)})
        reply = self.receive()
        while "call" in reply:
            self._answer(reply)
            reply = self.receive()
        for text in reply.get("warnings", ()):
            warnings.warn(str(text), RuntimeWarning, stacklevel=3)
        for place, changed in reply.get("changed", ()):
            _assign(arguments[int(place)], self.unpack(changed))
        if "error" in reply:
            raise self._unpack(decode_error, reply)
        return self.unpack(reply.get("value"))

    def _answer(self, message: dict[str, Any]) -> None:
        """Call what the other side asks for, and send the result."""
        arguments, named = self.unpack(message.get("arguments")), self.unpack(message.get("named"))
        reply: dict[str, Any] = {}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            before = [json.dumps(self.pack(argument)) for argument in arguments]
            try:
                wanted = self._shared[int(message["call"])]
                result = wanted(*arguments, **named) if callable(wanted) else next(wanted)
                reply["value"] = self.pack(result)
                json.dumps(reply)  # a whole number of 5,000 digits, for example, cannot be written
            except Ended:
                raise
            except BaseException as error:  # of an answer, which may raise anything
                reply = encode_error(error)
            reply["changed"] = [
                [i, self.pack(a)] for i, a in enumerate(arguments) if json.dumps(self.pack(a)) != before[i]
            ]
        reply["warnings"] = [str(w.message)[:300] for w in warned[:20]]
        self.send(reply)


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
