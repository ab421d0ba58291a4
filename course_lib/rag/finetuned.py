"""A classifier that trains an embedding model for its labels; those in `baselines` leave it as it is.

An engine is a loaded model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.drivers.torch_engine import batches
from course_lib.rag.baselines import check_fitted, check_labels, evidence_of
from course_lib.rag.classifier import Classifier, Evidence, digest
from course_lib.tuning.dataset import BatchOrder, padded_length
from course_lib.tuning.optimiser import MixedPrecisionAdamW, checkpoint_metadata
from course_lib.tuning.peft_model import has_native_bfloat16

SCALE = 20.0  # factor from a cosine, which is at most 1, to a logit (the input of the softmax)
SAVE_SECONDS = 60.0  # between two checkpoints


@dataclass(repr=False)
class FineTunedClassifier(Classifier):
    """An embedding model with a layer for the labels, trained together by `fit` (Devlin et al. 2019).

    base: a BERT-like embedding model, as for `load`. A label's score is 20 x the cosine of the text's vector
    and the label's, which begins as the mean of its texts' vectors (Snell et al. 2017, arXiv:1703.05175). The
    token embeddings are not trained. learning_rate: the highest, reached after a tenth of the steps.
    smoothing: the share of the target probability that is spread evenly over all labels (Szegedy et al. 2016,
    arXiv:1512.00567).
    """

    base: Any = catalog.MINILM
    epochs: int = field(default=5, kw_only=True)
    batch_size: int = field(default=32, kw_only=True)
    learning_rate: float = field(default=2e-4, kw_only=True)
    smoothing: float = field(default=0.1, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __repr__(self) -> str:
        settings = ("epochs", "batch_size", "learning_rate", "smoothing", "seed")
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in settings)
        return f"FineTunedClassifier({str(self.base)!r}, {shown})"

    def _state(self, texts: Sequence[str]) -> list[Any]:
        check_fitted(self)
        return [*super()._state(texts), self._learned]

    def fit(
        self, texts: Sequence[str], labels: Sequence[str], checkpoint: Path | None = None
    ) -> FineTunedClassifier:
        """Train it on labelled texts.

        checkpoint: a file that is written every minute, and from which the same call continues. Raises
        CourseError for fewer than two different labels, and for the checkpoint of another call.
        """
        check_labels(labels)
        names = sorted({*labels})
        gold = np.array([names.index(label) for label in labels])  # the right label of each text, by number
        precision = "bfloat16" if has_native_bfloat16() else "float32"
        engine: Any = load(self.base, task="text-embedding", precision=precision)
        encoder, ids = engine.model, _ids(engine, texts)
        network = _Network(encoder, _means(engine.embed_ids(ids), gold))
        if (
            precision == "bfloat16"
        ):  # here the default attention, "sdpa", has a slower backward pass (measured)
            encoder.set_attn_implementation("eager")
        self._train(network, ids, torch.tensor(gold, device=encoder.device), checkpoint)
        encoder.set_attn_implementation("sdpa")
        self._labels, self._engine, self._model = names, engine, network
        self._learned = digest([list(texts), list(labels)])
        return self

    def _train(
        self, network: _Network, ids: list[list[int]], gold: torch.Tensor, checkpoint: Path | None
    ) -> None:
        order = BatchOrder([len(row) for row in ids], self.batch_size, self.seed)
        steps = self.epochs * -(-len(ids) // self.batch_size)
        optimiser = MixedPrecisionAdamW(
            network,
            total_steps=steps,
            learning_rate=self.learning_rate,
            warmup_steps=steps // 10,
            weight_decay=0.01,
        )
        made_of = digest([repr(self), ids, gold.tolist()])
        if checkpoint is not None and checkpoint.exists():
            if checkpoint_metadata(checkpoint).get("made_of") != made_of:
                what = f"{checkpoint} has other settings, texts or labels"
                raise CourseError(what, f"rm {checkpoint}")
            optimiser.resume(checkpoint)
        saved = time.monotonic()
        for step in tqdm(range(optimiser.steps_done, steps), desc="training", unit=" steps", leave=False):
            batch = order[step]
            scores = network([ids[i] for i in batch])
            torch.nn.functional.cross_entropy(scores, gold[batch], label_smoothing=self.smoothing).backward()
            optimiser.step()
            if checkpoint is not None and (
                time.monotonic() - saved > SAVE_SECONDS or optimiser.steps_done == steps
            ):
                optimiser.save(checkpoint, {"made_of": made_of})
                saved = time.monotonic()
        network.float()
        optimiser.copy_to_model()

    def evidence(self, texts: Sequence[str]) -> list[Evidence]:
        check_fitted(self)
        ids = _ids(self._engine, texts)
        scores = np.zeros((len(ids), len(self._labels)))
        with torch.inference_mode():
            for batch in batches([len(row) for row in ids], self._engine.batch_tokens):
                scores[batch] = self._model([ids[i] for i in batch]).double().cpu().numpy()
        return evidence_of(self._labels, scores)


class _Network(torch.nn.Module):
    """An encoder (the embedding model), and a vector for each label."""

    def __init__(self, encoder: Any, labels: NDArray[np.float32]) -> None:
        super().__init__()
        self.encoder = encoder
        self.labels = torch.nn.Parameter(torch.tensor(labels, device=encoder.device))
        encoder.get_input_embeddings().requires_grad_(False)

    def forward(self, ids: list[list[int]]) -> torch.Tensor:
        """Return the scores of the labels for token ids of texts, (texts, labels), float32."""
        length = padded_length(max(map(len, ids)))
        rows, mask = torch.zeros((2, len(ids), length), dtype=torch.long)
        for i, row in enumerate(ids):
            rows[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
        rows, mask = rows.to(self.labels.device), mask.to(self.labels.device)
        hidden = self.encoder(input_ids=rows, attention_mask=mask).last_hidden_state.float()
        pooled = (hidden * mask[..., None]).sum(1)
        return SCALE * torch.nn.functional.normalize(pooled, dim=-1) @ self.labels.float().T


def _ids(engine: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of texts, with the model's prefix for queries if it has one."""
    ids: list[list[int]] = engine.text_ids([engine.prefixes["query"] + text for text in texts])
    return ids


def _means(vectors: NDArray[np.float32], gold: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean vector of each label's texts, (labels, dimensions), of length 1."""
    sums = np.zeros((gold.max() + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, gold, vectors)
    means: NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return means
