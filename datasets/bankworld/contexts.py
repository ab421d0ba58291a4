"""Similar passages of one generated bank, and questions that they answer or do not answer."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field

from bankworld import questions, schema
from bankworld.bank import Bank, Entity, Fact
from bankworld.passages import Passage, compose, fill


@functools.cache
def templates() -> dict[str, list[schema.PassageTemplate]]:
    """Entity kind -> the written training passages about an entity of that kind alone."""
    by_kind: dict[str, list[schema.PassageTemplate]] = {}
    for area in schema.AREAS:
        for template in schema.passages_of(area, haneul=False):
            if len(template.about) == 1:
                by_kind.setdefault(next(iter(template.about.values())), []).append(template)
    return by_kind


@dataclass
class Context:
    """Some passages of one bank, and what they state."""

    bank: Bank
    passages: list[Passage] = field(default_factory=list)
    entities: dict[str, Entity] = field(default_factory=dict)
    stated: dict[str, set[str]] = field(default_factory=dict)  # fact id -> aspects
    where: dict[str, int] = field(default_factory=dict)  # fact id -> index of the last passage that states it

    def add(self, entity: Entity, passage: Passage) -> None:
        self.entities[entity.id] = entity
        self.passages.append(passage)
        for fact, aspect in passage.states:
            self.stated.setdefault(fact, set()).add(aspect)

    def fact(self, id_: str) -> Fact:
        entity, _, attribute = id_.rpartition(".")
        return self.entities[entity].facts[attribute]

    def name(self, fact: Fact) -> str:
        return self.entities[fact.entity].name


def write_passage(
    bank: Bank, entity: Entity, rng: random.Random, favourites: list[str], written: float
) -> Passage:
    """A passage about `entity`: a filled template with probability `written`, else composed of sentences."""
    if rng.random() < written and entity.kind in templates():
        template = rng.choice(templates()[entity.kind])
        return fill(template, bank, {next(iter(template.about)): entity})
    wanted = [a for a in favourites if a in entity.facts and rng.random() < 0.6]
    others = [a for a in entity.facts if a not in wanted]
    attributes = wanted[:3] + rng.sample(others, rng.choice((1, 2, 2, 3)))
    rng.shuffle(attributes)
    return compose(entity, attributes, rng)


def make_context(rng: random.Random, n: int, written: float = 0.5) -> Context:
    """`n` passages: mostly near misses of one another (siblings, the same product's other terms)."""
    context = Context(Bank(rng.getrandbits(48)))
    kinds = list(schema.specs())
    kind = rng.choice(kinds)
    favourites = rng.sample(list(schema.specs()[kind]), 3)
    planned = []
    for _ in range(n):
        which = kind if rng.random() < 0.75 else rng.choice(kinds)
        planned.append((which, str(rng.randrange(3 if n < 5 else 5))))
    for which, key in planned:
        entity = context.bank.entity(which, key)
        context.add(entity, write_passage(context.bank, entity, rng, favourites, written))
    for i, passage in enumerate(context.passages):
        context.where |= {fact: i for fact, aspect in passage.states if aspect == "value"}
    return context


def answerable(context: Context, rng: random.Random) -> tuple[questions.Question, Fact]:
    """A question about a fact that the context states; facts with changes and exceptions are preferred."""
    plain = sorted(context.stated)
    rich = [f for f in plain if context.stated[f] - {"value"}]
    fact = context.fact(rng.choice(rich if rich and rng.random() < 0.4 else plain))
    possible = [a for a, needs in questions.ASPECTS.items() if context.stated[fact.id] >= set(needs)]
    about = rng.choice(possible) if possible else "value"
    return questions.ask(context.bank, fact, context.name(fact), about, "train", rng), fact


def unanswerable(context: Context, rng: random.Random) -> tuple[questions.Question, Fact]:
    """A question about a fact that the context does not state, of an entity in it or of an absent sibling."""
    entity = context.entities[rng.choice(sorted(context.entities))]
    if rng.random() < 0.4:
        entity = context.bank.entity(entity.kind, "absent")
    missing = [a for a in entity.facts if f"{entity.id}.{a}" not in context.stated]
    fact = entity.facts[rng.choice(missing or list(entity.facts))]
    return questions.ask(context.bank, fact, entity.name, "value", "train", rng), fact


def prose(rng: random.Random) -> str:
    """A few handbook passages in a row, as plain text."""
    return "\n\n".join(f"{p.title}\n{p.text}" for p in make_context(rng, rng.choice((1, 2, 3)), 0.7).passages)
