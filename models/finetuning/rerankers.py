"""The course's two rerankers, as LoRA adapters of the public model all-MiniLM-L6-v2.

An adapter is a small file of trained weights, added to a base model's own. Both learn which passage answers a
question; hard negatives are wrong passages that a search ranks high. The cross-encoder chooses among the
question's own passages: one that answers it and a few hard negatives. The late-interaction model (ColBERT)
also chooses among the passages of the step's other questions, which costs nothing extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from finetuning.run import MODEL_OPTIONS, RerankerConfig, RerankerRun

SCALE = 30.0  # factor of a mean cosine, which is at most 1, before probabilities are made of them (softmax)


class CrossEncoder(RerankerRun):
    """Question and passage in one text, scored by an added last layer, the head.

    The source is Nogueira and Cho 2019, arXiv:1901.04085.
    """

    name = "haneul-cross-encoder"
    standard = RerankerConfig(steps=240, learning_rate=1e-3, mixture={"banks": 8, "xquad_en": 4, "tatqa": 4})

    @staticmethod
    def build(base_folder: Path) -> tuple[Any, dict[str, Any]]:
        model = AutoModelForSequenceClassification.from_pretrained(base_folder, num_labels=1, **MODEL_OPTIONS)
        return model, {"task_type": "SEQ_CLS", "modules_to_save": ["classifier"]}

    def scores(self, questions: list[str], passages: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        per_question = len(passages) // len(questions)
        repeated = [question for question in questions for _ in range(per_question)]
        scores = self.pairs(repeated, passages).view(len(questions), per_question)
        return scores, torch.zeros(len(questions), dtype=torch.long, device=self.device)

    def pairs(self, questions: list[str], passages: list[str]) -> torch.Tensor:
        """Return a score for each pair, in the order given."""
        order, scores = [], []
        for indices, _, batch in self.length_batches(questions, passages):
            scores.append(self.model(**batch).logits[:, 0].float())
            order += indices
        return torch.cat(scores)[torch.tensor(order, device=self.device).argsort()]


class LateInteraction(RerankerRun):
    """A vector per token; the score is a mean of cosines.

    It is the mean, over the question's tokens, of the highest cosine with a token of the passage (MaxSim).
    The source is Khattab and Zaharia 2020, arXiv:2004.12832.
    """

    name = "haneul-late-interaction"
    standard = RerankerConfig(steps=240, learning_rate=5e-4, warmup_steps=20)

    @staticmethod
    def build(base_folder: Path) -> tuple[Any, dict[str, Any]]:
        return AutoModel.from_pretrained(base_folder, add_pooling_layer=False, **MODEL_OPTIONS), {
            "task_type": "FEATURE_EXTRACTION"
        }

    def scores(self, questions: list[str], passages: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        question_vectors, passage_vectors = self.vectors(questions), self.vectors(passages)
        tokens, lengths = torch.cat(passage_vectors), [len(vectors) for vectors in passage_vectors]
        rows = [
            [cosines.max(1).values.mean() for cosines in (vectors @ tokens.T).split(lengths, dim=1)]
            for vectors in question_vectors
        ]
        answers = torch.arange(len(questions), device=self.device) * (len(passages) // len(questions))
        return SCALE * torch.stack([torch.stack(row) for row in rows]), answers

    def vectors(self, texts: list[str]) -> list[torch.Tensor]:
        """For each text a vector of length 1 per token, without the special tokens at the ends."""
        by_index: dict[int, torch.Tensor] = {}
        for indices, special, batch in self.length_batches(texts):
            hidden = torch.nn.functional.normalize(self.model(**batch).last_hidden_state.float(), dim=-1)
            for i, vectors, mask in zip(indices, hidden, special.to(self.device), strict=True):
                by_index[i] = vectors[~mask]
        return [by_index[i] for i in range(len(texts))]


RERANKERS: tuple[type[RerankerRun], ...] = (CrossEncoder, LateInteraction)
