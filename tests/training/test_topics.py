"""haneul-topics: a small training learns to tell topics apart; no Korean question repeats one of Haneul's."""

import random
import re

import numpy as np
import torch
from bankworld import korean_text, schema
from finetuning import topics

from course_lib import data
from course_lib.exam.statements import names
from course_lib.rag import korean_topics
from course_lib.rag.topics import FOLDER

CARDS = [topic for topic in topics.topics() if topic.startswith("credit_card.")]


def accuracy(layer, vectors, rows):
    best = layer(vectors).argmax(dim=1)
    return float(np.mean([CARDS[i] == topic for i, (_, topic) in zip(best.tolist(), rows, strict=True)]))


def learned(rows, vectors):
    """Train on three of four rows; return the share of the others that is told right."""
    old = torch.arange(len(rows)) % 4 > 0
    train, rest = (
        [row for row, o in zip(rows, old.tolist(), strict=True) if o is side] for side in (True, False)
    )
    layer = topics.fit(vectors[old], train, CARDS, epochs=30, rate=0.02)
    return accuracy(layer, vectors[~old], rest)


def test_the_english_classifiers_learn_from_questions_and_sentences():
    rng = random.Random(0)
    for texts in (topics.asked(rng), topics.stated(rng)):
        rows = rng.sample([row for row in texts if row[1] in CARDS[:4]], 80)
        assert learned(rows, topics.embedded(rows)) > 0.7  # by chance 1/4


def test_the_korean_classifier_learns_from_its_questions():
    rows = [row for row in topics.asked_in_korean() if row[1] in CARDS]
    random.Random(0).shuffle(rows)
    vectors = torch.tensor(korean_topics.pieces([text for text, _ in rows]).toarray(), dtype=torch.float32)
    assert learned(rows, vectors) > 0.5  # by chance 1/9


def test_the_shipped_topics_are_those_of_the_script():
    shipped = korean_topics.korean_topics()
    assert shipped.names == topics.topics() and shipped.weights.shape == (korean_topics.FEATURES, 216)
    for topic in CARDS:
        number = shipped.names.index(topic)
        assert shipped.forms[number] == topics.forms(topic)
        assert shipped.asked([shipped.labels[number]])[0].argmax() == number
    log = (FOLDER / "training-log.json").read_text("utf-8")
    assert f'"korean": {len(topics.asked_in_korean())},' in log


def test_no_korean_question_repeats_one_of_haneul():
    asks, specs = korean_text.asks(), schema.specs()
    assert {kind: list(asks[kind]) for kind in asks} == {kind: list(specs[kind]) for kind in specs}
    known = names(f"{p.title}\n{p.text}" for p in data.load_passages(language="ko").values())

    def grams(text):
        for name in known:
            text = text.replace(name, " ")
        plain = " " + " ".join(re.findall(r"\w+", text)) + " "
        return {plain[i : i + 5] for i in range(max(1, len(plain) - 4))}

    exam = [grams(question.question) for question in data.load_questions(language="ko")]
    planted = data.load_questions(language="ko")[7].question
    written = [text for kind in asks.values() for texts in kind.values() for text in texts]
    highest = {
        text: max(len(mine & other) / len(mine | other) for other in exam)
        for text in [*written, planted]
        for mine in [grams(text)]
    }
    assert [text for text, share in highest.items() if share >= 0.6] == [planted]
