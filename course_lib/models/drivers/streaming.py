"""Text out of an engine token by token, each in a thread of its own while the reader takes the pieces."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")


def from_thread(work: Callable[[Callable[[T], None], threading.Event], object]) -> Generator[T, None, None]:
    """Run `work(put, left)` in a thread, and yield what it puts as it comes. `left` is set once nobody reads any more.

    An error of `work` is raised here.
    """
    said: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    def run() -> None:
        try:
            work(lambda piece: said.put((piece,)), left)
            said.put(None)
        except BaseException as error:
            said.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while (piece := said.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece[0]
    finally:
        left.set()


def streamed(tokenizer: Any, write: Callable[..., object]) -> Iterator[str]:
    """Run transformers' `write(streamer=..., stopping_criteria=...)`, and yield each token's text as it comes.

    transformers' own streamer waits for the end of a word, which would falsify the time to the first token. A token that ends
    within a character gives its text with the next. Leaving the loop early ends the writing, and waits for its end.
    """
    from tokenizers.decoders import DecodeStream
    from transformers import StoppingCriteria
    from transformers.generation.streamers import BaseStreamer

    ended = threading.Event()

    class Pieces(BaseStreamer):
        def __init__(self, put: Callable[[str], None]) -> None:
            self.decoder, self.prompt, self.say = DecodeStream(skip_special_tokens=True), True, put

        def put(self, value: Any) -> None:
            if not self.prompt and (
                piece := self.decoder.step(tokenizer.backend_tokenizer, int(value.flatten()[0]))
            ):
                self.say(piece)
            self.prompt = False  # the first thing that is put is the prompt

        def end(self) -> None:
            pass

    class Left(StoppingCriteria):
        def __init__(self, left: threading.Event) -> None:
            self.left = left

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            import torch

            return torch.full((len(input_ids),), self.left.is_set(), device=input_ids.device)

    def work(put: Callable[[str], None], left: threading.Event) -> None:
        try:
            write(streamer=Pieces(put), stopping_criteria=[Left(left)])
        finally:
            ended.set()

    try:
        with closing(from_thread(work)) as pieces:
            yield from pieces
    finally:
        ended.wait()
