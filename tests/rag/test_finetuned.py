"""A tiny encoder is trained on Haneul's messages: it learns, and an interrupted training ends the same."""

import numpy as np
import pytest
import torch

from course_lib.data import load_messages
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.rag import FineTunedClassifier, finetuned
from course_lib.tuning.optimiser import MixedPrecisionAdamW

INTENTS = ("card_lost_or_stolen", "branch_hours", "deposit_maturity")
KNOWN = [m for m in load_messages("train") if m.intent in INTENTS]
TEXTS, LABELS = [m.message for m in KNOWN], [m.intent for m in KNOWN]
ASKED = [m for m in load_messages("validation") if m.intent in INTENTS][::2]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A BERT of two layers with random weights, and MiniLM's tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    BertModel(BertConfig(**sizes, initializer_range=0.2)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(catalog.verify_shipped(catalog.MINILM)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def fitted(base):
    return FineTunedClassifier(base, epochs=8, batch_size=8, learning_rate=3e-3).fit(TEXTS, LABELS)


def test_it_learns_what_the_vectors_alone_do_not_tell(base, fitted):
    def right(classifier):
        return np.mean([c.label == g for c, g in zip(classifier.classify_many(TEXTS), LABELS, strict=True)])

    untrained = FineTunedClassifier(base, epochs=1, learning_rate=1e-9).fit(TEXTS, LABELS)
    assert right(fitted) > 0.85 > 0.7 > right(untrained)


def test_batches_of_other_lengths_change_no_probability(fitted):
    texts = [m.message for m in ASKED]
    together, alone = fitted.evidence(texts), [fitted.evidence([text])[0] for text in texts]
    for a, b in zip(together, alone, strict=True):
        assert sum(a.probabilities.values()) == pytest.approx(1)
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-4)


def test_an_interrupted_training_ends_the_same(base, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuned, "SAVE_SECONDS", 0.0)
    settings = {"epochs": 1, "batch_size": 8, "learning_rate": 3e-3}
    whole = FineTunedClassifier(base, **settings).fit(TEXTS, LABELS).evidence(TEXTS[:4])
    original, file = MixedPrecisionAdamW.step, tmp_path / "training.safetensors"

    def interrupted(self):
        if self.steps_done == 3:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MixedPrecisionAdamW, "step", interrupted)
        FineTunedClassifier(base, **settings).fit(TEXTS, LABELS, file)
    assert FineTunedClassifier(base, **settings).fit(TEXTS, LABELS, file).evidence(TEXTS[:4]) == whole
    with pytest.raises(CourseError, match="has other settings, texts or labels"):
        FineTunedClassifier(base, **settings, seed=1).fit(TEXTS, LABELS, file)


def test_it_must_be_fitted_to_two_labels(base):
    with pytest.raises(CourseError, match="this FineTunedClassifier has not been fitted"):
        FineTunedClassifier(base).classify("x")
    with pytest.raises(CourseError, match="1 different labels"):
        FineTunedClassifier(base).fit(["x"], ["a"])
