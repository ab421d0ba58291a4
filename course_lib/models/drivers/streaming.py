"""Text out of transformers token by token. Its own streamer waits for the end of a word, which would falsify the time to the
first token."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


def streamed(tokenizer: Any, write: Callable[..., object]) -> Iterator[str]:
    """Run `write(streamer=..., stopping_criteria=...)` in a thread, and yield each token's text as it comes.

    A token that ends within a character gives its text with the next. Leaving the loop early ends the writing.
    An error of `write` is raised here.
    """
    from tokenizers.decoders import DecodeStream
    from transformers import StoppingCriteria
    from transformers.generation.streamers import BaseStreamer

    said: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    class Pieces(BaseStreamer):
        def __init__(self) -> None:
            self.decoder, self.prompt = DecodeStream(skip_special_tokens=True), True

        def put(self, value: Any) -> None:
            if not self.prompt and (piece := self.decoder.step(tokenizer.backend_tokenizer, int(value.flatten()[0]))):
                said.put(piece)
            self.prompt = False  # the first thing that is put is the prompt

        def end(self) -> None:
            pass

    class Left(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            import torch

            return torch.full((len(input_ids),), left.is_set(), device=input_ids.device)

    def work() -> None:
        try:
            write(streamer=Pieces(), stopping_criteria=[Left()])
            said.put(None)
        except BaseException as error:
            said.put(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while (piece := said.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        left.set()
        worker.join()
