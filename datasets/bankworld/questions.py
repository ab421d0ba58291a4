"""Questions about facts, with answers that are right by construction."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from bankworld import schema
from bankworld.bank import Bank, Fact
from bankworld.passages import slot_text
from bankworld.values import Value, draw_other

Wording = Literal["train", "lexical", "paraphrase"]
# What a question may be about -> the aspects of a fact that a passage must state to answer it.
ASPECTS: dict[str, tuple[str, ...]] = {
    "value": ("value",),
    "old": ("value", "old", "since"),
    "since": ("since",),
    "exception": ("group", "exception"),
    "negated": ("value", "group", "exception"),
}


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the facts it needs."""

    text: str
    answer: str
    facts: tuple[str, ...]
    about: str  # value, old, since, exception, negated, pair, compare, untrue


def label(fact: Fact) -> str:
    return schema.texts()[fact.kind].attributes[fact.attribute].label


def wordings(fact: Fact, about: str, wording: Wording) -> list[str]:
    """The question templates of a fact; those for tests never overlap with those for training."""
    common = schema.common()
    if about != "value":
        return common[about]["asks" if wording == "train" else "held"]
    text = schema.texts()[fact.kind].attributes[fact.attribute]
    if wording == "train":
        return text.asks
    return text.held.lexical if wording == "lexical" else text.held.paraphrase


def ask(bank: Bank, fact: Fact, name: str, about: str, wording: Wording, rng: random.Random) -> Question:
    """A question about one aspect of one fact of the entity called `name`."""
    templates = wordings(fact, about, wording)
    if wording == "train" and about == "value" and rng.random() < 0.25:
        templates = schema.common()["asks"]
    slots = {"name": name, "bank": bank.name, "label": label(fact)}
    slots |= {a: slot_text(fact, a) for a in ("since", "group") if getattr(fact, a)}
    aspect = "value" if about == "negated" else about
    return Question(
        capitalise_first(rng.choice(templates).format(**slots)), slot_text(fact, aspect), (fact.id,), about
    )


def ask_pair(
    first: Fact, second: Fact, names: tuple[str, str], wording: Wording, rng: random.Random
) -> Question:
    """Two facts in one question; the answer is the two values joined by '; '."""
    template = rng.choice(wordings(first, "pair", wording))
    text = template.format(name=names[0], name2=names[1], label=label(first), label2=label(second))
    answer = f"{slot_text(first, 'value')}; {slot_text(second, 'value')}"
    return Question(capitalise_first(text), answer, (first.id, second.id), "pair")


def ask_compare(
    first: Fact, second: Fact, names: tuple[str, str], wording: Wording, rng: random.Random
) -> Question:
    """Which of two entities has more (or less) of one attribute; the answer is its name."""
    a, b = first.value.amount, second.value.amount
    if a is None or b is None or a == b or first.attribute != second.attribute:
        raise ValueError(f"{first.id} and {second.id} cannot be compared")
    more, less = schema.common()["more"][first.value.kind]
    word, wanted = rng.choice(((more, a > b), (less, a < b)))
    template = rng.choice(wordings(first, "compare", wording))
    text = template.format(name=names[0], name2=names[1], label=label(first), more=word)
    return Question(
        capitalise_first(text), names[0] if wanted else names[1], (first.id, second.id), "compare"
    )


def ask_untrue(
    facts: list[Fact], name: str, wording: Wording, rng: random.Random
) -> tuple[Question, list[str]]:
    """Four true lines and a false one about an entity: the question and its five options, shuffled."""
    lines = [f"{label(f)}: {slot_text(f, 'value')}" for f in facts]
    wrong = facts[-1]
    lie = draw_other(schema.specs()[wrong.kind][wrong.attribute], rng, *_known(wrong))
    lines[-1] = f"{label(wrong)}: {slot_text(wrong.model_copy(update={'value': lie}), 'value')}"
    text = rng.choice(wordings(wrong, "untrue", wording)).format(name=name)
    question = Question(text, lines[-1], tuple(f.id for f in facts), "untrue")
    return question, rng.sample(lines, len(lines))


def options_for(fact: Fact, answer: str, rng: random.Random, near: list[Fact] = [], n: int = 5) -> list[str]:  # noqa: B006
    """`n` options with `answer` among them; near misses first (old value, exception, siblings' values)."""
    misses = [slot_text(fact, a) for a in ("value", "old", "exception") if getattr(fact, a)]
    misses += [slot_text(f, "value") for f in near]
    wrong = [m for m in dict.fromkeys(misses) if m != answer]
    wrong = rng.sample(wrong, min(len(wrong), n - 2))
    spec = schema.specs()[fact.kind][fact.attribute]
    while len(wrong) < n - 1:
        text = slot_text(fact.model_copy(update={"value": spec.draw(rng)}), "value")
        if text != answer and text not in wrong:
            wrong.append(text)
    return rng.sample([answer, *wrong], n)


def _known(fact: Fact) -> list[Value]:
    return [v for v in (fact.value, fact.old, fact.exception) if v]


def capitalise_first(text: str) -> str:
    """The text with its first letter in upper case: a slot at its beginning may be filled in lower case."""
    return text[0].upper() + text[1:]
