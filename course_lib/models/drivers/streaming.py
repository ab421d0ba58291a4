"""Stream generated text: yield pieces from the thread that generates them, and end before a stop text."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")
INCOMPLETE = "\ufffd"  # decoders write it for bytes that are not a whole character


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


class TokenDecoder:
    """Decode the tokens of an answer one after the other into whole characters.

    The text of a token depends on the ones before it, so a few of those are decoded with it. vLLM uses the
    same method (vllm/transformers_utils/detokenizer_utils.py). Control tokens, such as <|im_end|>, have no
    text.
    """

    CONTEXT = 6  # tokens of the prompt that are decoded together with the first token

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._decode = tokenizer.backend_tokenizer.decode
        self._ids = list(prompt[-self.CONTEXT :])
        self._begin, self._end = 0, len(self._ids)  # the tokens before the next text; earlier ones are done

    def step(self, token: int) -> str:
        """The text that a token completes; it is empty within a character of several tokens."""
        self._ids.append(token)
        text = self._pending()
        if not text or text.endswith(INCOMPLETE):
            return ""
        self._begin, self._end = self._end, len(self._ids)
        return text

    def rest(self) -> str:
        """The whole characters before an incomplete one at the end of the answer."""
        return self._pending().rstrip(INCOMPLETE)

    def _pending(self) -> str:
        """The text of the tokens whose text has not been returned yet."""
        ids = self._ids[self._begin :]
        before, text = self._decode(ids[: self._end - self._begin]), self._decode(ids)
        return str(text[len(before) :])

    def decode(self, answer: Sequence[int]) -> str:
        """The text of a whole answer."""
        return "".join(map(self.step, answer)) + self.rest()


def whole_characters(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the pieces that are not empty, without an incomplete character at the end of the last one."""
    held_back = ""
    for piece in pieces:
        text = held_back + piece
        if complete := text.rstrip(INCOMPLETE):
            yield complete
        held_back = text[len(complete) :]


def stream_tokens(
    decoder: TokenDecoder, ends: Collection[int], generate: Callable[..., object], answer: list[int]
) -> Iterator[str]:
    """Call `generate(stopping_criteria=...)` for one prompt and yield the text of each token.

    transformers' own streamer waits for the end of a word, which would falsify the time to the first token.
    ends: tokens that end the answer and are no part of its text. answer: every token is appended to it.
    Leaving the loop early stops the generation and waits until it has ended.
    """
    from transformers import StoppingCriteria

    ended = threading.Event()

    class StreamTokens(StoppingCriteria):
        """Called after every token: puts its text, and stops the generation when the consumer has left."""

        def __init__(self, put: Callable[[str], None], stop: threading.Event) -> None:
            self.put, self.stop = put, stop

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            token = int(input_ids[0, -1])
            answer.append(token)
            if token not in ends and (piece := decoder.step(token)):
                self.put(piece)
            return input_ids.new_full((1,), self.stop.is_set(), dtype=bool)

    def work(put: Callable[[str], None], stop: threading.Event) -> None:
        try:
            generate(stopping_criteria=[StreamTokens(put, stop)])
            put(decoder.rest())
        finally:
            ended.set()

    try:
        with closing(iterate_in_thread(work)) as pieces:
            yield from pieces
    finally:
        ended.wait()


class StopTexts:
    """A stopping criterion of `generate`: ends each answer at the token that completes a stop text.

    transformers' own criterion also matches a stop text that begins in the prompt, and reads the whole
    vocabulary at every call.

    decoders: one for each prompt. ends: as for `stream_tokens`. stops: the stop texts. lengths: the tokens of
    each answer until now; those that follow a stop text are not counted.
    """

    def __init__(self, decoders: Sequence[TokenDecoder], ends: Collection[int], stops: Sequence[str]) -> None:
        self.decoders, self.ends, self.stops = decoders, ends, stops
        self.lengths, self._stopped = [0] * len(decoders), [False] * len(decoders)
        self._tails, self._longest = [""] * len(decoders), max(map(len, stops))

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        for i, token in enumerate(input_ids[:, -1].tolist()):
            if not self._stopped[i]:
                self.lengths[i] += 1
                text = self._tails[i] + (self.decoders[i].step(token) if token not in self.ends else "")
                self._stopped[i] = any(stop in text for stop in self.stops)
                self._tails[i] = text[max(0, len(text) - self._longest + 1) :]
        return input_ids.new_tensor(self._stopped, dtype=bool)


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
