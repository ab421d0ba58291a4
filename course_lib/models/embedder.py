"""Sentences as vectors: all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv:1908.10084), from its packaged files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.models import catalog


class Embedder:
    """Mean-pooled, normalised sentence vectors; the dot product of two is their cosine similarity."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, folder: Path | None = None) -> Embedder:
        """Load the embedding model of the tier, or the one in `folder`. Raises CourseError where it is missing."""
        from transformers import AutoModel, AutoTokenizer

        from course_lib.models.loading import quiet

        folder = folder or catalog.folder_of(catalog.role("embed").model)
        with quiet():  # the pooling layer in the file is not used, and transformers would say so at length
            model = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, add_pooling_layer=False)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True))

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), 384), each of length 1. A text beyond 256 tokens raises ValueError."""
        import torch

        out = np.zeros((len(texts), int(self.model.config.hidden_size)), dtype=np.float32)
        ids = [self.tokenizer.encode(t) for t in texts]
        longest = max(map(len, ids), default=0)
        if longest > 256:
            raise ValueError(f"a text of {longest} tokens; this model was trained to read 256: split it first")
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for at in range(0, len(order), batch_size):
            chosen = order[at : at + batch_size]
            batch = self.tokenizer.pad({"input_ids": [ids[i] for i in chosen]}, return_tensors="pt")
            with torch.inference_mode():
                hidden = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            out[chosen] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return out
