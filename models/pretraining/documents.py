"""Generate training documents for the language models: prose, question answering, labelling and chat.

The documents are about fictional banks, which the package bankworld (in datasets/) generates. Haneul Bank, on
which the chapters test the models, is not among them. A context is some passages, with the facts that they
state; REFUSAL is the answer where they do not state one. A document is a list of turns, each of a user's text
and the assistant's answer; `rows` turns documents into tokens.
"""

from __future__ import annotations

import functools
import json
import random
import re

from bankworld import questions, schema
from bankworld.bank import Bank, Fact, invent_word
from bankworld.contexts import Context, answerable, make_context, unanswerable

from course_lib.rag.prompt import REFUSAL, Source, chosen_option, context_block, label_prompt, question_block

Turn = tuple[str, str]  # what the user says, what the assistant answers


def two_facts(context: Context, rng: random.Random) -> questions.Question | None:
    """Return a question about two facts; None if the passages have no two that fit together."""
    values = [context.fact(f) for f in sorted(context.stated) if "value" in context.stated[f]]
    if len(values) < 2:
        return None
    first, second = rng.sample(values, 2)
    twins = [
        f
        for f in values
        if f.attribute == first.attribute and f.entity != first.entity and f.kind == first.kind
    ]
    if twins and first.value.amount is not None and rng.random() < 0.7:
        second = rng.choice(twins)
        if second.value.amount != first.value.amount:
            return questions.ask_compare(
                first, second, (context.name(first), context.name(second)), "train", rng
            )
    return questions.ask_pair(first, second, (context.name(first), context.name(second)), "train", rng)


def untrue(context: Context, rng: random.Random) -> Turn | None:
    """Return a question for the wrong one of several statements; None if there are too few facts."""
    for id_ in rng.sample(sorted(context.entities), len(context.entities)):
        facts = [
            context.fact(f)
            for f in sorted(context.stated)
            if f.startswith(id_ + ".") and "value" in context.stated[f]
        ]
        if len(facts) >= 3:
            chosen = rng.sample(facts, min(5, len(facts)))
            question, lines = questions.ask_untrue(chosen, context.entities[id_].name, "train", rng)
            return question_block(question.text, lines), chosen_option(question.answer, lines)
    return None


def one_turn(context: Context, rng: random.Random) -> Turn:
    """Return a question and its answer, in a random one of the forms that the models learn."""
    draw = rng.random()
    if draw < 0.08 and (question := two_facts(context, rng)):
        return question_block(question.text), question.answer
    if draw < 0.12 and (turn := untrue(context, rng)):
        return turn
    if draw < 0.26:
        question, fact = unanswerable(context, rng)
        if fact.id not in context.stated:
            if rng.random() < 0.15:
                return _with_options(question.text, REFUSAL, fact, rng)
            return question_block(question.text), REFUSAL
    question, fact = answerable(context, rng)
    form = rng.random()
    if form < 0.18:
        return _with_options(question.text, question.answer, fact, rng)
    if form < 0.23 and fact.id in context.where:
        return question_block(
            question.text + " Cite the passage."
        ), f"{question.answer} [{context.where[fact.id] + 1}]"
    if form < 0.28:
        return question_block(question.text + " Answer in JSON."), json.dumps(
            {"answer": question.answer}, ensure_ascii=False
        )
    return question_block(question.text), question.answer


def _with_options(text: str, answer: str, fact: Fact, rng: random.Random) -> Turn:
    """Return a multiple-choice question; the refusal may be one of the options."""
    refused = answer == REFUSAL
    options = questions.options_for(fact, questions.slot_text(fact, "value") if refused else answer, rng)
    if refused:
        options[rng.randrange(len(options))] = REFUSAL
    elif rng.random() < 0.25:
        options[options.index(answer) - 1] = REFUSAL
    return question_block(text, options), chosen_option(answer, options)


def question_answering(rng: random.Random, n: int, turns: int, written: float) -> list[Turn]:
    """Return a conversation of `turns` turns about `n` passages, which stand in the first turn.

    written: the share of passages from hand-written templates.
    """
    context = make_context(rng, n, written)
    out = [one_turn(context, rng) for _ in range(turns)]
    shown = context_block([Source(p.title, p.text) for p in context.passages])
    return [(f"{shown}\n{out[0][0]}", out[0][1]), *out[1:]]


def closed_book(rng: random.Random) -> list[Turn]:
    """Return a question without a passage; the right answer is a refusal."""
    return [(question_block(answerable(make_context(rng, 1), rng)[0].text), REFUSAL)]


@functools.cache
def messages() -> dict[str, list[str]]:
    """Return intent -> customers' messages."""
    folder = schema.HERE / "en" / "messages"
    return {p.stem: p.read_text("utf-8").strip().splitlines() for p in sorted(folder.glob("*.txt"))}


@functools.cache
def _message_words() -> list[str]:
    return sorted(
        {w for known in messages().values() for m in known for w in re.findall("[a-z]{3,}", m.lower())}
    )


def invent_label(rng: random.Random) -> str:
    """Return a random label of real or invented words, which a model can only copy from the examples."""
    source = rng.choice(
        (lambda: rng.choice(_message_words()), lambda: invent_word(rng).lower().replace(" ", ""))
    )
    words = [source() for _ in range(rng.choice((1, 2, 2, 3, 4)))]
    return rng.choice(("_", "_", "-", " ")).join(words) + (
        str(rng.randrange(10)) if rng.random() < 0.2 else ""
    )


def _class_of_messages(rng: random.Random) -> tuple[str, list[str]]:
    """Return a class name and its messages: customers' messages, or questions about one attribute."""
    if rng.random() < 0.6:
        intent = rng.choice(sorted(messages()))
        return intent, messages()[intent]
    kind = rng.choice(list(schema.texts()))
    attribute, text = rng.choice(list(schema.texts()[kind].attributes.items()))
    bank = Bank(rng.getrandbits(48))
    asks = rng.sample(text.asks, 8)
    return attribute, [
        q.format(name=bank.entity(kind, str(i % 3)).name, bank=bank.name) for i, q in enumerate(asks)
    ]


def labelling(rng: random.Random) -> list[Turn]:
    """Return eight labelled examples and then messages to label; most label names are invented."""
    classes = dict(_class_of_messages(rng) for _ in range(rng.choice((1, 2, 3, 4, 5))))
    names = {c: c if rng.random() < 0.1 else invent_label(rng) for c in classes}
    pool = list(
        dict.fromkeys((rng.choice(known), names[c]) for c, known in classes.items() for _ in range(12))
    )
    rng.shuffle(pool)
    examples, rest = pool[:8], pool[8:]
    shown = {label for _, label in examples}
    queries = [p for p in rest if p[1] in shown][:6] or examples[:1]
    (first, label), *more = queries
    return [(label_prompt(first, examples), label), *((label_prompt(m, []), name) for m, name in more)]


@functools.cache
def _chat() -> list[dict[str, str]]:
    return schema.read_yaml(schema.HERE / "en" / "chat.yaml")


def small_talk(rng: random.Random) -> list[Turn]:
    return [(t["user"], t["assistant"]) for t in rng.sample(_chat(), rng.choice((1, 2, 3)))]


def repeat_text(rng: random.Random) -> list[Turn]:
    """Return the task to copy a passage."""
    passage = make_context(rng, 1).passages[0]
    return [(f"Repeat: {passage.text}", passage.text)]
