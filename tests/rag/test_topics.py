"""haneul-topics: what a handbook states about a product, and what it states about another one only."""

import pytest

from course_lib.rag.prompt import Source
from course_lib.rag.topics import StatedTopics, sentences

FEE = "What do you take a year for the {}?"
PASSAGES = [
    Source("The Alder Credit Card", "Whoever has the Alder Credit Card pays KRW 12,000 a year for it."),
    Source("About the Birch Credit Card", "The credit limit of the Birch Credit Card is KRW 3,000,000."),
]


@pytest.fixture(scope="module")
def topics():
    return StatedTopics(PASSAGES, ["Alder Credit Card", "Birch Credit Card", "Birch Credit Card Plus"])


def test_a_sibling_that_states_it_is_no_help(topics):
    assert topics.log_odds(FEE.format("Alder Credit Card")) > 0
    assert topics.log_odds(FEE.format("Birch Credit Card")) < -2
    assert topics.log_odds("How high is the credit limit of the Birch Credit Card?") > 0


def test_nothing_is_stated_about_an_unknown_product(topics):
    lowest = topics.log_odds(FEE.format("Cedar Credit Card"))
    assert lowest == pytest.approx(-4.6, abs=0.05)
    assert topics.log_odds("What is the annual fee?") == lowest


def test_the_longest_name_counts(topics):
    assert topics.named("Is the BIRCH CREDIT CARD PLUS free?") == "birch credit card plus"
    assert not topics.about("birch credit card plus")
    assert topics.log_odds(FEE.format("Birch Credit Card Plus")) == pytest.approx(-4.6, abs=0.05)


def test_sentences_end_at_lines_too():
    assert list(sentences("One. Two\n\n- three")) == ["One.", "Two", "- three"]
