"""What chapter 05 teaches a model: Haneul's handbook as questions and answers (knowledge), and answers as JSON (style).

The code that writes banks makes both. Knowledge asks about Haneul in wordings that no question of `data.load_questions` uses;
style reads the handbooks of other banks, and has never seen Haneul.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from course_lib.data import Passage, Question
from course_lib.errors import CourseError
from course_lib.rag.prompt import REFUSAL, Source, question_prompt
from course_lib.tuning.recipe import Example

# The form of an answer in the style: source is the number of the passage that says so, 0 where none does.
STYLE = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "source": {"type": "integer", "minimum": 0}},
    "required": ["answer", "source"],
    "additionalProperties": False,
}


def styled(answer: str, source: int) -> str:
    """An answer in the style.

    >>> styled("KRW 2,500", 1)
    '{"answer": "KRW 2,500", "source": 1}'
    """
    return json.dumps({"answer": answer, "source": source}, ensure_ascii=False)


def unstyled(text: str) -> str | None:
    """The answer in a text of the style; None for a text that is not JSON of its schema, STYLE."""
    from jsonschema import ValidationError, validate  # type: ignore[import-untyped]

    try:
        found = json.loads(text)
        validate(found, STYLE)
    except (ValueError, RecursionError, ValidationError):
        return None
    answer: str = found["answer"]
    return answer


def knowledge(areas: Sequence[str] | None = None) -> list[Example]:
    """Every value that Haneul's handbook states, asked for in some 68 wordings: no passage is given, the weights must know it.

    areas: such as ["cards", "loans"]; all twelve where none are named. Raises CourseError for an unknown one.
    """
    from bankworld import questions, schema
    from bankworld.haneul import World
    from bankworld.passages import slot_text

    if unknown := sorted(set(areas or ()) - set(schema.AREAS)):
        raise CourseError(
            f"Haneul's handbook has no area {unknown[0]!r}", f"choose among {', '.join(schema.AREAS)}"
        )
    world = World.load()
    examples: list[Example] = []
    for fact in world.written():
        if areas is None or area_of(world.where[fact.id, "value"][0]) in areas:
            slots = {"name": world.name(fact), "bank": world.bank.name, "label": questions.label(fact)}
            for wording in questions.wordings(fact, "value", "train"):
                asked = wording.format(**slots)
                examples.append(
                    Example(question_prompt(asked[0].upper() + asked[1:]), slot_text(fact, "value"))
                )
    return examples


def area_of(passage: str) -> str:
    """The area of the handbook in which a passage stands.

    >>> area_of("accounts-02")
    'accounts'
    """
    return passage.rpartition("-")[0]


def asked(question: Question, passages: Sequence[Passage] = ()) -> str:
    """The prompt of a question without its options: an answer is to be written, not chosen."""
    return question_prompt(question.question, [Source(p.title, p.text) for p in passages])


def closed_book(questions: Sequence[Question], areas: Sequence[str] | None = None) -> list[Question]:
    """Those that ask for one value which the handbook states: what `knowledge` teaches, in other words than it used."""
    return [
        q
        for q in questions
        if q.about == "value" and q.gold and (areas is None or area_of(q.gold[0]) in areas)
    ]


def other_handbooks(count: int = 20, seed: int = 0) -> list[str]:
    """Pages from the handbooks of other banks: how well a model still reads them shows what an adapter made it forget."""
    from pretraining.documents import prose

    rng = random.Random(f"other/{seed}")
    return [prose(rng) for _ in range(count)]


def style(count: int = 2000, seed: int = 0) -> list[Example]:
    """Questions about other banks, with no passage to three of them, answered in the style.

    A fifth of them cannot be answered from what is given: the answer is then REFUSAL, and its source 0.
    """
    from pretraining import documents

    rng = random.Random(f"style/{seed}")
    examples: list[Example] = []
    while len(examples) < count:
        context = documents.make_context(rng, rng.choice((1, 1, 2, 3)))
        answered = rng.random() > 0.2
        question, fact = (documents.answerable if answered else documents.unanswerable)(context, rng)
        if question.about != "value" or answered != (fact.id in context.where):
            continue
        shown = (
            [] if not answered and rng.random() < 0.5 else [Source(p.title, p.text) for p in context.passages]
        )
        answer = styled(question.answer, context.where[fact.id] + 1) if answered else styled(REFUSAL, 0)
        examples.append(Example(question_prompt(question.text, shown), answer))
    return examples
