"""The rerankers' training: correct pairs, steps that depend on their number alone, exact resuming."""

import json
import random
import re

import pytest
import torch
from bankworld import questions
from finetuning import publish
from finetuning.pairs import Handbook, Pairs, mine, pairs_of_banks
from finetuning.rerankers import RERANKERS, CrossEncoder, LateInteraction
from finetuning.run import BASE, RerankerConfig, draw_step

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.retrieval import LSA
from course_lib.retrieval.chunk import TokenSpans

SMALL = RerankerConfig(
    steps=4, learning_rate=1e-3, mixture={"banks": 2}, banks=1, misleading=1, rank=2, warmup_steps=2
)


@pytest.fixture(scope="module")
def book():
    return Handbook.generate(7)


@pytest.fixture(scope="module")
def known(book):
    """Pairs of one bank, mined with an embedder that is fitted in a moment."""
    texts = {id_: f"{p.title} {p.text}" for id_, p in book.passages.items()}
    return list(mine(list(book.questions(random.Random(0)))[:40], texts, LSA.fit(list(texts.values()))))


def test_a_handbook_is_the_same_each_time_and_another_for_another_seed(book):
    assert Handbook.generate(7).passages == book.passages != Handbook.generate(8).passages
    assert "Haneul" not in " ".join(p.title + p.text for p in book.passages.values())


def test_what_answers_a_question_states_all_that_it_needs(book):
    stated = sorted({fact for fact, aspect in book.where if aspect == "value"})
    for fact in stated[:60]:
        for about, needs in questions.ASPECTS.items():
            for id_ in book.stating(fact, about):
                assert {(fact, aspect) for aspect in needs} <= book.passages[id_].states
    assert any(book.stating(fact, "old") for fact in stated)


def test_every_question_has_an_answer_and_negatives_that_are_none(known):
    assert len(known) == 40
    for pairs in known:
        assert pairs.answering and len(pairs.misleading) >= 20
        assert not set(pairs.answering) & set(pairs.misleading)


def test_hard_negatives_are_about_the_same_things(book, known):
    """More of the nearest negatives than of the farthest share the question's product."""

    def share(which):
        names = [e.name for e in book.bank._entities.values()]
        asked = [(p, n) for p in known for n in names if n in p.question]
        return sum(n in which(p) for p, n in asked) / len(asked)

    assert share(lambda p: " ".join(p.misleading[:3])) > share(lambda p: " ".join(p.misleading[-3:])) + 0.2


def test_texts_that_the_embedder_cannot_read_are_left_out():
    class Once:
        def embed_documents(self, texts):
            assert max(len(t.split()) for t in texts) < 60
            return [[1.0, float(len(t))] for t in texts]

        def embed_query(self, text):
            return [1.0, float(len(text))]

    words = TokenSpans(lambda text: [m.span() for m in re.finditer(r"\S+", text)], special=2)
    result = list(pairs_of_banks(1, Once(), words, 61))
    assert result and all(len(t.split()) < 60 for p in result for t in (*p.answering, *p.misleading))


def test_a_step_draws_the_same_each_time_and_first_what_answers(known):
    config = RerankerConfig(steps=9, learning_rate=1e-3, mixture={"banks": 5, "others": 2})
    sources = {"banks": known[:20], "others": known[20:]}
    asked, passages = draw_step(sources, config, step=3)
    assert (asked, passages) == draw_step(sources, config, step=3) != draw_step(sources, config, step=4)
    assert len(set(asked) & {p.question for p in known[20:]}) >= 2
    by_question = {p.question: p for p in known}
    for i, question in enumerate(asked):
        first, *rest = passages[4 * i : 4 * i + 4]
        assert first in by_question[question].answering
        assert set(rest) <= set(by_question[question].misleading[: config.hardest])


def test_a_question_with_few_negatives_gets_answers_of_others(known):
    poor = [Pairs(p.question, p.answering, ()) for p in known]
    _, passages = draw_step(
        {"banks": poor}, RerankerConfig(steps=1, learning_rate=1, mixture={"banks": 2}, misleading=2), step=0
    )
    assert len(passages) == 6


@pytest.mark.parametrize("kind", RERANKERS, ids=lambda kind: kind.name)
def test_a_stopped_run_goes_on_as_if_never_stopped(kind, tmp_path, known):
    complete = kind(SMALL, tmp_path / "whole")
    complete.train({"banks": known})
    stopped = kind(SMALL, tmp_path / "stopped")
    for _ in range(2):
        stopped.train_step({"banks": known})
    stopped.save()
    again = kind(SMALL, tmp_path / "stopped")
    assert again.step == 2
    again.train({"banks": known})
    assert all(
        torch.equal(complete.optimiser.master_weights[name], again.optimiser.master_weights[name])
        for name in complete.optimiser.master_weights
    )
    with pytest.raises(CourseError, match="started with"):
        kind(RerankerConfig(steps=4, learning_rate=1e-3, rank=3), tmp_path / "stopped")


def published(kind, tmp_path, known, monkeypatch):
    monkeypatch.setattr(data, "MODELS", tmp_path / "models")
    run = kind(RerankerConfig(**{**vars(SMALL), "steps": 20}), tmp_path / "run")
    run.train({"banks": known})
    folder = publish.publish(run)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == BASE
    assert "20 steps of 2 questions" in (folder / "README.md").read_text("utf-8")
    data.verify(folder, "")
    return run, {"source": BASE, "adapters": [{"source": str(folder)}]}


def test_an_older_reranker_stays_until_the_new_one_is_whole(tmp_path, known, monkeypatch):
    run, _ = published(CrossEncoder, tmp_path, known, monkeypatch)
    before = {p: p.read_bytes() for p in (tmp_path / "models").rglob("*") if p.is_file()}

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(publish, "write_manifest", full_disk)
    for write in (publish.publish, lambda run: publish.renew_card(run.name, run.config)):
        with pytest.raises(OSError, match="no space"):
            write(run)
        assert {p: p.read_bytes() for p in (tmp_path / "models").rglob("*") if p.is_file()} == before


def test_a_published_cross_encoder_scores_as_it_was_trained(tmp_path, known, monkeypatch):
    run, spec = published(CrossEncoder, tmp_path, known, monkeypatch)
    question, texts = known[0].question, list(known[0].misleading[:3])
    with torch.inference_mode():
        trained = run.pairs([question] * 3, texts).tolist()
    assert load(spec, task="rerank").rerank(question, texts) == pytest.approx(trained, abs=3e-2)


def test_published_vectors_of_tokens_are_those_that_were_trained(tmp_path, known, monkeypatch):
    run, spec = published(LateInteraction, tmp_path, known, monkeypatch)
    texts = [known[0].question, known[0].misleading[0]]
    with torch.inference_mode():
        trained = run.vectors(texts)
    result = load(spec, task="text-embedding").embed_tokens(
        texts
    )  # on a base in 32 bits, where the training had 16
    for ours, theirs in zip(result, trained, strict=True):
        assert ours == pytest.approx(theirs.numpy(), abs=1e-2)


def test_late_interaction_learns_from_the_passages_of_all_questions(tmp_path, known):
    run = LateInteraction(SMALL, tmp_path / "run")
    scores, answers = run.scores(*draw_step({"banks": known}, SMALL, step=0))
    assert scores.shape == (2, 4) and answers.tolist() == [0, 2]
