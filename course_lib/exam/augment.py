"""Let a model write questions and answers from passages, and keep those that are sound and not in the exam.

A writer reads a passage and writes a question and its answer. `round_trip` keeps the pairs for which a reader
of question and passage gives the same answer (Alberti et al. 2019, arXiv:1906.05416). `near_duplicates` finds
those that repeat a question of the exam.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from course_lib.data import Passage
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import MAX_ANSWER_TOKENS, exact_match, format_for
from course_lib.rag.evaluate import faithful
from course_lib.rag.prompt import Source, context_block, question_prompt

ASKED = "Write a question about this, and its answer."
MAX_PAIR_TOKENS = 96
NEAR = 0.6  # from this similarity on, two questions with the same names count as the same
GRAM = 5  # characters of the pieces that are compared


class Pair(NamedTuple):
    """A question and its answer, and the id of the passage that they are about."""

    passage: str
    question: str
    answer: str


def writer_prompt(source: Source) -> str:
    """Return the prompt for a writer, such as the adapter haneul-writer, which was trained on it."""
    return f"{context_block([source])}\n{ASKED}"


def written(question: str, answer: str) -> str:
    """Return a question and its answer in the form in which a writer writes them."""
    return f"{question}\n{answer}"


def write_pairs(
    writer: Engine, passages: Sequence[Passage], each: int, *, temperature: float = 0.4, seed: int = 0
) -> list[Pair]:
    """Let a model write `each` pairs about every passage. Repeated ones, and texts of other than two lines,
    are left out.

    The first pair of a passage is the most likely one, the others are sampled with seeds seed + 1, ....
    """
    prompts = [writer_prompt(Source(p.title, p.text)) for p in passages]
    pairs = []
    for number in range(each):
        texts = writer.generate(
            prompts,
            max_output_length=MAX_PAIR_TOKENS,
            temperature=temperature if number else 0.0,
            seed=seed + number,
        )
        for passage, text in zip(passages, texts, strict=True):
            lines = str(text).strip().split("\n")
            if len(lines) == 2 and all(line.strip() for line in lines):
                pairs.append(Pair(passage.id, lines[0].strip(), lines[1].strip()))
    return list(dict.fromkeys(pairs))


def round_trip(
    reader: Engine, pairs: Sequence[Pair], passages: Mapping[str, Passage]
) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs that hold, and the others.

    A pair holds if its passage contains the answer word for word, and the reader, asked the question with the
    passage, gives the answer.
    """
    prompts = [
        format_for(
            reader, question_prompt(p.question, [Source(passages[p.passage].title, passages[p.passage].text)])
        )
        for p in pairs
    ]
    replies = reader.generate(prompts, max_output_length=MAX_ANSWER_TOKENS) if prompts else []
    kept: list[Pair] = []
    dropped: list[Pair] = []
    for pair, reply in zip(pairs, replies, strict=True):
        holds = exact_match(str(reply), pair.answer) and faithful(pair.answer, [passages[pair.passage].text])
        (kept if holds else dropped).append(pair)
    return kept, dropped


def similarity(a: str, b: str) -> float:
    """Return the Jaccard similarity of two texts' pieces of GRAM characters, without case and punctuation.

    >>> similarity("What does it cost?", "what does it COST")
    1.0
    """
    return _jaccard(_pieces(a), _pieces(b))


def names(question: str) -> set[str]:
    """Return the capitalised words and the numbers of a question, but for its first word, in lower case.

    >>> sorted(names("Which fee has the Red Card?"))
    ['card', 'red']
    """
    return {word.lower() for word in re.findall(r"\b[A-Z]\w*|\d+", question.partition(" ")[2])}


def near_duplicates(
    questions: Sequence[str], exam: Sequence[str], threshold: float = NEAR
) -> dict[int, tuple[int, float]]:
    """Return, for each question that repeats one of the exam, the exam's most similar one and the similarity.

    Questions are given by their indices. Two questions are the same if their wording is similar and each has
    the names and numbers of the other: the wording alone is as similar for another product. What asks for the
    same in other words is not found.
    """
    known = [(_pieces(text), names(text), _words(text)) for text in exam]
    found = {}
    for index, question in enumerate(questions):
        own, about, words = _pieces(question), names(question), _words(question)
        alike = [_jaccard(own, p) if n <= words and about <= w else 0.0 for p, n, w in known]
        best = max(range(len(alike)), key=alike.__getitem__, default=None)
        if best is not None and alike[best] >= threshold:
            found[index] = (best, alike[best])
    return found


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _pieces(text: str) -> set[str]:
    plain = " " + " ".join(re.findall(r"\w+", text.lower())) + " "
    return {plain[i : i + GRAM] for i in range(max(1, len(plain) - GRAM + 1))}
