"""The world: right by construction, and held to the figures that its datasheet states."""

import random
from collections import Counter, defaultdict

import pytest
from bankworld import check, contexts, english, questions, schema
from bankworld.__main__ import DATASETS, FOLDERS
from bankworld.bank import Bank, draw_fact
from bankworld.haneul import World, split_of
from bankworld.messages import near_pairs
from bankworld.overlap import five_grams, largest_overlap
from bankworld.passages import Passage, compose, fill
from bankworld.values import Value
from hypothesis import given
from hypothesis import strategies as st
from pretraining import documents

from course_lib import data

SEEDS = st.integers(min_value=0, max_value=2**40)


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.mark.parametrize("area", schema.AREAS)
def test_written_text_follows_the_rules(area):
    assert check.problems(area) == []


def test_the_generator_is_as_large_as_promised():
    specs, texts = schema.specs(), schema.texts()
    assert len(schema.AREAS) >= 12
    assert sum(map(len, specs.values())) >= 200
    assert min(len(a.asks) for t in texts.values() for a in t.attributes.values()) >= 20
    assert sum(s.changes for kind in specs.values() for s in kind.values()) >= 40
    assert sum(s.exception for kind in specs.values() for s in kind.values()) >= 24


@pytest.mark.parametrize("folder", FOLDERS)
def test_rebuilding_gives_the_same_bytes(folder):
    for name, text in FOLDERS[folder]().items():
        path = DATASETS / folder / name
        assert path.read_bytes() == text.encode(), f"{folder}/{name} differs from its sources: make data"


def test_passages_are_long_enough_and_unlike_one_another(world):
    texts = [p.text for p in world.passages.values()]
    lengths = [len(t.split()) for t in texts]
    assert len(texts) >= 240
    assert min(lengths) >= 60 and max(lengths) <= 140
    assert max(lengths) - min(lengths) >= 60, "lengths should vary as a real handbook's do"
    assert largest_overlap(texts)[0] <= 0.5
    assert len({" ".join(t.split()[:3]).lower() for t in texts}) >= 0.9 * len(texts)


def test_overlap_finds_a_planted_copy(world):
    texts = [p.text for p in world.passages.values()][:20]
    assert largest_overlap([*texts, texts[7] + " And one more sentence."])[0] > 0.9


def test_every_stated_value_stands_in_its_passage(world):
    for id_, passage in world.passages.items():
        for fact, aspect in passage.states:
            words = questions.slot_text(world.facts[fact], aspect)
            assert words.lower() in passage.text.lower(), f"{id_} does not show {fact} {aspect}"


def test_siblings_never_share_a_value(world):
    for fact in world.facts.values():
        assert all(s.value != fact.value for s in world.siblings(fact)), fact.id


def test_questions_are_many_and_of_every_kind():
    found = data.load_questions()
    kinds = Counter(q.kind for q in found)
    assert len(found) >= 515
    assert set(kinds) == set(data.KINDS) and kinds["unanswerable"] >= 60
    assert len({q.question for q in found}) >= 0.99 * len(found)
    assert {q.split for q in found} == set(data.SPLITS)
    for q in found:
        if q.format == "choice":
            assert len(set(q.options)) == 5 and q.answer in q.options, q.id


def test_gold_passages_answer_and_unanswerable_questions_have_none(world):
    for q in data.load_questions():
        assert bool(q.gold) == (q.kind != "unanswerable"), q.id
        if q.kind == "unanswerable":
            assert not any(fact == q.facts[0] for p in world.passages.values() for fact, _ in p.states), q.id
        elif q.about in questions.ASPECTS:
            for gold in q.gold:
                assert q.answer.lower() in world.passages[gold].text.lower(), (q.id, gold)


def test_no_fact_lies_in_two_splits():
    splits = defaultdict(set)
    for q in data.load_questions():
        for fact in q.facts:
            splits[fact].add(q.split)
    assert all(len(s) == 1 for s in splits.values())


def test_relevance_follows_from_the_facts(world):
    grades, found = data.load_relevance(), {q.id: q for q in data.load_questions()}
    assert len(grades) >= 300
    for id_, by_passage in grades.items():
        assert {p for p, g in by_passage.items() if g == 3} == set(found[id_].gold)
    assert {g for by in grades.values() for g in by.values()} == {1, 2, 3}


