"""Make Haneul Bank's exam questions and relevance judgements from its facts and its written passages."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from bankworld import questions, schema
from bankworld.bank import Bank, Entity, Fact, haneul
from bankworld.passages import Passage, bind, fill
from bankworld.questions import ASPECTS, Question, Wording

REFUSAL = schema.common()["refusal"]
SPLITS = (("train", 0.4), ("validation", 0.3), ("test", 0.3))
Row = dict[str, Any]


def split_of(key: str) -> str:
    """Return the split of a key, which depends on its hash alone, so that later additions change no split."""
    at = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8
    for name, share in SPLITS:
        if (at := at - share) < 0:
            return name
    return SPLITS[-1][0]


@dataclass
class World:
    """Haneul Bank with its written passages: id -> passage, and which passages state which facts."""

    bank: Bank = field(default_factory=haneul)
    passages: dict[str, Passage] = field(default_factory=dict)
    about: dict[str, set[str]] = field(default_factory=dict)  # passage id -> entity ids
    where: dict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )  # (fact, aspect) -> ids
    facts: dict[str, Fact] = field(default_factory=dict)
    _by_type: dict[tuple[str, str], list[Fact]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def load(cls) -> World:
        world = cls()
        for area in schema.AREAS:
            for kind, by_key in schema.haneul_entities(area).items():
                for key in by_key:
                    world.facts |= {f.id: f for f in world.bank.entity(kind, key).facts.values()}
            for i, template in enumerate(schema.passages_of(area, haneul=True), 1):
                world._add(f"{area}-{i:02d}", template)
        return world

    def _add(self, id_: str, template: schema.PassageTemplate) -> None:
        entities = bind(self.bank, template)
        self.passages[id_] = fill(template, self.bank, entities)
        self.about[id_] = {e.id for e in entities.values()}
        for stated in sorted(self.passages[id_].states):
            self.where[stated].append(id_)

    def entity(self, fact: Fact) -> Entity:
        return self.bank.entity(*fact.entity.split("."))

    def name(self, fact: Fact) -> str:
        return self.entity(fact).name

    def siblings(self, fact: Fact) -> list[Fact]:
        """Return the facts for the same attribute of the other entities of the same kind."""
        if not self._by_type:
            for f in self.facts.values():
                self._by_type[f.kind, f.attribute].append(f)
        return [f for f in self._by_type[fact.kind, fact.attribute] if f.id != fact.id]

    def stating(self, fact: Fact, about: str) -> list[str]:
        """Return the ids of the passages that each answer a question about the fact alone.

        about: what is asked, a key of ASPECTS.
        """
        sets = [set(self.where.get((fact.id, aspect), ())) for aspect in ASPECTS[about]]
        return sorted(set.intersection(*sets))

    def written(self) -> list[Fact]:
        """Return the facts whose values some passage states."""
        return [f for f in self.facts.values() if self.where.get((f.id, "value"))]


def build_questions(world: World) -> list[Row]:
    """Return all questions, numbered in a stable order."""
    rows = [*_single(world), *_unanswerable(world), *_double(world), *_untrue(world)]
    return [{"id": f"q{i:04d}", **row} for i, row in enumerate(rows, 1)]


def _row(question: Question, split: str, kind: str, gold: list[str], options: list[str] | None = None) -> Row:
    return {
        "split": split,
        "kind": kind,
        "about": question.about,
        "format": "choice" if options else "short",
        "question": question.text,
        "options": options or [],
        "answer": question.answer,
        "facts": list(question.facts),
        "gold": gold,
    }


def _rng(*parts: str) -> random.Random:
    return random.Random("/".join(("haneul", *parts)))


def _wording(rng: random.Random) -> Wording:
    return rng.choice(("lexical", "paraphrase"))


def _single(world: World) -> list[Row]:
    """Return for each fact a question for its value, and questions about its old value and its exception."""
    rows = []
    for fact in world.written():
        for about in ASPECTS:
            gold = world.stating(fact, about)
            if not gold:
                continue
            rng = _rng(fact.id, about)
            wording = _wording(rng)
            question = questions.ask(world.bank, fact, world.name(fact), about, wording, rng)
            kind = "negated" if about == "negated" else wording if about == "value" else "lexical"
            choice = about != "since" and rng.random() < 0.4
            options = (
                questions.options_for(fact, question.answer, rng, world.siblings(fact)) if choice else None
            )
            rows.append(_row(question, split_of(fact.id), kind, gold, options))
    return rows


def _unanswerable(world: World) -> list[Row]:
    """Return questions about facts that the handbook does not state; the right answer is REFUSAL."""
    rows = []
    for fact in world.facts.values():
        if not any(key[0] == fact.id for key in world.where):
            rng = _rng(fact.id, "unanswerable")
            question = questions.ask(world.bank, fact, world.name(fact), "value", _wording(rng), rng)
            question = Question(question.text, REFUSAL, question.facts, question.about)
            rows.append(_row(question, split_of(fact.id), "unanswerable", []))
    return rows


def _double(world: World, n: int = 45) -> list[Row]:
    """Return questions that need facts from two passages: `n` for two values, `n` that compare two values."""
    rows: list[Row] = []
    rng = _rng("double")
    facts = world.written()
    for compare in (False, True):
        done = 0
        while done < n:
            first = rng.choice(facts)
            others = (
                world.siblings(first)
                if compare
                else [f for f in facts if f.kind == first.kind and f.id != first.id]
            )
            second = rng.choice(others)
            if not _two_passages(world, first, second):
                continue
            if compare and (first.value.amount is None or first.value.amount == second.value.amount):
                continue
            ask = questions.ask_compare if compare else questions.ask_pair
            question = ask(first, second, (world.name(first), world.name(second)), _wording(rng), rng)
            gold = sorted({*world.stating(first, "value"), *world.stating(second, "value")})
            if all(question.text != r["question"] for r in rows):
                rows.append(_row(question, split_of(first.id), "two-passage", gold))
                done += 1
    return rows


def _two_passages(world: World, first: Fact, second: Fact) -> bool:
    """Both are written, in different passages, and belong to the same split."""
    a, b = set(world.stating(first, "value")), set(world.stating(second, "value"))
    return bool(a and b) and not (a & b) and split_of(first.id) == split_of(second.id)


def _untrue(world: World) -> list[Row]:
    """For each entity with five facts of one split in the handbook: which of five lines is false?"""
    rows = []
    by_entity: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in world.written():
        by_entity[fact.entity, split_of(fact.id)].append(fact)
    for (entity, split), facts in sorted(by_entity.items()):
        if len(facts) >= 5:
            rng = _rng(entity, split, "untrue")
            chosen = rng.sample(facts, 5)
            question, lines = questions.ask_untrue(chosen, world.name(chosen[0]), _wording(rng), rng)
            gold = sorted({p for f in chosen for p in world.stating(f, "value")})
            rows.append(_row(question, split, "negated", gold, lines))
    return rows


def grade(world: World, row: Row, passage: str) -> int:
    """3 holds (part of) the answer, 2 another aspect of the fact, 1 same entity or a near miss, 0 else."""
    if passage in row["gold"]:
        return 3
    states = world.passages[passage].states
    if {f for f, _ in states} & set(row["facts"]):
        return 2
    facts = [world.facts[f] for f in row["facts"]]
    if world.about[passage] & {f.entity for f in facts}:
        return 1
    near = {s.id for fact in facts for s in world.siblings(fact)}
    return int(any(f in near for f, _ in states))


def build_relevance(world: World, rows: list[Row]) -> list[Row]:
    """Judgements of all answerable questions; a pair that is not listed has grade 0."""
    judged = []
    for row in rows:
        if row["gold"]:
            grades = ((p, grade(world, row, p)) for p in world.passages)
            judged += [{"question": row["id"], "passage": p, "grade": g} for p, g in grades if g]
    return judged
