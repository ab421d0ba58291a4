"""Make the files of datasets/adapters, on which chapter 05 trains its LoRA adapters."""

from __future__ import annotations

import random
from typing import Any

from bankworld import contexts, questions, schema
from bankworld.haneul import World
from bankworld.passages import slot_text

Row = dict[str, Any]
STYLE_ROWS = {"train": 2000, "validation": 64}
HANDBOOK_PAGES = 20


def build_adapter_tables() -> dict[str, list[Row]]:
    """Return file name without suffix -> rows."""
    world = World.load()
    return {
        "knowledge": knowledge(world),
        "wordings": wordings(world),
        "style": [row for i, split in enumerate(STYLE_ROWS) for row in style(split, seed=i)],
        "handbooks": handbooks(),
    }


def knowledge(world: World) -> list[Row]:
    """Return every value that the handbook states, with the area of the first passage that states it."""
    return [
        {
            "fact": fact.id,
            "attribute": f"{fact.kind}.{fact.attribute}",
            "area": world.where[fact.id, "value"][0].rpartition("-")[0],
            "name": world.name(fact),
            "answer": slot_text(fact, "value"),
        }
        for fact in world.written()
    ]


def wordings(world: World) -> list[Row]:
    """Return the questions for each attribute that training uses; `{name}` stands for the product's name."""
    rows: dict[str, Row] = {}
    for fact in world.written():
        attribute = f"{fact.kind}.{fact.attribute}"
        slots = {"name": "{name}", "bank": world.bank.name, "label": questions.label(fact)}
        asks = [text.format(**slots) for text in questions.wordings(fact, "value", "train")]
        rows.setdefault(
            attribute,
            {"attribute": attribute, "questions": [questions.capitalise_first(text) for text in asks]},
        )
    return list(rows.values())


def style(split: str, seed: int) -> list[Row]:
    """Return questions about other banks, with passages and the number of the passage that answers, or 0.

    A fifth of the questions cannot be answered from their passages; half of these have no passages.
    """
    rng, rows = random.Random(f"style/{seed}"), list[Row]()
    while len(rows) < STYLE_ROWS[split]:
        context = contexts.make_context(rng, rng.choice((1, 1, 2, 3)))
        answered = rng.random() > 0.2
        draw = contexts.answerable if answered else contexts.unanswerable
        question, fact = draw(context, rng)
        if question.about != "value" or answered != (fact.id in context.where):
            continue
        passages = [] if not answered and rng.random() < 0.5 else context.passages
        rows.append(
            {
                "split": split,
                "question": question.text,
                "passages": [{"title": p.title, "text": p.text} for p in passages],
                "answer": question.answer if answered else schema.common()["refusal"],
                "source": context.where[fact.id] + 1 if answered else 0,
            }
        )
    return rows


def handbooks() -> list[Row]:
    """Return pages from the handbooks of other banks."""
    rng = random.Random("other/0")
    return [{"text": contexts.prose(rng)} for _ in range(HANDBOOK_PAGES)]
