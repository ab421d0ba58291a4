"""Prompts and replies: what goes into a language model, what comes out, and the totals over many calls."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Turn = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
Prompt = str | Sequence[Turn]  # a text, or the turns of a conversation
FinishReason = Literal["stop", "length"]


class Reply(str):
    """The text of an answer, with its number of tokens and of those of its prompt.

    finish_reason: "stop" where the model ended the answer, "length" where max_output_length did.
    """

    prompt_tokens: int
    tokens: int
    finish_reason: FinishReason

    def __new__(cls, text: str, prompt_tokens: int, tokens: int, finish_reason: FinishReason) -> Reply:
        reply = super().__new__(cls, text)
        reply.prompt_tokens, reply.tokens, reply.finish_reason = prompt_tokens, tokens, finish_reason
        return reply

    def __getnewargs__(self) -> tuple[str, int, int, FinishReason]:  # type: ignore[override]
        """Pickle and copy with the counts."""
        return str(self), self.prompt_tokens, self.tokens, self.finish_reason


@dataclass
class Counters:
    """Totals over the calls of an engine: requests, tokens, seconds inside `generate`, and what loading took.

    first_piece_seconds: from the call of `stream` to its first piece, of the last hundred streams.
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
        """Generated tokens per second, with the time to read the prompts; 0 before the first answer."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def ttft(self) -> float | None:
        """Median time to the first piece of a stream in seconds; None before the first stream."""
        return statistics.median(self.first_piece_seconds) if self.first_piece_seconds else None
