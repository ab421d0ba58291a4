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
    """Run transformers' `generate(streamer=..., stopping_criteria=...)` and yield the text of each token.

    transformers' own streamer waits for the end of a word, which would falsify the time to the first token.
    A token that ends within a character gives its text with the next one. Leaving the loop early stops the
    generation and waits for its end.
    """
    from tokenizers.decoders import DecodeStream
    from transformers import StoppingCriteria
    from transformers.generation.streamers import BaseStreamer

    ended = threading.Event()

    class TokenStreamer(BaseStreamer):
        def __init__(self, put_piece: Callable[[str], None]) -> None:
            self.decoder, self.is_prompt = DecodeStream(skip_special_tokens=True), True
            self.put_piece = put_piece

        def put(self, value: Any) -> None:
            if self.is_prompt:  # the first value is the prompt
                self.is_prompt = False
            elif piece := self.decoder.step(tokenizer.backend_tokenizer, int(value.flatten()[0])):
                self.put_piece(piece)

        def end(self) -> None:
            pass

    class ReaderLeft(StoppingCriteria):
        def __init__(self, stop: threading.Event) -> None:
            self.stop = stop

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            import torch

            return torch.full((len(input_ids),), self.stop.is_set(), device=input_ids.device)

    def work(put: Callable[[str], None], stop: threading.Event) -> None:
        try:
            generate(streamer=TokenStreamer(put), stopping_criteria=[ReaderLeft(stop)])
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
