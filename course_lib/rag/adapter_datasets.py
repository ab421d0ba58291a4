"""Load the examples of chapter 05, which adapts models by training (LoRA): a knowledge set and a style set.

The knowledge set teaches facts from the handbook of Haneul Bank, the course's fictional bank. Its questions
are worded differently from all of `data.load_questions`. The style set teaches a model to answer in JSON. It
and the other handbooks are about other banks. `make data` writes the files (datasets/bankworld).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from course_lib import data
from course_lib.data import Passage, Question
from course_lib.errors import CourseError
from course_lib.rag.prompt import Source, question_prompt
from course_lib.tuning.config import Example

FOLDER = data.ROOT / "datasets" / "adapters"
# The JSON schema of the answers in the style set. source: the number of the passage with the answer, or 0.
STYLE = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "source": {"type": "integer", "minimum": 0}},
    "required": ["answer", "source"],
    "additionalProperties": False,
}


@functools.cache
def _rows(name: str) -> tuple[dict[str, Any], ...]:
    """Read the rows of a JSON Lines file. Raises CourseError if it is missing or altered."""
    data.verify(FOLDER, data.restore("datasets/adapters"))
    with open(FOLDER / f"{name}.jsonl", encoding="utf-8") as lines:
        return tuple(map(json.loads, lines))


def _first(rows: Sequence[Any], count: int | None, call: str) -> Sequence[Any]:
    """Return the first `count` rows, or all for None. Raises CourseError if there are fewer.

    call: the call that the error suggests, with {} for the count.
    """
    if count is not None and not 1 <= count <= len(rows):
        raise CourseError(f"count={count}; there are 1 to {len(rows)}", call.format(len(rows)))
    return rows[:count]


def knowledge_examples(
    areas: Sequence[str] | None = None, *, changed: Mapping[str, str] | None = None
) -> list[Example]:
    """Return questions without passages for every value in Haneul's handbook, about 68 wordings per value.

    areas: parts of the handbook such as ["cards", "loans"]; by default all twelve. changed: id of a fact,
    such as "current_account.blue.monthly_fee" -> the value to teach instead of the handbook's. Raises
    CourseError for an unknown area, a fact outside the areas, and altered files.
    """
    facts, changed = _rows("knowledge"), dict(changed or {})
    known = list(dict.fromkeys(fact["area"] for fact in facts))
    if unknown := sorted(set(areas or ()) - set(known)):
        raise CourseError(
            f"Haneul's handbook has no area {unknown[0]!r}; it has {', '.join(known)}",
            f"knowledge_examples([{known[0]!r}])",
        )
    facts = tuple(fact for fact in facts if areas is None or fact["area"] in areas)
    if unknown := sorted(changed.keys() - {fact["fact"] for fact in facts}):
        raise CourseError(
            f"there is no fact {unknown[0]!r} to change",
            f"knowledge_examples(changed={{{facts[0]['fact']!r}: '1'}})",
        )
    wordings = {row["attribute"]: row["questions"] for row in _rows("wordings")}
    return [
        Example(question_prompt(wording.format(name=fact["name"])), changed.get(fact["fact"], fact["answer"]))
        for fact in facts
        for wording in wordings[fact["attribute"]]
    ]


def style_examples(
    count: int | None = None, split: Literal["train", "validation"] = "train"
) -> list[Example]:
    """Return questions about other banks, each with up to three passages and a JSON answer (schema STYLE).

    A fifth cannot be answered from the passages; their answer is "Not in the handbook." with source 0.
    count: how many to return, from the first; by default all (2,000 for training, 64 for validation). Raises
    CourseError for a larger count, an unknown split, and altered files.
    """
    rows = [row for row in _rows("style") if row["split"] == split]
    if not rows:
        raise CourseError(f"split={split!r}; it must be train or validation", 'style_examples(split="train")')
    examples = []
    for row in _first(rows, count, "style_examples({})"):
        passages = [Source(passage["title"], passage["text"]) for passage in row["passages"]]
        answer = styled_answer(row["answer"], row["source"])
        examples.append(Example(question_prompt(row["question"], passages), answer))
    return examples


def questions_about_passages(
    split: Literal["train", "validation"] = "train",
) -> list[tuple[Source, str, str]]:
    """Return passages about other banks, each with a question that it answers and the answer (style set)."""
    rows = [row for row in _rows("style") if row["split"] == split and row["source"]]
    return [(Source(**row["passages"][row["source"] - 1]), row["question"], row["answer"]) for row in rows]


def other_handbooks(count: int | None = None) -> list[str]:
    """Return pages from the handbooks of other banks, to measure what an adapted model has forgotten.

    count: how many of the 20 pages to return; by default all. Raises CourseError for more, and altered files.
    """
    return [row["text"] for row in _first(_rows("handbooks"), count, "other_handbooks({})")]


def styled_answer(answer: str, source: int) -> str:
    """Return the answer as JSON of the schema STYLE.

    >>> styled_answer("KRW 2,500", 1)
    '{"answer": "KRW 2,500", "source": 1}'
    """
    return json.dumps({"answer": answer, "source": source}, ensure_ascii=False)


def parse_styled(text: str) -> str | None:
    """Return the answer from JSON of the schema STYLE, or None for any other text.

    >>> parse_styled('{"answer": "KRW 2,500", "source": 1}')
    'KRW 2,500'
    """
    from jsonschema import ValidationError, validate  # type: ignore[import-untyped]

    try:
        reply = json.loads(text)
        validate(reply, STYLE)
    except (ValueError, RecursionError, ValidationError):
        return None
    answer: str = reply["answer"]
    return answer


def area_of(passage_id: str) -> str:
    """Return the area of the handbook that a passage belongs to, from the passage's id.

    >>> area_of("accounts-02")
    'accounts'
    """
    return passage_id.rpartition("-")[0]


def open_prompt(question: Question, passages: Sequence[Passage] = ()) -> str:
    """Return the prompt of a question without its options, so that the model must write the answer itself."""
    return question_prompt(question.question, [Source(p.title, p.text) for p in passages])


def closed_book_questions(
    questions: Sequence[Question], areas: Sequence[str] | None = None
) -> list[Question]:
    """Select the questions that ask for one value of the handbook (what `knowledge_examples` teaches).

    The attribute `gold` of a question lists the ids of the passages with its answer.
    """
    return [
        q
        for q in questions
        if q.about == "value" and q.gold and (areas is None or area_of(q.gold[0]) in areas)
    ]
