"""Haneul Bank in Korean: particles and numbers; the same facts, questions and judgements as in English."""

import os
import random
import re
import subprocess
import sys
import unicodedata

import pytest
from bankworld import english, korean, korean_check, korean_haneul, korean_text, schema
from bankworld.bank import draw_fact
from bankworld.haneul import REFUSAL, World
from bankworld.messages import near_pairs
from bankworld.overlap import largest_overlap
from bankworld.values import Value
from hypothesis import given
from hypothesis import strategies as st

from course_lib import data
from course_lib.errors import CourseError


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def questions():
    return {q.id: q for q in data.load_questions(language="ko")}


def holds(words: str, text: str) -> bool:
    """`words` occur in `text`, and not as the tail of a longer number: 3% is not in 12.3%."""
    return re.search(rf"(?<![\d.,]){re.escape(words)}", text) is not None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("통장은(는) 카드은(는)", "통장은 카드는"),
        ("지점이(가) 센터이(가)", "지점이 센터가"),
        ("적금을(를) 수수료을(를)", "적금을 수수료를"),
        ("통장과(와) 카드과(와)", "통장과 카드와"),
        ("통장(으)로 카드(으)로 서울(으)로", "통장으로 카드로 서울로"),
        ("3%을(를) 3%(으)로 3%(이)었다", "3%를 3%로 3%였다"),
        ("9,500원(이)었다", "9,500원이었다"),
        ("13:30을(를) 13:00을(를)", "13:30을 13:00를"),  # 분을, 시를
        (
            "1577-5501(으)로 1577-5509(으)로 1577-5503(으)로",
            "1577-5501로 1577-5509로 1577-5503으로",
        ),  # 일로 구로 삼으로
        ("ACC-800은(는) ACC-802은(는)", "ACC-800은 ACC-802는"),  # 공은 이는
        ("Haneul Pine을(를) Haneul Maple(으)로", "Haneul Pine을 Haneul Maple로"),
        ("Haneul Web Desk이(가) Savings Plan이(가)", "Haneul Web Desk가 Savings Plan이"),
        ("Pocket App을(를) Web Dock과(와)", "Pocket App을 Web Dock과"),
        ("PDF을(를) PIN은(는) URL(으)로 USB은(는)", "PDF를 PIN은 URL로 USB는"),
        ("통장(Haneul Pine Card)을(를)", "통장(Haneul Pine Card)을"),
        ("‘카드’이(가) 『하늘』이(가)", "‘카드’가 『하늘』이"),
        ("새벽(이)라는 카드(이)라는", "새벽이라는 카드라는"),
    ],
)
def test_particles_agree_with_what_is_read_before_them(written, read):
    assert korean.particles(written) == read


@given(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3))
def test_a_particle_follows_the_final_consonant_of_any_syllable(syllable):
    has_final = unicodedata.normalize("NFD", syllable)[-1] >= "\u11a8"
    assert korean.particles(f"{syllable}을(를)") == syllable + ("을" if has_final else "를")


@pytest.mark.parametrize(
    ("won", "words"),
    [
        (500, "500원"),
        (9_500, "9,500원"),
        (10_000, "1만 원"),
        (17_500, "1만 7,500원"),
        (1_250_000, "125만 원"),
        (100_000_000, "1억 원"),
        (250_000_000, "2억 5,000만 원"),
        (42_500_000, "4,250만 원"),
        (0, "0원"),
    ],
)
def test_amounts_are_grouped_by_man_and_eok(won, words):
    assert korean.money(won) == words


@given(st.integers(min_value=1, max_value=10**12))
def test_an_amount_can_be_read_back(won):
    weights = {"억": 10**8, "만": 10**4, "": 1, "원": 1}
    parts = re.findall(r"([\d,]+)(억|만|원)", korean.money(won))
    assert sum(int(n.replace(",", "")) * weights[unit] for n, unit in parts) == won


def test_the_other_values_as_words():
    words = korean_text.texts()
    free = words["current_account"]["free_withdrawals"]
    assert korean.day("2025-05-30") == "2025년 5월 30일"
    assert korean.person("minseo han") == "한민서"
    assert korean.render(Value(kind="count", amount=7, unit="withdrawal"), free) == "7회"
    assert (
        korean.render(
            Value(kind="duration", amount=3, unit="business day"), free.model_copy(update={"unit": None})
        )
        == "3영업일"
    )
    assert korean.render(Value(kind="time", amount=570), free) == "09:30"
    assert [korean.render(Value(kind="percent", amount=a), free) for a in (3, 2.5, 2.35, 0.1)] == [
        "3%",
        "2.5%",
        "2.35%",
        "0.1%",
    ]


