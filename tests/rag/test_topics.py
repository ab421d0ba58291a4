"""haneul-topics: what a handbook states about a product, and what it states about another one only."""

import pytest

from course_lib.rag.prompt import Source
from course_lib.rag.topics import StatedTopics

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


def test_a_name_inside_a_longer_one_is_no_statement_about_the_product():
    plus = "The Birch Credit Card Plus"
    longer = StatedTopics([Source(plus, f"{plus} costs KRW 9,000 a year.")], ["Birch Credit Card", plus[4:]])
    assert longer.log_odds(FEE.format("Birch Credit Card")) == pytest.approx(-4.6, abs=0.05)
    assert longer.log_odds(FEE.format("Birch Credit Card Plus")) > 0


def test_a_sentence_about_a_sibling_in_the_same_passage_is_no_help():
    alder, birch = (source.text for source in PASSAGES)
    names = ["Alder Credit Card", "Birch Credit Card"]
    both = StatedTopics([Source("Two cards", f"{alder} {birch}")], names)
    assert both.log_odds(FEE.format("Alder Credit Card")) > 0
    assert both.log_odds(FEE.format("Birch Credit Card")) < -2
    bare = StatedTopics([Source("The Birch Credit Card", "Whoever has it pays KRW 12,000 a year.")], names)
    question = FEE.format("Birch Credit Card")  # a sentence without a name is about the passage's product
    assert bare.log_odds(question) > both.log_odds(question) + 1


def test_a_cell_of_a_table_is_read_with_its_headers():
    table = "| | Alder Credit Card | Birch Credit Card |\n|---|---|---|\n| {} | KRW 9,000 | KRW 500 |"
    names = ["Alder Credit Card", "Birch Credit Card"]
    fee, limit = (
        StatedTopics([Source("Two cards", table.format(label))], names).log_odds(FEE.format(names[1]))
        for label in ("annual fee", "credit limit")
    )
    assert fee > limit + 1


def test_the_name_does_not_matter():
    other = [Source(s.title.replace("Alder", "Zebra"), s.text.replace("Alder", "Zebra")) for s in PASSAGES]
    topics = [
        StatedTopics(PASSAGES, ["Alder Credit Card"]).log_odds(FEE.format("Alder Credit Card")),
        StatedTopics(other, ["Zebra Credit Card"]).log_odds(FEE.format("Zebra Credit Card")),
    ]
    assert topics[0] == pytest.approx(topics[1])
