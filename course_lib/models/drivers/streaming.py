"""Streams of text: pieces from a thread as they are generated, and the end at a stop text."""

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
    """Run `work(put, stop)` in a thread and yield every item that it puts. Its errors are raised here.

    The event `stop` is set once the reader has left the loop.
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
    """Run transformers' `generate(stopping_criteria=...)` of one prompt and yield the text of each token.

    transformers' own streamer waits for the end of a word, which would falsify the time to the first token.
    A token that ends within a character gives its text with the next one. Leaving the loop early stops the
    generation and waits for its end.
    """
    from tokenizers.decoders import DecodeStream
    from transformers import StoppingCriteria

    ended = threading.Event()

    class StreamTokens(StoppingCriteria):
        """Called after every token: passes its text on, and stops the generation once the reader has left."""

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
    """`text` up to the first of `stops`."""
    return text[: min((at for s in stops if (at := text.find(s)) >= 0), default=len(text))]


def without_stops(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a stream up to the first of `stops`. Text that may begin a stop text is held back."""
    held, keep = "", max(map(len, stops), default=1) - 1
    for piece in pieces:
        held += piece
        if (cut := before_stop(held, stops)) != held:
            yield cut
            return
        if len(held) > keep:
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
    yield held
