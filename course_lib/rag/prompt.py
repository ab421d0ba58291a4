"""Build prompts from passages, a question and its options, in the format the course's models were trained on.

The passages come from the handbook of Haneul Bank, the course's fictional bank. The exam is the course's set
of questions about its handbook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

REFUSAL = "Not in the handbook."  # what the models answer when no passage holds the answer
LETTERS = "ABCDEFGHIJ"


class Source(NamedTuple):
    """The title and text of a passage in a prompt."""

    title: str
    text: str


def context_block(passages: Sequence[Source]) -> str:
    """Join the passages, each as `[number] title` and its text, numbered from 1."""
    return "\n".join(f"[{i}] {p.title}\n{p.text}" for i, p in enumerate(passages, 1))


def question_block(question: str, options: Sequence[str] = ()) -> str:
    """Return the question and its options, one per line; each option is followed by its letter.

    Raises ValueError for more than ten options.
    """
    if len(options) > len(LETTERS):
        raise ValueError(f"{len(options)} options; at most {len(LETTERS)} can be lettered")
    lines = [f"Question: {question}"]
    return "\n".join(lines + [f"{text} ({letter})" for letter, text in zip(LETTERS, options, strict=False)])


def question_prompt(question: str, passages: Sequence[Source] = (), options: Sequence[str] = ()) -> str:
    """Return the prompt: first the passages, then the question.

    >>> print(question_prompt("When does it open?", [Source("Hours", "It opens at 09:00.")]))
    [1] Hours
    It opens at 09:00.
    Question: When does it open?
    """
    blocks = [context_block(passages)] if passages else []
    return "\n".join([*blocks, question_block(question, options)])


# Another bank's passages, with questions and answers of the three forms that the exam has.
WORKED_EXAMPLES = (
    (
        Source(
            "Opening hours of the Cedar branch",
            "The Cedar branch opens at 09:15 and closes at 16:00. Its cash machine is open all night.",
        ),
        "When does the Cedar branch open?",
        (),
        "09:15",
    ),
    (
        Source(
            "The Cedar Savings Plan",
            "The Cedar Savings Plan pays 2.40% a year. It runs for 12 months, and the smallest deposit is "
            "KRW 100,000.",
        ),
        "For how long does the Cedar Savings Plan run?",
        (),
        "12 months",
    ),
    (
        Source(
            "What the Cedar Gold Card costs",
            "Until 3 May 2023 the Cedar Gold Card cost KRW 20,000 a year; since that day the annual fee has "
            "been KRW 24,000. It comes with travel insurance.",
        ),
        "What is the annual fee of the Cedar Gold Card?",
        ("KRW 20,000", "KRW 12,000", "KRW 24,000", "KRW 30,000"),
        "KRW 24,000",
    ),
)


def worked_prompt(prompt: str, examples: int = 3) -> str:
    """Return a text to continue, for a model that was not trained on the course's prompts.

    It has up to three worked examples, the prompt, and `Answer:`; the answer is the rest of the last line.
    Small models continue such a text with a short answer more often than they follow an instruction (Brown et
    al. 2020, arXiv:2005.14165).
    """
    worked = [
        (question_prompt(question, [source], options), chosen_option(answer, options) if options else answer)
        for source, question, options, answer in WORKED_EXAMPLES[:examples]
    ]
    return "\n\n".join([*(f"{asked}\nAnswer: {answer}" for asked, answer in worked), f"{prompt}\nAnswer:"])


def chosen_option(answer: str, options: Sequence[str]) -> str:
    """Return the text of the answer, then its option letter, as the model writes a multiple-choice answer."""
    return f"{answer} ({LETTERS[list(options).index(answer)]})"


def label_prompt(message: str, examples: Sequence[tuple[str, str]]) -> str:
    """Return a prompt for classification: labelled examples, then the message to label.

    The model's answer begins a new turn, so no space stands before its label. Each label in the examples is
    on a line of its own for the same reason: after a space it would have other tokens, which a small model
    could not copy.
    """
    shots = "".join(f"Message: {text}\nLabel:\n{label}\n" for text, label in examples)
    return f"{shots}Message: {message}\nLabel:"
