"""One fictional bank: its entities (such as a credit card) and their facts, drawn at random from a seed.

An entity is drawn when it is first asked for.
"""

from __future__ import annotations

import functools
import random
from datetime import date, timedelta

from pydantic import BaseModel, ConfigDict

from bankworld import schema
from bankworld.values import Value, draw_other

VOWELS, CONSONANTS = "aeiou", "bdfghklmnprstvz"


class Fact(BaseModel):
    """The value of one attribute of one entity, with its old value and its exception, if it has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    entity: str  # "credit_card.blue"
    attribute: str
    value: Value
    old: Value | None = None
    since: str | None = None  # ISO date from which `value` holds; before it, `old` held
    group: str | None = None
    exception: Value | None = None  # the value for customers in `group`

    @property
    def kind(self) -> str:
        return self.entity.split(".")[0]

    @property
    def id(self) -> str:
        return f"{self.entity}.{self.attribute}"


class Entity(BaseModel):
    model_config = ConfigDict(frozen=True)
    id: str
    name: str
    facts: dict[str, Fact]

    @property
    def kind(self) -> str:
        return self.id.split(".")[0]


def draw_fact(entity: str, attribute: str, rng: random.Random) -> Fact:
    spec = schema.specs()[entity.split(".")[0]][attribute]
    value = spec.draw(rng)
    old = since = group = exception = None
    if spec.changes:
        old = draw_other(spec, rng, value)
        since = (date(2023, 3, 1) + timedelta(days=rng.randrange(1100))).isoformat()
    if spec.exception:
        group = rng.choice(sorted(schema.common()["groups"]))
        exception = draw_other(spec, rng, value, *([old] if old else []))
    return Fact(
        entity=entity,
        attribute=attribute,
        value=value,
        old=old,
        since=since,
        group=group,
        exception=exception,
    )


def invent_word(rng: random.Random) -> str:
    """Return a real or an invented word, so that a model cannot have learned the names."""
    if rng.random() < 0.35:
        return rng.choice(_words())
    syllables = [rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.choice((2, 2, 3)))]
    word = "".join(syllables) + rng.choice(("", "n", "r", "l", "s", "m"))
    return word.capitalize() + (f" {rng.choice(_words())}" if rng.random() < 0.25 else "")


@functools.cache
def _words() -> list[str]:
    return schema.common()["words"].split()


class Bank:
    """A fictional bank.

    `entity(kind, key)` is drawn on first use. It depends only on the seed, except for its name, which differs
    from the names drawn before. name: the bank's name; None draws one. names: entity id -> a fixed name.
    """

    def __init__(self, seed: int, name: str | None = None, names: dict[str, str] | None = None) -> None:
        self.seed = seed
        rng = random.Random(f"{seed}/bank")
        self.name = name or rng.choice(schema.common()["banks"]).format(word=invent_word(rng))
        # With few words for many products, similar products get names that differ in one word, as in banks.
        self._pool = [invent_word(rng) for _ in range(6)]
        if rng.random() < 0.4:  # some banks put their own name before every product
            prefix = invent_word(rng)
            self._pool = [f"{prefix} {word}" for word in self._pool]
        self._names = names or {}
        self._entities: dict[str, Entity] = {}

    def entity(self, kind: str, key: str) -> Entity:
        id_ = f"{kind}.{key}"
        if id_ not in self._entities:
            rng = random.Random(f"{self.seed}/{id_}")
            name = self._names.get(id_) or self._new_name(kind, rng)
            facts = {a: draw_fact(id_, a, rng) for a in schema.specs()[kind]}
            self._entities[id_] = Entity(id=id_, name=name, facts=facts)
        return self._entities[id_]

    def _new_name(self, kind: str, rng: random.Random) -> str:
        used = {e.name for e in self._entities.values()}
        for _ in range(100):
            name = rng.choice(schema.texts()[kind].names).format(word=rng.choice(self._pool))
            if name not in used:
                return name
        return f"{name} {len(used)}"


HANEUL_SEED = 20_261_120


def haneul() -> Bank:
    """Return Haneul Bank with all its entities.

    Siblings (entities of the same kind) differ in every attribute that has enough values.
    """
    names = {
        f"{kind}.{key}": name
        for area in schema.AREAS
        for kind, by_key in schema.haneul_entities(area).items()
        for key, name in by_key.items()
    }
    bank = Bank(HANEUL_SEED, "Haneul Bank", names)
    taken: dict[tuple[str, str], list[Value]] = {}
    for id_ in names:
        kind, key = id_.split(".")
        entity, rng = bank.entity(kind, key), random.Random(f"haneul/{id_}")
        facts = {a: _apart(f, taken.setdefault((kind, a), []), rng) for a, f in entity.facts.items()}
        bank._entities[id_] = entity.model_copy(update={"facts": facts})
    return bank


def _apart(fact: Fact, taken: list[Value], rng: random.Random) -> Fact:
    """Return `fact` with a value that no sibling has; else a passage about a sibling would answer, too."""
    spec = schema.specs()[fact.kind][fact.attribute]
    if fact.value in taken:
        others = [v for v in (*taken, fact.old, fact.exception) if v]
        fact = fact.model_copy(update={"value": draw_other(spec, rng, *others)})
    taken.append(fact.value)
    return fact
