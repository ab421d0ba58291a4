"""Encoders in this process by transformers: sentences as vectors, pairs as scores, texts as labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from course_lib.errors import CourseError
from course_lib.models.drivers.huggingface import InTorch
from course_lib.models.drivers.pretrained import from_pretrained, tokenizer_of
from course_lib.models.engine import Ability, Engine, context_of
from course_lib.models.source import facts, resolve
from course_lib.models.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


BESIDE = ("modules.json", "*sentence*.json", "[0-9]_*/*.json")  # how sentence-transformers pools, and how much it reads


class Encoder(InTorch):
    """A bi-encoder (task text-embedding), a cross-encoder (rerank) or a classifier (text-classification).

    Vectors are pooled as the model's own files say (Reimers and Gurevych 2019, arXiv:1908.10084), and have length 1.
    """

    driver = "huggingface"
    can: ClassVar[frozenset[Ability]] = frozenset({"embed", "rerank", "classify"})

    def __init__(self, spec: ModelSpec, model: Any, tokenizer: Any, folder: Path) -> None:
        super().__init__(spec, context_of(spec, _longest(folder, model.config)))
        self.model, self.tokenizer, self.pooling = model, tokenizer, _pooling(folder)
        self.beside = {str(p.relative_to(folder)): p for pattern in BESIDE for p in sorted(folder.glob(pattern))}

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load the encoder. Raises CourseError where its files are missing or are of another task."""
        from transformers import AutoModel, AutoModelForSequenceClassification

        folder = resolve(spec.source)
        if spec.task == "text-embedding":
            model = from_pretrained(AutoModel, spec, folder, **_without_pooler(folder))
        else:
            _check_head(folder, spec)
            model = from_pretrained(AutoModelForSequenceClassification, spec, folder)
        return cls(spec, model, tokenizer_of(folder), folder)

    def _batches(self, ids: list[list[int]], pairs: list[Any] | None = None) -> Any:
        """Index lists and padded inputs, like lengths together. Raises CourseError for a text that is too long."""
        longest = max(map(len, ids), default=0)
        if longest > self.context:
            raise CourseError(f"a text of {longest} tokens; {self.name} reads {self.context}", "split it first")
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        size = self.spec.batch_size or 64
        for at in range(0, len(order), size):
            chosen = order[at : at + size]
            rows = [pairs[i] if pairs else {"input_ids": ids[i]} for i in chosen]
            said = {k: [r[k] for r in rows] for k in rows[0]}
            yield chosen, self.tokenizer.pad(said, padding_side="right", return_tensors="pt").to(self.model.device)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np
        import torch

        out = np.zeros((len(texts), int(self.model.config.hidden_size)), dtype=np.float32)
        for chosen, batch in self._batches([self.tokenizer.encode(t) for t in texts]):
            with torch.inference_mode():
                hidden = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
            out[chosen] = torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().numpy()
        return out

    def _logits(self, rows: list[Any]) -> NDArray[np.float32]:
        import numpy as np
        import torch

        out = np.zeros((len(rows), int(self.model.config.num_labels)), dtype=np.float32)
        for chosen, batch in self._batches([r["input_ids"] for r in rows], rows):
            with torch.inference_mode():
                out[chosen] = self.model(**batch).logits.float().cpu().numpy()
        return out

    def _rerank(self, query: str, texts: list[str]) -> list[float]:
        scores: list[float] = self._logits([dict(self.tokenizer(query, t)) for t in texts])[:, 0].tolist() if texts else []
        return scores

    def _classify(self, texts: list[str]) -> list[dict[str, float]]:
        import numpy as np

        logits = self._logits([dict(self.tokenizer(t)) for t in texts])
        shares = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
        shares /= shares.sum(1, keepdims=True)
        names = self.model.config.id2label
        return [{names[i]: float(p) for i, p in enumerate(row)} for row in shares]


def _longest(folder: Path, config: Any) -> int:
    """Tokens that the model was trained to read, where its files say so; else the places it has."""
    return int(facts(folder, "sentence_bert_config.json").get("max_seq_length") or config.max_position_embeddings)


def _pooling(folder: Path) -> str:
    """`mean` or `cls`. Raises CourseError for another kind or a further layer, whose absence would change what vectors mean."""
    layers = sorted(p.name for p in folder.glob("[0-9]_*") if p.name.split("_", 1)[1] not in ("Pooling", "Normalize"))
    if layers:
        raise CourseError(f"{folder.name} has the layer {layers[0]}, which is not run here", "choose another model")
    said = {k for k, v in facts(folder, "1_Pooling/config.json").items() if k.startswith("pooling_mode_") and v is True}
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if not said:
        return "mean"
    if len(said) != 1 or not said <= known.keys():
        raise CourseError(f"{folder.name} pools by {', '.join(sorted(said))}; mean and cls are known", "choose another model")
    return known[said.pop()]


def _without_pooler(folder: Path) -> dict[str, Any]:
    """BERT's pooling layer is not used here, and would be made up at random where the file lacks it."""
    bert = any(kind in str(facts(folder, "config.json").get("model_type")) for kind in ("bert", "roberta"))
    return {"add_pooling_layer": False} if bert and "distil" not in str(facts(folder, "config.json").get("model_type")) else {}


def _check_head(folder: Path, spec: ModelSpec) -> None:
    config = facts(folder, "config.json")
    if not any("ForSequenceClassification" in a for a in config.get("architectures") or []):
        raise CourseError(f"{folder.name} is {config.get('architectures')}: it has no head for the task {spec.task}, and a new "
                          "one would answer at random", "choose a model made for the task")  # fmt: skip
    labels = len(config.get("id2label") or {0: 0, 1: 1})
    if spec.task == "rerank" and labels != 1:
        raise CourseError(
            f"{folder.name} gives {labels} labels; a reranker gives one score", "load it with task: text-classification"
        )
