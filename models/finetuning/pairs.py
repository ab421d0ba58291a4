"""Make the training data of the rerankers: questions, passages that answer them, and hard negatives.

A reranker is a model that sorts the passages that a search found. Hard negatives are wrong passages that
hybrid search, by words and by meaning, ranks high. The passages come from handbooks of fictional banks, which
the package bankworld (in datasets/) generates, or from public collections.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bankworld import questions as wording
from bankworld import schema
from bankworld.bank import Bank, Fact
from bankworld.contexts import write_passage
from bankworld.passages import Passage
from langchain_core.embeddings import Embeddings

from course_lib.retrieval import HybridRetriever, Tokenizer, public_sets
from course_lib.retrieval.chunk import TokenSpans, split_text

# Entities (such as products) of each kind, passages about each of them, and questions, per bank.
SIBLINGS, MAX_PASSAGES, QUESTIONS = 3, 3, 160
# Kind of question -> its share: about one fact, about two facts of an entity, or comparing two entities.
KINDS = {"single": 0.84, "pair": 0.08, "compare": 0.08}
WRITTEN = 0.9  # share of passages from hand-written templates; the others are put together from sentences
TOKENIZER = Tokenizer("bigrams", stop_words=True, stem=True)  # as in the course's hybrid search


@dataclass(frozen=True)
class Pairs:
    """A question, passages that answer it or a part of it, and hard negatives, the hardest first."""

    question: str
    answering: tuple[str, ...]
    misleading: tuple[str, ...]


@dataclass
class Handbook:
    """The handbook of one generated bank. passages: by id. facts: by id."""

    bank: Bank
    passages: dict[str, Passage]
    where: dict[tuple[str, str], set[str]]  # (fact id, "value", "old" or another aspect) -> passage ids
    facts: dict[str, Fact]

    @classmethod
    def generate(cls, seed: int) -> Handbook:
        """Generate a bank, with several entities of each kind and a few passages about each of them."""
        rng = random.Random(f"handbook/{seed}")
        book = cls(Bank(rng.getrandbits(48)), {}, {}, {})
        for kind in schema.specs():
            # Attributes that most passages of the kind state, so that they look alike.
            favourites = rng.sample(list(schema.specs()[kind]), 3)
            for sibling in range(SIBLINGS):
                entity = book.bank.entity(kind, str(sibling))
                book.facts |= {f.id: f for f in entity.facts.values()}
                for _ in range(rng.randint(1, MAX_PASSAGES)):
                    book._add(write_passage(book.bank, entity, rng, favourites, written=WRITTEN))
        return book

    def _add(self, passage: Passage) -> None:
        id_ = str(len(self.passages))
        self.passages[id_] = passage
        for stated in passage.states:
            self.where.setdefault(stated, set()).add(id_)

    def stating(self, fact: str, about: str) -> set[str]:
        """Return the ids of the passages that answer a question about the fact without further passages.

        about: what is asked of the fact, such as "value" or "old" (the former value).
        """
        return set.intersection(*(self.where.get((fact, aspect), set()) for aspect in wording.ASPECTS[about]))

    def name(self, fact: Fact) -> str:
        return self.bank.entity(*fact.entity.split(".")).name

    def questions(self, rng: random.Random) -> Iterator[tuple[str, set[str]]]:
        """Yield questions in training wordings, with the ids of the passages that answer them."""
        stated = sorted({fact for fact, aspect in self.where if aspect == "value"})
        for _ in range(QUESTIONS):
            which = rng.choices(list(KINDS), list(KINDS.values()))[0]
            fact = self.facts[rng.choice(stated)]
            single = which == "single"
            question = self._single(fact, rng) if single else self._double(fact, which, stated, rng)
            if question:
                yield question

    def _single(self, fact: Fact, rng: random.Random) -> tuple[str, set[str]]:
        possible = [about for about in wording.ASPECTS if self.stating(fact.id, about)]
        about = rng.choice(possible) if rng.random() < 0.4 else "value"
        return wording.ask(self.bank, fact, self.name(fact), about, "train", rng).text, self.stating(
            fact.id, about
        )

    def _double(
        self, fact: Fact, which: str, stated: Sequence[str], rng: random.Random
    ) -> tuple[str, set[str]] | None:
        same = "attribute" if which == "compare" else "entity"
        others = [
            f
            for f in map(self.facts.get, stated)
            if f and f.kind == fact.kind and f.id != fact.id and getattr(f, same) == getattr(fact, same)
        ]
        if which == "compare":
            others = [
                f for f in others if fact.value.amount is not None and f.value.amount != fact.value.amount
            ]
        if not others:
            return None
        other = rng.choice(others)
        ask = wording.ask_compare if which == "compare" else wording.ask_pair
        question = ask(fact, other, (self.name(fact), self.name(other)), "train", rng)
        return question.text, self.stating(fact.id, "value") | self.stating(other.id, "value")


def mine(
    questions: Sequence[tuple[str, set[str]]],
    texts: Mapping[str, str],
    embeddings: Embeddings,
    indexed: Mapping[str, str] | None = None,
) -> Iterator[Pairs]:
    """Yield pairs for questions, which are given with the ids of the texts that answer them.

    The negatives are the other results of hybrid search, best first. indexed: what is searched instead of
    `texts`, such as their beginnings.
    """
    retriever = HybridRetriever.from_documents(indexed or texts, embeddings, lexical=TOKENIZER, k=25)
    for (question, gold), candidates in zip(
        questions, retriever.retrieve([question for question, _ in questions]), strict=True
    ):
        wrong = [texts[hit.id] for hit in retriever.rank(candidates) if hit.id not in gold]
        yield Pairs(question, tuple(texts[id_] for id_ in sorted(gold)), tuple(wrong))


def pairs_of_banks(count: int, embeddings: Embeddings, spans: TokenSpans, max_tokens: int) -> Iterator[Pairs]:
    """Yield pairs from `count` generated banks, without passages longer than `max_tokens`.

    The same banks are generated at every call. spans: counts tokens; `spans.special` are those that a model
    adds at the ends of a text.
    """
    for seed in range(count):
        book = Handbook.generate(seed)
        texts = {id_: f"{p.title} {p.text}" for id_, p in book.passages.items()}
        texts = {id_: text for id_, text in texts.items() if spans.count(text) + spans.special <= max_tokens}
        drawn = book.questions(random.Random(f"asked/{seed}"))
        kept = [(question, gold & texts.keys()) for question, gold in drawn]
        yield from mine([(question, gold) for question, gold in kept if gold], texts, embeddings)


def pairs_of_public_set(
    name: str, embeddings: Embeddings, spans: TokenSpans, max_tokens: int
) -> Iterator[Pairs]:
    """Yield pairs from a public collection.

    Only the beginnings of long texts are searched, but training reads the whole texts. Raises
    FileNotFoundError if the collection is not on this machine.
    """
    collection = public_sets.load(name)
    questions = [(collection.queries[query], set(grades)) for query, grades in collection.qrels.items()]
    beginnings = {
        id_: split_text(text, spans, max_tokens=max_tokens)[0].text
        for id_, text in collection.documents.items()
    }
    yield from mine(questions, collection.documents, embeddings, beginnings)
