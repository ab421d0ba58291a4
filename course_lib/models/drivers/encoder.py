"""The driver huggingface for encoders: embedding models, cross-encoders (rerankers) and text classifiers.

A driver is the software that runs a model. An encoder reads a whole text at once and generates none. A
cross-encoder reads a query and a text together. A head is the layer on top of an encoder that computes scores
or labels.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.drivers.adapters import head_label_count
from course_lib.models.drivers.arguments import as_text
from course_lib.models.drivers.context import context_length, trained_length
from course_lib.models.drivers.engine import Engine, Kind
from course_lib.models.drivers.pretrained import (
    from_pretrained,
    load_config,
    load_tokenizer,
    refuse_gguf,
    refuse_pictures,
)
from course_lib.models.drivers.reply import Prompt
from course_lib.models.drivers.torch_engine import TorchEngine, batches
from course_lib.models.files.headers import read_json
from course_lib.models.files.resolution import resolve
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIRST_TOKEN_TYPES = ("bert", "electra", "roberta", "xlm-roberta")  # their heads read only the first token
OVERLAP = 1 / 4  # the part of a window of a long text that the next window repeats
# The files in which sentence-transformers stores the kind of pooling, the maximum length and the prefixes.
SIDECAR_PATTERNS = ("modules.json", "*sentence*.json", "[0-9]_*/*.json")
PROMPTS_FILE = "config_sentence_transformers.json"
# The names that sentence-transformers looks for, in order.
PASSAGE_PROMPTS = (
    "document",
    "passage",
    "corpus",
)
# Pooling makes one vector of the tokens' vectors: their mean, or that of the first token, [CLS].
POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class Encoder(TorchEngine):
    """An embedding model (task text-embedding), cross-encoder (rerank) or classifier (text-classification).

    The vector of a text is the mean of its tokens' vectors, or the first token's vector, as the model's files
    say, scaled to length 1 (Reimers and Gurevych 2019, arXiv:1908.10084).

    end_tokens: The number of special tokens after a text.
    """

    end_tokens = 1

    def __init__(self, spec: ModelSpec, model: Any, tokenizer: Any, context: int, folder: Path) -> None:
        super().__init__(spec, context)
        self.model, self.tokenizer, self.pooling = model, tokenizer, _pooling(folder)
        files = [path for pattern in SIDECAR_PATTERNS for path in sorted(folder.glob(pattern))]
        self.sidecar_files = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        for kind, prefix in _prompts(folder).items():
            if getattr(spec, f"{kind}_prefix") is None:
                self.prefixes[kind] = prefix
        if any(self.prefixes.values()):  # they are saved with the model
            self.sidecar_files[PROMPTS_FILE] = json.dumps({"prompts": self.prefixes}).encode()
        # Needed because a call with truncation changes the tokenizer for all threads.
        self._tokenizer_lock = threading.Lock()

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load the encoder.

        Raises CourseError for missing files, and for a model that lacks the task's head.
        """
        from transformers import AutoModel, AutoModelForSequenceClassification

        folder = resolve(spec.source)
        refuse_gguf(folder)
        refuse_pictures(folder)
        tokenizer = load_tokenizer(folder)
        context = context_length(spec, _max_length(folder, spec.name, tokenizer))
        if spec.task == "text-embedding":
            model = from_pretrained(AutoModel, spec, folder, **_no_pooler(folder))
        else:
            labels = head_label_count(spec.adapters)
            _check_head(folder, spec, labels)
            config = {} if labels is None else {"num_labels": labels}
            model = from_pretrained(AutoModelForSequenceClassification, spec, folder, **config)
            _compute_first_token_only(model)
        return cls(spec, model, tokenizer, context, folder)

    def _run(self, rows: list[dict[str, Any]]) -> Iterator[tuple[list[int], Any, Any]]:
        """Run the model on tokenized texts in batches of similar lengths.

        Yields the indices of each batch, its attention mask (texts, tokens) and the model's outputs. Raises
        CourseError for a text that is longer than the context.
        """
        import torch

        lengths = [len(row["input_ids"]) for row in rows]
        if (longest := max(lengths, default=0)) > self.context:
            prefixes = [self._tokenize(p, add_special_tokens=False) for p in self.prefixes.values()]
            room = self.context - max(len(prefix["input_ids"]) for prefix in prefixes)
            what = f"text {lengths.index(longest) + 1} has {longest} tokens; {self.name} reads {self.context}"
            raise CourseError(what, f"split_text(text, token_spans(engine.tokenizer), max_tokens={room})")
        for indices in batches(lengths, self.batch_tokens, self.spec.batch_size):
            inputs = {key: [rows[i][key] for i in indices] for key in rows[0]}
            padded = self.tokenizer.pad(inputs, padding_side="right", return_tensors="pt")
            batch = padded.to(self.model.device)
            with torch.inference_mode():
                outputs = self.model(**batch)
            yield indices, batch["attention_mask"], outputs

    def count_tokens(self, prompt: Prompt) -> int:
        """The number of tokens of a text with its special tokens. Raises InputError for anything else."""
        return len(self._tokenize(as_text(prompt, "prompt"))["input_ids"])

    def _tokenize(self, *texts: Any, **kwargs: Any) -> Any:
        with self._tokenizer_lock:
            return self.tokenizer(*texts, verbose=False, **kwargs)  # else it warns about long texts

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, with special tokens."""
        ids: list[list[int]] = self._tokenize(list(texts))["input_ids"] if texts else []
        return ids

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        return self.embed_ids(self.text_ids(texts))

    def embed_ids(self, rows: Sequence[list[int]], *, unit_length: bool = True) -> NDArray[np.float32]:
        """A vector for each text, given as token ids: shape (texts, dimensions)."""
        import numpy as np

        vectors = np.zeros((len(rows), int(self.model.config.hidden_size)), dtype=np.float32)
        for indices, mask, outputs in self._run([{"input_ids": ids} for ids in rows]):
            hidden, mask = outputs.last_hidden_state, mask[..., None]
            pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
            vectors[indices] = _unit_length(pooled) if unit_length else pooled.float().cpu().numpy()
        return vectors

    def _logits(self, rows: list[Any]) -> NDArray[np.float32]:
        import numpy as np

        logits = np.zeros((len(rows), int(self.model.config.num_labels)), dtype=np.float32)
        for indices, _, outputs in self._run(rows):
            logits[indices] = outputs.logits.float().cpu().numpy()
        return logits

    def _windows(self, first: list[str], second: list[str]) -> tuple[list[Any], list[int]]:
        """Tokenize texts, or pairs of a query and a text, into overlapping windows that fit into the context.

        Returns the windows, and for each the index of its text. Raises CourseError if the query leaves less
        than half of the context for the text.
        """
        if not first:
            return [], []
        query_tokens = len(self._tokenize(first[0])["input_ids"]) if second else 0
        if 2 * query_tokens > self.context:
            reads = f"more than half of the {self.context} that {self.name} reads"
            raise CourseError(f"a query of {query_tokens} tokens is {reads}", "use a shorter query")
        encoded = self._tokenize(
            first,
            second or None,
            truncation="only_second" if second else "only_first",
            max_length=self.context,
            stride=int((self.context - query_tokens) * OVERLAP),
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        text_indices = encoded.pop("overflow_to_sample_mapping")
        windows = [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
        return windows, text_indices

    def _embed_tokens(self, texts: list[str]) -> list[NDArray[np.float32]]:
        import numpy as np

        windows, text_indices = self._windows(texts, [])
        vectors: dict[int, NDArray[np.float32]] = {}
        for indices, _, outputs in self._run([{"input_ids": window["input_ids"]} for window in windows]):
            vectors |= zip(indices, _unit_length(outputs.last_hidden_state), strict=True)
        by_text: list[list[NDArray[np.float32]]] = [[] for _ in texts]
        for i, text_index in enumerate(text_indices):
            special = np.array(windows[i]["special_tokens_mask"], dtype=bool)
            by_text[text_index].append(vectors[i][: len(special)][~special])
        return [np.concatenate(parts) for parts in by_text]

    def _rerank(self, query: str, texts: list[str]) -> list[float]:
        import numpy as np

        windows, text_indices = self._windows([query] * len(texts), texts)
        best = np.full(len(texts), -np.inf)
        np.maximum.at(best, text_indices, self._logits(windows)[:, 0])
        scores: list[float] = best.tolist()
        return scores

    def _classify(self, texts: list[str]) -> list[dict[str, float]]:
        import numpy as np

        logits = self._logits([dict(self._tokenize(text)) for text in texts])
        if self.model.config.problem_type == "multi_label_classification":  # each label by itself
            probabilities = 1 / (1 + np.exp(-logits))
        else:
            probabilities = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
            probabilities /= probabilities.sum(1, keepdims=True)
        labels = self.model.config.id2label
        return [{labels[i]: float(p) for i, p in enumerate(row)} for row in probabilities]


def _unit_length(vectors: Any) -> NDArray[np.float32]:
    """Scale torch vectors of shape (..., dimensions) to length 1."""
    import torch

    normalized: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return normalized


def _compute_first_token_only(model: Any) -> None:
    """Make the last layer compute only the token that the head reads: same scores in a tenth less time."""
    if model.config.model_type in FIRST_TOKEN_TYPES:
        attention = model.base_model.encoder.layer[-1].attention
        attention.register_forward_hook(lambda module, inputs, output: (output[0][:, :1], *output[1:]))


def _max_length(folder: Path, name: str, tokenizer: Any) -> int:
    """The number of tokens that the model was trained on, or its number of positions if that is unknown."""
    if trained := read_json(folder, "sentence_bert_config.json").get("max_seq_length"):
        return int(trained)
    config = load_config(folder)
    # RoBERTa numbers its positions from pad_token_id + 1; the positions before it are unused.
    unused = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return int(min(trained_length(name, config) - unused, tokenizer.model_max_length))


def _pooling(folder: Path) -> str:
    """The pooling in the model's files: mean or cls.

    Raises CourseError for other pooling or further layers.
    """
    modules = (path.name for path in folder.glob("[0-9]_*"))
    layers = sorted(name for name in modules if name.split("_", 1)[1] not in ("Pooling", "Normalize"))
    if layers:
        raise CourseError(f"{folder.name} has the unsupported layer {layers[0]}", "choose another model")
    config = read_json(folder, "1_Pooling/config.json")
    modes = {key for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
    if not modes:
        return "mean"
    if len(modes) != 1 or not modes <= POOLING.keys():
        what = f"{folder.name} uses {', '.join(sorted(modes))}; mean and cls pooling are supported"
        raise CourseError(what, "choose another model")
    return POOLING[modes.pop()]


def _prompts(folder: Path) -> dict[Kind, str]:
    """The prefixes in the model's files, "" without any. Raises CourseError if they are not texts."""
    prompts = read_json(folder, PROMPTS_FILE).get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise CourseError(f"the prompts in {PROMPTS_FILE} of {folder.name} are no texts", "download it again")
    passage = next((prompts[name] for name in PASSAGE_PROMPTS if name in prompts), "")
    return {"query": prompts.get("query", ""), "passage": passage}