def test_test_wordings_are_never_trained_on():
    trained = {q for t in schema.texts().values() for a in t.attributes.values() for q in a.asks} | set(
        schema.common()["asks"]
    )
    for kind in schema.texts().values():
        for attribute in kind.attributes.values():
            held = attribute.held.lexical + attribute.held.paraphrase
            assert not trained & set(held), sorted(trained & set(held))


def test_haneul_is_never_trained_on(world):
    names = [world.bank.entity(*e.split(".")).name for e in sorted({f.entity for f in world.facts.values()})]
    assert len(names) == len(set(names)) == 72
    assert all(name.startswith("Haneul ") for name in names)
    for i in range(300):
        for user, answer in documents.question_answering(random.Random(i), 3, 6, 0.5):
            assert "Haneul" not in user + answer
    training = [t.text for area in schema.AREAS for t in schema.passages_of(area, haneul=False)]
    haneul = [t.text for area in schema.AREAS for t in schema.passages_of(area, haneul=True)]
    for text in haneul:
        grams = five_grams(text)
        assert max(len(grams & five_grams(t)) / len(grams) for t in training) < 0.5


def test_messages_are_many_and_splits_share_no_near_duplicates():
    found = data.load_messages()
    assert len(found) >= 1500 and len({m.intent for m in found}) >= 15
    assert {m.split for m in found} == set(data.SPLITS)
    for a, b in near_pairs([m.message for m in found]):
        assert found[a].split == found[b].split, (found[a].message, found[b].message)


def test_near_pairs_find_a_planted_near_duplicate():
    texts = [
        "my card has been stolen on the bus this morning",
        "my card has been stolen on the train this morning",
        "hello",
    ]
    assert near_pairs([*texts, texts[0]]) == [(0, 1), (0, 3), (1, 3)]
    assert near_pairs(["a b c d e f g h", "a b c d e f g x"]) == [(0, 1)]


@given(SEEDS)
def test_a_fact_differs_from_its_past_and_its_exception(seed):
    rng = random.Random(seed)
    kind = rng.choice(sorted(schema.specs()))
    for attribute in schema.specs()[kind]:
        fact = draw_fact(f"{kind}.x", attribute, rng)
        values = [v for v in (fact.value, fact.old, fact.exception) if v]
        assert len(set(values)) == len(values)


@given(SEEDS)
def test_composed_passages_show_what_they_state(seed):
    rng = random.Random(seed)
    entity = Bank(seed).entity(rng.choice(sorted(schema.specs())), "a")
    passage = compose(entity, rng.sample(sorted(entity.facts), 3), rng)
    assert entity.name.lower() in (passage.title + passage.text).lower()
    for fact, aspect in passage.states:
        words = questions.slot_text(entity.facts[fact.rpartition(".")[2]], aspect)
        assert words.lower() in passage.text.lower()


@given(SEEDS)
def test_training_answers_are_in_their_context(seed):
    rng = random.Random(seed)
    context = contexts.make_context(rng, 2)
    question, _ = contexts.answerable(context, rng)
    assert question.answer.lower() in " ".join(p.text for p in context.passages).lower()


@given(st.text())
def test_a_split_is_always_one_of_three(key):
    assert split_of(key) in data.SPLITS


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Value(kind="money", amount=1_250_000), "KRW 1,250,000"),
        (Value(kind="percent", amount=0.1), "0.10%"),
        (Value(kind="duration", amount=1, unit="business day"), "1 business day"),
        (Value(kind="count", amount=3, unit="entry"), "3 entries"),
        (Value(kind="time", amount=9 * 60 + 15), "09:15"),
        (Value(kind="date", key="2025-05-04"), "4 May 2025"),
        (Value(kind="person", key="minseo han"), "Minseo Han"),
    ],
)
def test_values_as_words(value, words):
    assert english.render(value, {}) == words


def test_a_slot_that_a_fact_cannot_fill_is_an_error(world):
    template = schema.PassageTemplate(about={"a": "branch.x"}, title="t", text="{a.manager.old}")
    with pytest.raises((KeyError, ValueError)):
        fill(template, Bank(1), {"a": Bank(1).entity("branch", "x")})
    assert isinstance(next(iter(world.passages.values())), Passage)
