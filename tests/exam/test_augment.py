"""Pairs that a model writes: what holds stays, what repeats the exam is found, also in other clothes."""

import pytest

from course_lib import data
from course_lib.exam.augment import Pair, near_duplicates, round_trip, similarity, write_pairs
from course_lib.models import load

OLD_FEE = (
    "The monthly fee of the Haneul Blue Current Account was changed on 9 November 2024: what had it been?"
)


@pytest.fixture(scope="module")
def passages():
    return data.load_passages()


def test_round_trip_keeps_what_the_passage_says(passages):
    id_ = "accounts-02"
    pairs = [
        Pair(id_, OLD_FEE, "KRW 1,500"),
        Pair(id_, OLD_FEE, "KRW 2,500"),
        Pair(id_, "Who founded the bank?", "Mr Kim"),
        Pair(id_, "Who founded the bank?", "Not in the handbook."),
    ]
    kept, dropped = round_trip(load("haneul-4m"), pairs, passages)
    assert kept == pairs[:1] and dropped == pairs[1:]
    assert round_trip(load("haneul-1m"), [], passages) == ([], [])


@pytest.mark.parametrize(
    "leak",
    [
        "WHAT IS THE MONTHLY FEE OF THE Haneul Blue Current Account",
        "Please tell me, what is the monthly fee of the Haneul Blue Current Account?",
        "What's the monthly fee of the Haneul Blue Current Account?",
    ],
)
def test_a_planted_leak_is_found_among_questions_about_other_products(leak):
    exam = ["When does it open?", "What is the monthly fee of the Haneul Blue Current Account?"]
    clean = [
        "What is the monthly fee of the Haneul Blue Plus Current Account?",
        "What is the interest rate of the Haneul Blue Current Account?",
        "",
    ]
    found = near_duplicates([*clean, leak], exam)
    assert found.keys() == {3} and found[3][0] == 1 and found[3][1] >= 0.6


def test_every_exam_question_that_is_planted_is_found():
    exam = [q.question for q in data.load_questions("test")]
    planted = [f"Dear bank: {question[0].lower()}{question[1:]}" for question in exam[::7]]
    assert len(near_duplicates(planted, exam)) == len(planted)
    assert near_duplicates(planted, []) == {}


def test_similarity_has_its_ends():
    assert similarity("A fee?", "a FEE") == 1 and similarity("abcdef", "uvwxyz") == 0


def test_the_same_seed_writes_the_same_pairs(passages):
    writer, some = load("haneul-1m"), [passages["accounts-02"]]
    first, again = (write_pairs(writer, some, 3, seed=1) for _ in range(2))
    assert first == again and len(set(first)) == len(first)