def _no_pooler(folder: Path) -> dict[str, Any]:
    """Options to leave out BERT's pooling layer, which is not used, and random if the file lacks it."""
    model_type = str(read_json(folder, "config.json").get("model_type"))
    return {"add_pooling_layer": False} if "bert" in model_type and "distil" not in model_type else {}


def _check_head(folder: Path, spec: ModelSpec, adapter_labels: int | None) -> None:
    """Raise CourseError if neither model nor adapter has a head for the task: a new one would be random."""
    config = read_json(folder, "config.json")
    architectures = config.get("architectures") or []
    if adapter_labels is None and not any("ForSequenceClassification" in name for name in architectures):
        raise CourseError(
            f"{folder.name} is {config.get('architectures')}: it has no head for the task {spec.task}, and a "
            "new one would give random answers",
            "choose a model made for the task",
        )
    labels = adapter_labels or len(config.get("id2label") or {0: 0, 1: 1})
    if spec.task == "rerank" and labels != 1:
        what = f"{folder.name} gives {labels} labels; a reranker gives one score"
        raise CourseError(what, 'load(..., task="text-classification")')
    if spec.task == "text-classification" and labels == 1:  # its probability would always be 1
        what = f"{folder.name} gives one score, and a classifier a probability for each of its labels"
        raise CourseError(what, 'load(..., task="rerank")')
