"""Pretraining: growing keeps the function, Muon orthogonalises, rows repeat, stopped runs resume exactly."""

import json
import random

import numpy as np
import pytest
import torch
from pretraining import documents, rows, train
from pretraining import tokenizer as tok
from pretraining.grow import double_width
from pretraining.muon import Muon, orthogonalise
from transformers import PreTrainedTokenizerFast

from course_lib import data
from course_lib.errors import CourseError
from course_lib.rag.prompt import REFUSAL

TINY = train.Size(64, 2, 64, 8)


@pytest.fixture(scope="module")
def tokenizer():
    return PreTrainedTokenizerFast.from_pretrained(data.MODELS / "haneul-300k")


def test_growing_does_not_change_what_a_model_computes():
    small = train.new_model(TINY).eval()
    big = double_width(small).eval()
    ids = torch.randint(6, tok.VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(small(ids).logits, big(ids).logits, atol=1e-4)
    assert big.config.hidden_size == 128 and big.num_parameters() > 2 * small.num_parameters()


def test_grown_copies_are_not_twins():
    big = double_width(train.new_model(TINY))
    w = big.model.layers[0].mlp.gate_proj.weight
    assert not torch.allclose(w[:, :64], w[:, 64:])


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 96, 32), (2, 32, 128)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(g, steps=10))
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_muon_lowers_a_loss():
    torch.manual_seed(0)
    weight, target = torch.nn.Parameter(torch.zeros(8, 8)), torch.randn(8, 8)
    optimiser = Muon([weight], lr=0.05, weight_decay=0.0)
    losses = []
    for _ in range(60):
        loss = (weight - target).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_the_learning_rate_warms_up_stays_and_decays():
    rates = [train.rate_at(i, 1000) for i in range(1000)]
    assert rates[0] < 0.1 and rates[300] == 1.0 and rates[-1] < 0.05
    assert rates[560:] == sorted(rates[560:], reverse=True)


def test_rows_repeat_and_are_filled(tokenizer):
    writer = rows.Writer(tokenizer, seed=0)
    for stage in train.STAGES:
        ids, learn = writer.batch(stage, 7)
        again, _ = rows.Writer(tokenizer, seed=0).batch(stage, 7)
        assert np.array_equal(ids, again) and ids.shape == learn.shape
        assert ids.min() >= 0 and ids.max() < tok.VOCABULARY and learn.any()


@pytest.mark.parametrize(
    "name", ["repeat", "recall", "prose", "copy", "label", "talk", "closed", "qa1", "qa3", "qa5", "qa8"]
)
def test_every_document_can_be_written(tokenizer, name):
    writer = rows.Writer(tokenizer, seed=0)
    for i in range(20):
        ids, learn = writer.document(name, random.Random(i), 384)
        assert len(ids) == len(learn) and any(learn)


def test_eight_passages_and_a_question_fit_into_the_context(tokenizer):
    writer = rows.Writer(tokenizer, seed=0)
    assert max(len(writer.document("qa8", random.Random(i), 1664)[0]) for i in range(60)) < tok.CONTEXT


def test_labels_of_the_queries_are_among_the_examples():
    for i in range(200):
        (first, _), *_ = turns = documents.labelling(random.Random(i))
        assert all(f"Label:\n{label}\n" in first and user.endswith("Label:") for user, label in turns)


def test_answers_are_in_the_context_or_are_refusals():
    for i in range(200):
        turns = documents.question_answering(random.Random(i), 2, 4, 0.5)
        context = turns[0][0].lower()
        for user, answer in turns:
            plain = answer.lower()
            if (
                "{" not in answer
                and "[" not in answer
                and ";" not in answer
                and "(" not in answer
                and answer != REFUSAL
            ):
                assert plain in context, (user, answer)


def test_a_stopped_run_goes_on_as_if_never_stopped(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(train, "RUNS", tmp_path)
    monkeypatch.setattr(train, "SIZES", {"tiny": TINY})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    whole = train.Run("tiny", 4, tmp_path / "whole")
    whole.train()
    first = train.Run("tiny", 4, tmp_path / "halves")
    first.train_step(), first.train_step()
    first.save()
    second = train.Run("tiny", 4, tmp_path / "halves")
    assert second.step == 2
    second.train()
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert not list((tmp_path / "halves").glob("*.partial"))
    assert [p.suffix for p in sorted((tmp_path / "whole").iterdir()) if p.is_file()] == [
        ".safetensors",
        ".jsonl",
    ]


def test_training_can_go_on_from_the_shipped_weights(tmp_path):
    run = train.Run("haneul-300k", 1, tmp_path, shipped=True)
    shipped = train.LlamaForCausalLM.from_pretrained(data.MODELS / "haneul-300k", dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), shipped.parameters(), strict=True))
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    run.train()
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == logged[-1]["step"] + 1 and last["tokens"] > logged[-1]["tokens"], (
        "the log counts all of the training"
    )
    assert train.Run("haneul-300k", 1, tmp_path, shipped=True).earlier["step"] == logged[-1]["step"]


def test_growing_from_a_run_that_is_not_there_says_what_to_do(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(train, "RUNS", tmp_path)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(
        CourseError, match=r"haneul-4m grows from haneul-1m(.|\n)*python -m pretraining haneul-1m"
    ):
        train.Run("haneul-4m", 1, tmp_path / "haneul-4m")
