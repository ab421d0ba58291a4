"""Stream generated text: yield pieces from the thread that generates them, and end before a stop text."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")


def iterate_in_thread(
    work: Callable[[Callable[[T], None], threading.Event], object],
) -> Generator[T, None, None]:
    """Run `work(put, stop)` in a thread, yield every item that it passes to `put`, and raise its errors.

    The event `stop` is set when the consumer leaves the loop.
    """
    items: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        try:
            work(lambda item: items.put((item,)), stop)
            items.put(None)
        except BaseException as error:
            items.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while (item := items.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stop.set()


def stream_tokens(tokenizer: Any, generate: Callable[..., object]) -> Iterator[str]:
    """Call `generate(stopping_criteria=...)` for one prompt and yield the text of each token.

    transformers' own streamer waits for the end of a word, which would falsify the time to the first token. A
    token that ends in the middle of a character is yielded together with the next one. Leaving the loop early
    stops the generation and waits until it has ended.
    """
    from tokenizers.decoders import DecodeStream
    from transformers import StoppingCriteria

    ended = threading.Event()

    class StreamTokens(StoppingCriteria):
        """Called after every token: puts its text, and stops the generation when the consumer has left."""

        def __init__(self, put: Callable[[str], None], stop: threading.Event) -> None:
            self.put, self.stop, self.decoder = put, stop, DecodeStream(skip_special_tokens=True)

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            if piece := self.decoder.step(tokenizer.backend_tokenizer, int(input_ids[0, -1])):
                self.put(piece)
            return input_ids.new_full((1,), self.stop.is_set(), dtype=bool)

    def work(put: Callable[[str], None], stop: threading.Event) -> None:
        try:
            generate(stopping_criteria=[StreamTokens(put, stop)])
        finally:
            ended.set()

    try:
        with closing(iterate_in_thread(work)) as pieces:
            yield from pieces
    finally:
        ended.wait()


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The part of `text` before the first occurrence of any of `stops`."""
    return text[: min((i for stop in stops if (i := text.find(stop)) >= 0), default=len(text))]


def without_stops(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield the pieces of a stream before the first of `stops`; text that may begin one is held back."""
    buffer, held_back = "", max(map(len, stops), default=1) - 1
    for piece in pieces:
        buffer += piece
        if (text := before_stop(buffer, stops)) != buffer:
            yield text
            return
        if len(buffer) > held_back:
            end = len(buffer) - held_back
            yield buffer[:end]
            buffer = buffer[end:]
    yield buffer
