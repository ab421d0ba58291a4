"""The course's two rerankers: each a LoRA adapter of MiniLM that learns which passage answers a question.

A cross-encoder chooses among a question's own passages, one that answers and a few misleading ones; for late interaction the
passages of all other questions in the step are wrong, too, at no cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from finetuning.run import HOW, Recipe, Run

SHARPNESS = 30.0  # a mean cosine is at most 1; times this, it is a score to choose by


class CrossEncoder(Run):
    """Question and passage in one row, one score from a head of its own (Nogueira and Cho 2019, arXiv:1901.04085)."""

    name = "haneul-cross-encoder"
    standard = Recipe(steps=240, rate=1e-3, mixture={"banks": 8, "xquad_en": 4, "tatqa": 4})

    @staticmethod
    def built(base: Path) -> tuple[Any, dict[str, Any]]:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, **HOW)
        return model, {"task_type": "SEQ_CLS", "modules_to_save": ["classifier"]}

    def scores(self, asked: list[str], passages: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        each = len(passages) // len(asked)
        found = self.pairs([question for question in asked for _ in range(each)], passages).view(
            len(asked), each
        )
        return found, torch.zeros(len(asked), dtype=torch.long, device=self.device)

    def pairs(self, questions: list[str], passages: list[str]) -> torch.Tensor:
        """A score for each pair, in the order given."""
        places, out = [], []
        for chosen, _, batch in self.like_lengths(questions, passages):
            out.append(self.model(**batch).logits[:, 0].float())
            places += chosen
        return torch.cat(out)[torch.tensor(places, device=self.device).argsort()]


class LateInteraction(Run):
    """A vector for each token, and the mean of MaxSim over the question's (Khattab and Zaharia 2020, arXiv:2004.12832)."""

    name = "haneul-late-interaction"
    standard = Recipe(steps=240, rate=5e-4, warm_up=20)

    @staticmethod
    def built(base: Path) -> tuple[Any, dict[str, Any]]:
        return AutoModel.from_pretrained(base, add_pooling_layer=False, **HOW), {
            "task_type": "FEATURE_EXTRACTION"
        }

    def scores(self, asked: list[str], passages: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        questions, read = self.vectors(asked), self.vectors(passages)
        every, lengths = torch.cat(read), [len(vectors) for vectors in read]
        rows = [
            [cosines.max(1).values.mean() for cosines in (q @ every.T).split(lengths, dim=1)]
            for q in questions
        ]
        answers = torch.arange(len(asked), device=self.device) * (len(passages) // len(asked))
        return SHARPNESS * torch.stack([torch.stack(row) for row in rows]), answers

    def vectors(self, texts: list[str]) -> list[torch.Tensor]:
        """Of each text a vector of length 1 for each of its tokens."""
        out: dict[int, torch.Tensor] = {}
        for chosen, special, batch in self.like_lengths(texts):
            hidden = torch.nn.functional.normalize(self.model(**batch).last_hidden_state.float(), dim=-1)
            out |= {
                i: vectors[~marks.to(self.device)]
                for i, vectors, marks in zip(chosen, hidden, special, strict=True)
            }
        return [out[i] for i in range(len(texts))]


RERANKERS: tuple[type[Run], ...] = (CrossEncoder, LateInteraction)
