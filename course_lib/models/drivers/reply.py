"""The input and output of a language model, `Prompt`, `Reply` and `Stream`, and a model's usage counters."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Turn = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
Prompt = str | Sequence[Turn]  # a text, or the turns of a conversation
FinishReason = Literal["stop", "length"]


class Reply(str):
    """The text of an answer, with the number of its tokens and of its prompt's tokens.

    finish_reason: "stop" if the model ended the answer, "length" if max_output_length did.
    """

    prompt_tokens: int
    tokens: int
    finish_reason: FinishReason

    def __new__(cls, text: str, prompt_tokens: int, tokens: int, finish_reason: FinishReason) -> Reply:
        reply = super().__new__(cls, text)
        reply.prompt_tokens, reply.tokens, reply.finish_reason = prompt_tokens, tokens, finish_reason
        return reply

    def __getnewargs__(self) -> tuple[str, int, int, FinishReason]:  # type: ignore[override]
        """The arguments of __new__ for pickle and copy."""
        return str(self), self.prompt_tokens, self.tokens, self.finish_reason


class Stream(Iterator[str]):
    """The pieces of an answer, as the model generates them.

    reply: the whole answer with its token counts and finish reason, once the iteration has ended; None before
    that, and if a remote server reports no counts for streams.
    """

    reply: Reply | None = None

    def __init__(
        self, pieces: Generator[str, None, Reply | None], counters: Counters, started_at: float
    ) -> None:
        self._pieces, self._counters, self._started_at = pieces, counters, started_at
        self._is_first = True

    def __next__(self) -> str:
        try:
            piece = next(self._pieces)
        except StopIteration as end:
            self.reply = end.value if self.reply is None else self.reply
            raise
        if self._is_first:
            self._counters.first_piece_seconds.append(time.perf_counter() - self._started_at)
            self._is_first = False
        return piece

    def close(self) -> None:
        """Stop the model, if it still generates."""
        self._pieces.close()


@dataclass
class Counters:
    """Totals over a loaded model's calls of `generate`, without streams: requests, tokens, and seconds.

    load_seconds: The time to load the model. first_piece_seconds: The time from the call of `stream` to its
    first piece, for the last hundred streams.
    """

    load_seconds: float = 0.0
    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    first_piece_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, replies: Sequence[Reply], seconds: float) -> None:
        """Count the replies of one call."""
        with self._lock:
            self.requests += len(replies)
            self.prompt_tokens += sum(r.prompt_tokens for r in replies)
            self.tokens += sum(r.tokens for r in replies)
            self.seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens that `generate` wrote per second, the time to read prompts included; 0 before any answer."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def ttft(self) -> float | None:
        """Time to first token: the median of first_piece_seconds, or None before the first stream."""
        return statistics.median(self.first_piece_seconds) if self.first_piece_seconds else None