@given(st.integers(min_value=0, max_value=2**40))
def test_every_value_can_be_worded_and_english_words_name_their_value(seed):
    rng = random.Random(seed)
    kind = rng.choice(sorted(schema.specs()))
    for attribute in schema.specs()[kind]:
        value = draw_fact(f"{kind}.x", attribute, rng).value
        assert korean.render_for(kind, attribute, value)
        assert english.parse(english.render_for(kind, attribute, value), kind, attribute) == value


def test_words_that_render_no_value_are_refused():
    for words, attribute in (
        ("KRW 2500", "monthly_fee"),
        ("a passport", "opening_documents"),
        ("18 visits", "free_withdrawals"),
    ):
        with pytest.raises(ValueError, match=words):
            english.parse(words, "current_account", attribute)


@pytest.mark.parametrize("area", schema.AREAS)
def test_written_korean_follows_the_rules(area):
    assert korean_check.problems(area) == []


def test_the_particle_rule_finds_planted_errors():
    wrong = "카드을 통장를 은행가 고객와 카드과 통장로 카드으로 서울으로 센터은"
    assert korean_check.wrong_particles(wrong) == wrong.split()
    assert (
        korean_check.wrong_particles(
            "카드를 통장을 은행이 고객과 카드와 통장으로 카드로 서울로 센터는 마을 아이 먹는 전문가"
        )
        == []
    )


def test_every_korean_passage_holds_the_facts_of_its_twin_and_shows_them(world):
    twins, passages = data.load_passages(), data.load_passages(language="ko")
    assert list(passages) == list(twins)
    for id_, passage in passages.items():
        assert (passage.states, passage.about) == (twins[id_].states, twins[id_].about), id_
        for fact, aspect in passage.states:
            assert holds(korean_haneul.slot_text(world.facts[fact], aspect), passage.text), (
                id_,
                fact,
                aspect,
            )
        for entity in passage.about:
            assert korean_text.names()[entity] in passage.text, (id_, entity)


def test_passages_are_unlike_one_another():
    texts = [p.text for p in data.load_passages(language="ko").values()]
    assert largest_overlap(texts)[0] <= 0.25
    assert len({" ".join(t.split()[:3]) for t in texts}) >= 0.95 * len(texts)


def test_questions_are_parallel_to_the_english_ones(questions):
    twins = {q.id: q for q in data.load_questions()}
    assert list(questions) == list(twins)
    for id_, q in questions.items():
        t = twins[id_]
        assert (q.split, q.kind, q.about, q.format, q.facts, q.gold) == (
            t.split,
            t.kind,
            t.about,
            t.format,
            t.facts,
            t.gold,
        )
        assert len(q.options) == len(t.options) == len(set(q.options))
        if q.options:
            assert q.options.index(q.answer) == t.options.index(t.answer), id_
        assert (q.answer == "안내서에 나와 있지 않습니다.") == (t.answer == REFUSAL)
    assert len({q.question for q in questions.values()}) == len(questions)


def test_korean_answers_have_the_value_of_the_english_ones(world, questions):
    twins = {q.id: q for q in data.load_questions()}
    for id_, q in questions.items():
        fact = world.facts[q.facts[0]]
        if q.kind == "unanswerable" or q.about in ("pair", "untrue"):
            continue
        if q.about == "compare":
            entities = {
                korean_text.names()[f.entity]: world.name(f) for f in (world.facts[i] for i in q.facts)
            }
            assert entities[q.answer] == twins[id_].answer, id_
        elif q.about == "since":
            assert korean.day(english.parse_day(twins[id_].answer)) == q.answer, id_
        else:
            aspect = "value" if q.about == "negated" else q.about
            value = english.parse(twins[id_].answer, fact.kind, fact.attribute)
            assert value == getattr(fact, aspect) and q.answer == korean_haneul.slot_text(fact, aspect), id_


