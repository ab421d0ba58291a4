"""Haneul Bank in Korean: the same passages, questions and messages as in English, by id.

A passage is written in Korean, with the slots of the English passage of the same id. A question is made from
the English question of the same id: its facts, options and answer are the same, only the wording is Korean.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from bankworld import english, korean, korean_text, schema
from bankworld.bank import Fact
from bankworld.haneul import REFUSAL, World
from bankworld.passages import Passage

Row = dict[str, Any]


def slot_text(fact: Fact, aspect: str) -> str:
    """The Korean words of one aspect of a fact. Raises ValueError for an aspect that the fact lacks."""
    value = getattr(fact, aspect)
    if value is None:
        raise ValueError(f"{fact.id} has no {aspect!r}: facts/*.yaml does not give it one")
    if aspect == "since":
        return korean.day(value)
    return korean.group(value) if aspect == "group" else korean.render_for(fact.kind, fact.attribute, value)


def label(fact: Fact) -> str:
    return korean_text.texts()[fact.kind][fact.attribute].label


def build_passages(world: World) -> dict[str, Passage]:
    """Every passage in Korean, by the id of its English twin. Raises KeyError for one that is not written."""
    out = {}
    for area in schema.AREAS:
        written = korean_text.passages_of(area)
        for i, template in enumerate(schema.passages_of(area, haneul=True), 1):
            id_ = f"{area}-{i:02d}"
            out[id_] = _fill(written[id_], template.about, world)
    return out


def _fill(written: korean_text.Passage, about: dict[str, str], world: World) -> Passage:
    """A title gives a product's English name behind its Korean one, as the bank's own papers do."""
    states: set[tuple[str, str]] = set()

    def words(slot: str, in_title: bool) -> str:
        binding, *path = slot.split(".")
        if binding == "bank":
            return korean_text.common()["bank"]
        if path == ["name"]:
            name = korean_text.names()[about[binding]]
            return f"{name}({world.bank.entity(*about[binding].split('.')).name})" if in_title else name
        aspect = path[1] if len(path) > 1 else "value"
        fact = world.facts[f"{about[binding]}.{path[0]}"]
        states.add((fact.id, aspect))
        return slot_text(fact, aspect)

    title = schema.SLOT.sub(lambda m: words(m[1], True), written.title)
    text = schema.SLOT.sub(lambda m: words(m[1], False), written.text.strip())
    return Passage(korean.particles(title), korean.particles(text), frozenset(states))


class Asker:
    """Korean questions.

    Among an attribute's wordings it takes one that was used least, so that they all occur.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._used: Counter[str] = Counter()

    def row(self, row: Row, english_names: bool = False) -> Row:
        """The Korean twin of an English question row."""
        facts = [self.world.facts[f] for f in row["facts"]]
        names = [self.world.name(f) if english_names else korean_text.names()[f.entity] for f in facts]
        slots = {"name": names[0], "label": label(facts[0])}
        slots |= {a: slot_text(facts[0], a) for a in ("since", "group") if getattr(facts[0], a)}
        if row["about"] in ("pair", "compare"):
            slots |= {"name2": names[1], "label2": label(facts[1])}
        if row["about"] == "compare":
            slots["more"] = _more(facts[0], facts[1], row["answer"] == self.world.name(facts[0]))
        text = korean.particles(self._template(row, facts[0]).format(**slots))
        return row | {
            "question": text,
            "options": [_words(row, facts, option) for option in row["options"]],
            "answer": names[row["answer"] != self.world.name(facts[0])]
            if row["about"] == "compare"
            else _words(row, facts, row["answer"]),
        }

    def _template(self, row: Row, fact: Fact) -> str:
        rng = random.Random(f"haneul/ko/{row['id']}")
        own = korean_text.texts()[fact.kind][fact.attribute]
        if row["about"] != "value":
            wordings = korean_text.common()[row["about"]]
        elif row["kind"] == "paraphrase" or (row["kind"] == "unanswerable" and rng.random() < 0.5):
            wordings = own.paraphrase
        else:
            wordings = own.lexical if rng.random() < 0.7 else korean_text.common()["value"]
        chosen = min(rng.sample(wordings, len(wordings)), key=lambda w: self._used[w])
        self._used[chosen] += 1
        return chosen


def _more(first: Fact, second: Fact, first_is_answer: bool) -> str:
    """'더 높은' or '더 낮은': whichever makes the English answer right."""
    words = (
        korean_text.texts()[first.kind][first.attribute].more
        or korean_text.common()["more"][first.value.kind]
    )
    first_has_more = (first.value.amount or 0) > (second.value.amount or 0)
    return words[0] if first_has_more == first_is_answer else words[1]


def _words(row: Row, facts: list[Fact], words: str) -> str:
    """The Korean words for an answer or an option that is given in English."""
    if words == REFUSAL:
        return korean_text.common()["refusal"]
    about = row["about"]
    if about == "since":
        return korean.day(english.parse_day(words))
    if about == "pair":
        return "; ".join(_one(fact, part) for fact, part in zip(facts, words.split("; "), strict=True))
    if about == "untrue":
        label_text, value = words.split(": ", 1)
        fact = next(f for f in facts if schema.texts()[f.kind].attributes[f.attribute].label == label_text)
        return f"{label(fact)}: {_one(fact, value)}"
    return _one(facts[0], words)


def _one(fact: Fact, words: str) -> str:
    return korean.render_for(fact.kind, fact.attribute, english.parse(words, fact.kind, fact.attribute))


def build_questions(world: World, rows: list[Row], *, english_names: bool = False) -> list[Row]:
    """The Korean twins of all English rows, with the products' Korean names or their English ones."""
    asker = Asker(world)
    return [asker.row(row, english_names) for row in rows]
