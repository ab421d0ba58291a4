"""Encoders in this process by transformers: sentences as vectors, pairs as scores, texts as labels."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from course_lib.errors import CourseError
from course_lib.models.drivers.adapters import head_of
from course_lib.models.drivers.engine import Ability, Engine, Prompt, context_of
from course_lib.models.drivers.huggingface import InTorch
from course_lib.models.drivers.pretrained import from_pretrained, tokenizer_of
from course_lib.models.files import resolve
from course_lib.models.files.headers import read_json
from course_lib.models.schema import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


TOKENS = {
    True: 2048,
    False: 65536,
}  # in a batch, padding included: what stays in the cache of a CPU; what fills a GPU
FIRST_TOKEN = (
    "bert",
    "electra",
    "roberta",
    "xlm-roberta",
)  # kinds of models whose heads read nothing but the first token
OVERLAP = 4  # a window of a long text shares a quarter with the one before
BESIDE = (
    "modules.json",
    "*sentence*.json",
    "[0-9]_*/*.json",
)  # how sentence-transformers pools, and how much it reads


class Encoder(InTorch):
    """A bi-encoder (task text-embedding), a cross-encoder (rerank) or a classifier (text-classification).

    Vectors are pooled as the model's own files say (Reimers and Gurevych 2019, arXiv:1908.10084), and have length 1.
    """

    driver = "huggingface"
    can: ClassVar[frozenset[Ability]] = frozenset({"embed", "embed_tokens", "rerank", "classify"})

    def __init__(self, spec: ModelSpec, model: Any, tokenizer: Any, folder: Path) -> None:
        super().__init__(spec, context_of(spec, _longest(folder, model.config, tokenizer)))
        self.model, self.tokenizer, self.pooling = model, tokenizer, _pooling(folder)
        self.beside = {
            str(p.relative_to(folder)): p for pattern in BESIDE for p in sorted(folder.glob(pattern))
        }
        self._one_at_a_time = (
            threading.Lock()
        )  # how far a tokenizer cuts is its own state, for all threads that use it

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load the encoder. Raises CourseError where its files are missing or are of another task."""
        from transformers import AutoModel, AutoModelForSequenceClassification

        folder = resolve(spec.source)
        if spec.task == "text-embedding":
            model = from_pretrained(AutoModel, spec, folder, **_without_pooler(folder))
        else:
            labels = head_of(spec.adapters)
            _check_head(folder, spec, labels)
            more = {} if labels is None else {"num_labels": labels}
            model = _first_token_alone(
                from_pretrained(AutoModelForSequenceClassification, spec, folder, **more)
            )
        return cls(spec, model, tokenizer_of(folder), folder)

    def _batches(self, ids: list[list[int]], pairs: list[Any] | None = None) -> Any:
        """Index lists and padded inputs, like lengths together. Raises CourseError for a text that is too long."""
        longest = max(map(len, ids), default=0)
        if longest > self.context:
            raise CourseError(
                f"a text of {longest} tokens; {self.name} reads {self.context}", "split it first"
            )
        for chosen in batches(list(map(len, ids)), TOKENS[self.device == "cpu"], self.spec.batch_size):
            rows = [pairs[i] if pairs else {"input_ids": ids[i]} for i in chosen]
            said = {k: [r[k] for r in rows] for k in rows[0]}
            yield (
                chosen,
                self.tokenizer.pad(said, padding_side="right", return_tensors="pt").to(self.model.device),
            )

    def count_tokens(self, prompt: Prompt) -> int:
        """Number of tokens of a text, those that mark its begin and end included. Raises ValueError for a conversation."""
        if not isinstance(prompt, str):
            raise ValueError("an encoder reads a text, not turns")
        return len(self._tokens(prompt, verbose=False)["input_ids"])  # else it warns of long texts

    def _tokens(self, *texts: Any, **how: Any) -> Any:
        with self._one_at_a_time:
            return self.tokenizer(*texts, **how)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np
        import torch

        out = np.zeros((len(texts), int(self.model.config.hidden_size)), dtype=np.float32)
        for chosen, batch in self._batches([self._tokens(t)["input_ids"] for t in texts]):
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

    def _windows(self, texts: list[str], seconds: list[str]) -> tuple[list[Any], list[int]]:
        """Texts, or pairs of a question and a text, as tokens, and whose they are: a long text is read in overlapping windows.

        Raises CourseError for a question that leaves less than half of the context to a text.
        """
        if not texts:
            return [], []
        asked = len(self._tokens(texts[0])["input_ids"]) if seconds else 0
        if 2 * asked > self.context:
            raise CourseError(
                f"a question of {asked} tokens; {self.name} reads {self.context}, with the passage",
                "ask it in fewer words",
            )
        said = self._tokens(
            texts,
            seconds or None,
            truncation="only_second" if seconds else "only_first",
            max_length=self.context,
            stride=(self.context - asked) // OVERLAP,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        owners = said.pop("overflow_to_sample_mapping")
        return [dict(zip(said, row, strict=True)) for row in zip(*said.values(), strict=True)], owners

    def _embed_tokens(self, texts: list[str]) -> list[NDArray[np.float32]]:
        import numpy as np
        import torch

        rows, owners = self._windows(texts, [])
        found: list[list[NDArray[np.float32]]] = [[] for _ in texts]
        hidden: dict[int, NDArray[np.float32]] = {}
        for chosen, batch in self._batches([r["input_ids"] for r in rows]):
            with torch.inference_mode():
                vectors = (
                    torch.nn.functional.normalize(self.model(**batch).last_hidden_state.float(), dim=-1)
                    .cpu()
                    .numpy()
                )
            hidden |= {i: row[: len(rows[i]["input_ids"])] for i, row in zip(chosen, vectors, strict=True)}
        for i, owner in enumerate(owners):
            found[owner].append(hidden[i][~np.array(rows[i]["special_tokens_mask"], dtype=bool)])
        return [np.concatenate(windows) for windows in found]

    def _rerank(self, query: str, texts: list[str]) -> list[float]:
        import numpy as np

        rows, owners = self._windows([query] * len(texts), texts)
        best = np.full(len(texts), -np.inf)
        np.maximum.at(best, owners, self._logits(rows)[:, 0])
        scores: list[float] = best.tolist()
        return scores

    def _classify(self, texts: list[str]) -> list[dict[str, float]]:
        import numpy as np

        logits = self._logits([dict(self._tokens(t)) for t in texts])
        shares = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
        shares /= shares.sum(1, keepdims=True)
        names = self.model.config.id2label
        return [{names[i]: float(p) for i, p in enumerate(row)} for row in shares]


def batches(lengths: Sequence[int], tokens: int, texts: int | None = None) -> list[list[int]]:
    """Numbers of texts, like lengths together, in batches of at most so many tokens, padding included, and of at most so many
    texts. A text with more tokens is alone.

    >>> batches([10, 200, 12, 190, 11, 13], 400)
    [[0, 4, 2, 5], [3, 1]]
    """
    out: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if out and (len(out[-1]) + 1) * lengths[i] <= tokens and len(out[-1]) != texts:
            out[-1].append(i)
        else:
            out.append([i])
    return out


def _first_token_alone(model: Any) -> Any:
    """`model`, whose last layer computes only the token that its head reads: the same scores for a tenth less work."""
    if model.config.model_type in FIRST_TOKEN:
        attention = model.base_model.encoder.layer[-1].attention
        attention.register_forward_hook(lambda module, given, told: (told[0][:, :1], *told[1:]))
    return model


def _longest(folder: Path, config: Any, tokenizer: Any) -> int:
    """Tokens that the model was trained to read, where its files say so; else the places it has."""
    if said := read_json(folder, "sentence_bert_config.json").get("max_seq_length"):
        return int(said)
    unused = config.pad_token_id + 1 if "roberta" in config.model_type else 0  # the first of its places
    return int(min(config.max_position_embeddings - unused, tokenizer.model_max_length))


def _pooling(folder: Path) -> str:
    """`mean` or `cls`. Raises CourseError for another kind or a further layer, whose absence would change what vectors mean."""
    layers = sorted(
        p.name for p in folder.glob("[0-9]_*") if p.name.split("_", 1)[1] not in ("Pooling", "Normalize")
    )
    if layers:
        raise CourseError(
            f"{folder.name} has the layer {layers[0]}, which is not run here", "choose another model"
        )
    said = {
        k
        for k, v in read_json(folder, "1_Pooling/config.json").items()
        if k.startswith("pooling_mode_") and v is True
    }
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if not said:
        return "mean"
    if len(said) != 1 or not said <= known.keys():
        raise CourseError(
            f"{folder.name} pools by {', '.join(sorted(said))}; mean and cls are known",
            "choose another model",
        )
    return known[said.pop()]


def _without_pooler(folder: Path) -> dict[str, Any]:
    """BERT's pooling layer is not used here, and would be made up at random where the file lacks it."""
    bert = any(
        kind in str(read_json(folder, "config.json").get("model_type")) for kind in ("bert", "roberta")
    )
    return (
        {"add_pooling_layer": False}
        if bert and "distil" not in str(read_json(folder, "config.json").get("model_type"))
        else {}
    )


def _check_head(folder: Path, spec: ModelSpec, of_adapter: int | None) -> None:
    config = read_json(folder, "config.json")
    if of_adapter is None and not any(
        "ForSequenceClassification" in a for a in config.get("architectures") or []
    ):
        raise CourseError(
            f"{folder.name} is {config.get('architectures')}: it has no head for the task {spec.task}, and a new "
            "one would answer at random",
            "choose a model made for the task",
        )
    labels = of_adapter or len(config.get("id2label") or {0: 0, 1: 1})
    if spec.task == "rerank" and labels != 1:
        raise CourseError(
            f"{folder.name} gives {labels} labels; a reranker gives one score",
            "load it with task: text-classification",
        )
