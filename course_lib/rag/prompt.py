"""The prompt format of the course's models: passages, question and options as they were trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

REFUSAL = "Not in the handbook."
LETTERS = "ABCDEFGHIJ"


class Source(NamedTuple):
    """Title and text of a passage in a prompt."""

    title: str
    text: str


def context_block(passages: Sequence[Source]) -> str:
    """`[1] Title` and text of each passage, numbered from 1."""
    return "\n".join(f"[{i}] {p.title}\n{p.text}" for i, p in enumerate(passages, 1))


def question_block(question: str, options: Sequence[str] = ()) -> str:
    """The question and its options, if any. Each option is followed by its letter, as in an answer.

    Raises ValueError for more than ten options.
    """
    if len(options) > len(LETTERS):
        raise ValueError(f"{len(options)} options; at most {len(LETTERS)} can be lettered")
    lines = [f"Question: {question}"]
    return "\n".join(lines + [f"{text} ({letter})" for letter, text in zip(LETTERS, options, strict=False)])


def question_prompt(question: str, passages: Sequence[Source] = (), options: Sequence[str] = ()) -> str:
    """The user's turn: passages first, then the question.

    >>> print(question_prompt("When does it open?", [Source("Hours", "It opens at 09:00.")]))
    [1] Hours
    It opens at 09:00.
    Question: When does it open?
    """
    blocks = [context_block(passages)] if passages else []
    return "\n".join([*blocks, question_block(question, options)])


def chosen_option(answer: str, options: Sequence[str]) -> str:
    """The answer to a multiple-choice question as the model writes it: the text, then the letter."""
    return f"{answer} ({LETTERS[list(options).index(answer)]})"


def label_prompt(message: str, examples: Sequence[tuple[str, str]]) -> str:
    """The user's turn for classification: labelled examples, then the message to label.

    A label stands on a line of its own, so that it has the same tokens there as in the answer. After a space
    it would have others, and a small model cannot copy tokens that it has never seen.
    """
    shots = "".join(f"Message: {text}\nLabel:\n{label}\n" for text, label in examples)
    return f"{shots}Message: {message}\nLabel:"