def test_comparisons_ask_for_the_side_that_is_the_answer(world, questions):
    for q in (q for q in questions.values() if q.about == "compare"):
        first, second = (world.facts[f] for f in q.facts)
        larger = korean_text.names()[
            first.entity if first.value.amount > second.value.amount else second.entity
        ]
        more, less = (
            korean_text.texts()[first.kind][first.attribute].more
            or korean_text.common()["more"][first.value.kind]
        )
        assert (more in q.question) == (q.answer == larger) and (less in q.question) == (
            q.answer != larger
        ), q.id


def test_answers_stand_in_their_gold_passages(questions):
    passages = data.load_passages(language="ko")
    for q in questions.values():
        parts = {"pair": q.answer.split("; "), "compare": [q.answer]}.get(q.about, [q.answer])
        if q.about != "untrue":
            for part in parts:
                held = [holds(part, passages[p].text) for p in q.gold]
                assert all(held) if len(parts) == 1 and q.about != "compare" else not q.gold or any(held), (
                    q.id,
                    part,
                )


def test_false_lines_are_false_and_the_others_true(world, questions):
    for q in (q for q in questions.values() if q.about == "untrue"):
        true = {
            f"{korean_haneul.label(f)}: {korean_haneul.slot_text(f, 'value')}"
            for f in map(world.facts.get, q.facts)
            if f
        }
        assert set(q.options) - true == {q.answer}, q.id


def test_lexical_questions_use_words_of_the_label_and_paraphrases_none(world, questions):
    for q in questions.values():
        if q.about == "value" and q.kind in ("lexical", "paraphrase"):
            fact = world.facts[q.facts[0]]
            asked = q.question.replace(korean_text.names()[fact.entity], "")
            assert bool(korean_check.shared(asked, korean_haneul.label(fact))) == (q.kind == "lexical"), (
                q.question
            )


def test_code_switched_questions_name_products_in_english(world, questions):
    mixed = data.load_questions(language="ko", english_names=True)
    assert [q.id for q in mixed] == list(questions)
    for q in mixed:
        plain = questions[q.id]
        named = {world.name(world.facts[f]): korean_text.names()[world.facts[f].entity] for f in q.facts}
        assert any(name in q.question for name in named) and not any(
            ko in q.question for ko in named.values()
        ), q.id
        assert (q.options, q.gold, q.split) == (plain.options, plain.gold, plain.split)
        assert q.answer == plain.answer or named[q.answer] == plain.answer


def test_no_text_has_an_open_slot_a_wrong_particle_or_another_form_than_nfc():
    for q in (*data.load_questions(language="ko"), *data.load_questions(language="ko", english_names=True)):
        assert korean_check.text_problems(q.id, "\n".join((q.question, q.answer, *q.options))) == []


@pytest.mark.parametrize("load", [data.load_passages, data.load_questions, data.load_messages])
def test_an_unknown_language_names_the_two_that_there_are(load):
    with pytest.raises(CourseError, match="unknown language='fr'; Haneul Bank's data are in en and ko"):
        load(language="fr")


def test_english_is_the_default():
    assert data.load_passages() == data.load_passages(language="en")
    assert data.load_questions(english_names=True) == data.load_questions(language="en")


def test_messages_have_the_ids_intents_and_splits_of_the_english_ones():
    found, twins = data.load_messages(language="ko"), data.load_messages()
    assert [(m.id, m.intent, m.split) for m in found] == [(m.id, m.intent, m.split) for m in twins]
    assert len({m.message for m in found}) == len(found)
    assert near_pairs([m.message for m in found]) == []
    for m in found:
        assert korean_check.text_problems(m.id, m.message) == []


def test_no_part_of_a_message_lies_in_two_splits():
    splits = {}
    found = data.load_messages(language="ko")
    for intent in {m.intent for m in found}:
        written = korean_text.messages_of(intent)
        for part in written.situations + written.requests:
            splits[part] = {m.split for m in found if m.intent == intent and part in m.message}
    assert len(splits) >= 550 and max(map(len, splits.values())) == 1


def test_the_files_do_not_depend_on_the_hash_seed():
    code = (
        "import hashlib; from bankworld.__main__ import FOLDERS; "
        "files = [build() for build in FOLDERS.values()]; "
        "print(hashlib.sha256(repr(files).encode()).hexdigest())"
    )
    digests = []
    for seed in ("0", "1"):
        # bankworld is not installed: it is found where `make data` finds it
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(data.ROOT / "datasets")}
        digests.append(
            subprocess.run(
                [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
            ).stdout
        )
    assert digests[0] == digests[1]
