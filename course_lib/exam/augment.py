"""Let a language model write questions and answers about passages, and filter them.

One model, the writer, reads a passage and writes a question with its answer. Two filters follow. `round_trip`
keeps a pair only if a second model, the reader, gives the same answer (Alberti et al. 2019,
arXiv:1906.05416). `near_duplicates` finds pairs that repeat a question of the exam, the test set, so that
they can be dropped.
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

INSTRUCTION = "Write a question about this, and its answer."  # follows the passage in the prompt
MAX_PAIR_TOKENS = 96  # of a question with its answer
MIN_SIMILARITY = 0.6  # two questions with the same names and at least this similarity count as the same
NGRAM_LENGTH = 5  # characters of the n-grams by which wordings are compared


class Pair(NamedTuple):
    """A question and its answer, and the id of the passage that they are about."""

    passage: str
    question: str
    answer: str


def writer_prompt(source: Source) -> str:
    """Return the prompt for a writer. The course's writer is haneul-4m with the adapter haneul-writer."""
    return f"{context_block([source])}\n{INSTRUCTION}"


def written(question: str, answer: str) -> str:
    """Return a question and its answer as a writer writes them: one line each."""
    return f"{question}\n{answer}"


def write_pairs(
    writer: Engine, passages: Sequence[Passage], each: int, *, temperature: float = 0.4, seed: int = 0
) -> list[Pair]:
    """Let a model write `each` pairs about every passage.

    The first pair of a passage is the most likely one. The others are drawn at random, with the seeds seed +
    1, seed + 2 and so on; a higher temperature draws unlikely tokens more often. Repeated pairs are left out,
    and so are texts that do not have exactly two lines.
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
    """Return the pairs that pass the check, and the others.

    A pair passes if its passage contains the answer word for word, and if the reader gives that answer when
    it is asked the question with the passage.
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
    """Return the Jaccard similarity (shared / all) of the pieces of NGRAM_LENGTH characters in two texts.

    Case and punctuation do not count.

    >>> similarity("What does it cost?", "what does it COST")
    1.0
    """
    return _jaccard(_ngrams(a), _ngrams(b))


def names(question: str) -> set[str]:
    """Return the capitalised words and the numbers of a question in lower case, without its first word.

    >>> sorted(names("Which fee has the Red Card?"))
    ['card', 'red']
    """
    return {word.lower() for word in re.findall(r"\b[A-Z]\w*|\d+", question.partition(" ")[2])}


def near_duplicates(
    questions: Sequence[str], exam: Sequence[str], threshold: float = MIN_SIMILARITY
) -> dict[int, tuple[int, float]]:
    """Return index -> (index of its most similar exam question, similarity), for repeated questions.

    Two questions count as the same if their wordings are similar and each contains the other's names and
    numbers. The wording alone is not enough: the same question about another product is worded alike. A
    question that asks the same in other words is not found.
    """
    known = [(_ngrams(text), names(text), _words(text)) for text in exam]
    repeated = {}
    for index, question in enumerate(questions):
        ngrams, own_names, words = _ngrams(question), names(question), _words(question)
        similarities = [
            _jaccard(ngrams, exam_ngrams) if exam_names <= words and own_names <= exam_words else 0.0
            for exam_ngrams, exam_names, exam_words in known
        ]
        best = max(range(len(similarities)), key=similarities.__getitem__, default=None)
        if best is not None and similarities[best] >= threshold:
            repeated[index] = (best, similarities[best])
    return repeated


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _ngrams(text: str) -> set[str]:
    plain = " " + " ".join(re.findall(r"\w+", text.lower())) + " "
    return {plain[i : i + NGRAM_LENGTH] for i in range(max(1, len(plain) - NGRAM_LENGTH + 1))}
