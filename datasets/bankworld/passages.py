"""Make handbook passages from facts: fill written templates, or compose single sentences."""

from __future__ import annotations

import functools
import json
import random
import re
from dataclasses import dataclass
from typing import Any

from bankworld import english, schema
from bankworld.bank import Bank, Entity, Fact
from bankworld.schema import PassageTemplate


@dataclass(frozen=True)
class Passage:
    """A text with a title.

    states: what it states, as (fact id, aspect) pairs; an aspect is value, old, since, group or exception.
    """

    title: str
    text: str
    states: frozenset[tuple[str, str]]


def slot_text(fact: Fact, aspect: str) -> str:
    """Return the words for one aspect of a fact. Raises ValueError if the fact does not have it."""
    if aspect == "since":
        return english.day(_there(fact.since, fact, aspect))
    if aspect == "group":
        return english.group(_there(fact.group, fact, aspect))
    value = {"value": fact.value, "old": fact.old, "exception": fact.exception}[aspect]
    return english.render_for(fact.kind, fact.attribute, _there(value, fact, aspect))


def _there(value: Any, fact: Fact, aspect: str) -> Any:
    if value is None:
        raise ValueError(f"{fact.id} has no {aspect!r}: facts/*.yaml does not give it one")
    return value


def capitalise(text: str) -> str:
    """Capitalise the first letter of every sentence: one may begin with a value such as 'a passport'."""
    return re.sub(r"(^|[.!?:]\s*\n+|[.!?]\s+)([a-z])", lambda m: m[1] + m[2].upper(), text)


def fill(template: PassageTemplate, bank: Bank, entities: dict[str, Entity]) -> Passage:
    """Put the facts of entities into the slots of a written passage. entities: as `bind` returns them."""
    states: set[tuple[str, str]] = set()

    def words(match: re.Match[str]) -> str:
        binding, *path = match[1].split(".")
        if binding == "bank":
            return bank.name
        if path == ["name"]:
            return entities[binding].name
        fact, aspect = entities[binding].facts[path[0]], path[1] if len(path) > 1 else "value"
        states.add((fact.id, aspect))
        return slot_text(fact, aspect)

    text = capitalise(schema.SLOT.sub(words, template.text).strip())
    return Passage(schema.SLOT.sub(words, template.title), text, frozenset(states))


def bind(bank: Bank, template: schema.PassageTemplate) -> dict[str, Entity]:
    """Return name in the slots -> entity. If `about` gives only a kind, the name is the entity's key."""
    out = {}
    for name, what in template.about.items():
        kind, _, key = what.partition(".")
        out[name] = bank.entity(kind, key or name)
    return out


def compose(entity: Entity, attributes: list[str], rng: random.Random) -> Passage:
    """Return a generated passage about attributes of one entity, as prose, table, list or JSON."""
    facts = [entity.facts[a] for a in attributes]
    name, common = entity.name, schema.common()
    form = rng.choices(("prose", "table", "list", "json"), (80, 8, 7, 5))[0]
    if form != "prose":
        rows = [(_text(f).label, slot_text(f, "value")) for f in facts]
        body = _listing(form, name, rows)
        title = rng.choice(common["tables"]).format(name=name)
        return Passage(title, body, frozenset((f.id, "value") for f in facts))
    sentences, states = [], set()
    for i, fact in enumerate(facts):
        texts, stated = _sentences(fact, name, named=i == 0 or rng.random() < 0.4, rng=rng)
        sentences += texts
        states |= stated
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(fillers()))
    title = rng.choice(common["titles"]).format(name=name)
    return Passage(title, capitalise(" ".join(sentences)), frozenset(states))


@functools.cache
def fillers() -> list[str]:
    """Return sentences that state no fact, to put between sentences that do."""
    return schema.read_yaml(schema.HERE / "en" / "filler.yaml")


def _text(fact: Fact) -> schema.AttributeText:
    return schema.texts()[fact.kind].attributes[fact.attribute]


def _sentences(
    fact: Fact, name: str, named: bool, rng: random.Random
) -> tuple[list[str], set[tuple[str, str]]]:
    """Return sentences about one fact, sometimes with its old value or exception, and what they state."""
    says = [s for s in _text(fact).says if ("{name}" in s) == named] or _text(fact).says
    slots = {
        a: slot_text(fact, a) for a, v in fact if a in ("value", "old", "since", "group", "exception") and v
    }
    slots |= {"name": name, "label": _text(fact).label, "bank": "the bank"}
    out, stated = [rng.choice(says).format(**slots)], {(fact.id, "value")}
    for aspect, wording in (("old", "changes"), ("exception", "exceptions")):
        if aspect in slots and rng.random() < 0.6:
            template = rng.choice(schema.common()[wording])
            out.append(template.format(**slots))
            stated |= {(fact.id, a) for a in ("old", "since", "group", "exception") if f"{{{a}}}" in template}
    return out, stated


def _listing(form: str, name: str, rows: list[tuple[str, str]]) -> str:
    if form == "json":
        return json.dumps({"name": name, **dict(rows)}, ensure_ascii=False)
    if form == "list":
        return f"{name}:\n" + "\n".join(f"- {label}: {value}" for label, value in rows)
    return f"| {name} | |\n|---|---|\n" + "\n".join(f"| {label} | {value} |" for label, value in rows)
