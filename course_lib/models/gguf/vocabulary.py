"""Compare the token ids of llama.cpp, for the tokenizer fields of a GGUF file, with those of transformers.

NFC is Unicode's form in which a letter and its accent are one character. GGUF is the file format of
llama.cpp.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.errors import CourseError

USE_FOLDER = "use the model's own folder with safetensors"
CONTEXT = 64  # tokens; of the empty model into which the vocabulary is put
WIDTH = 32  # the width of the smallest model that llama.cpp loads with a vocabulary
SPECIAL_TYPES = (3, 4)  # gguf.TokenType CONTROL and USER_DEFINED
TEXTS = (  # on which tokenizers often differ
    "The quick brown fox jumps over the lazy dog. It's he'LL we've I'm THEY'RE don't",
    "1 12 123 1234 12345 1,234.56 -7 3.14159e-10 0x1F 50% ½ ² ٣ １２３ v2.0.1 2026-11-29",
    "하늘은행 계좌의 수수료는 3,500원입니다. 송금 한도: 1일 500만원",
    unicodedata.normalize("NFD", "하늘은행 café"),
    "café naïve Über straße İstanbul Σίσυφος Привет",
    "😀 👨‍👩‍👧 🇰🇷 ❤️ ok👍🏽",
    "中文和日本語のテキスト。 السلام สวัสดี नमस्ते שלום",
    "def f(x):\n    return {'a': [x**2, x != 3]}  # code\n\n\tif (a&&b) { c++; }\r\n",
    "a_b camelCase HTTPServer x.y/z?q=1&r=2#s <html><b>x</b></html> &amp; $5 €6 ₩7 #8 @9 ^_~`|\\",
    *(" a", "  a", "   a  b   c    d", "a ", "a  ", "\n", "\n\n\n", "a\n\nb", " \n \n", "\t\ta\t", "a \n b"),
    *("", "\r\n\r\n", "\u00a0\u3000\u200b x", "...!!!???", "—–-‘’“”«»", "A" * 40),
    *(" " * n + "x" for n in range(1, 40)),
    *("a" + "\n" * n for n in range(1, 9)),
)
PIECES = (  # of which further texts are made at random
    *"abcEFxyz \t\n01239'’.,;:—!?-()[]{}<>/\\@#$%^&*_+=~`|\"하늘은행é́😀½²٣中文я\u00a0\u3000",
    *("'s", "'LL", " the", "The", "123", "45678", "  ", "   ", "\r\n", "\n\n", " \n", "한글", "하", "ing"),
)


class Difference(NamedTuple):
    """A text that becomes other token ids in llama.cpp than in transformers. equal: how many came before."""

    equal: int
    text: str
    llama_cpp: list[int]
    transformers: list[int]


def add_fields(writer: Any, fields: dict[str, Any]) -> None:
    """Write GGUF fields whose values are texts, truth values, ids (written without sign) and lists."""
    for key, value in fields.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string, list: writer.add_array}
        add[type(value)](key, value)


def probing_texts(fields: dict[str, Any], count: int = 240) -> list[str]:
    """Return texts on which tokenizers differ: numbers, scripts, white space, code, and mixtures of tokens.

    fields: The tokenizer fields, from whose tokens some texts are made. The same for the same fields.
    """
    rng = random.Random(0)
    tokens = fields["tokenizer.ggml.tokens"]
    types = fields["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, types, strict=True) if kind in SPECIAL_TYPES]
    mixtures = ["".join(rng.choices(PIECES, k=rng.randrange(1, 14))) for _ in range(count)]
    marked = [f"a{s}b {s} c\n{s}" for s in rng.sample(special, min(len(special), 40))]
    readable = [  # tokenizers write Ġ or ▁ for a space, and Ċ for a line break
        t.replace("Ġ", " ").replace("Ċ", "\n").replace("▁", " ") for t in rng.choices(tokens, k=count)
    ]
    of_tokens = ["".join(readable[i : i + 3]) for i in range(0, count, 3)]
    return [*TEXTS, *mixtures, *marked, *of_tokens]


def first_difference(fields: dict[str, Any], tokenizer: Any, *, composed: bool = False) -> Difference | None:
    """Return the first probing text whose ids differ, or None. tokenizer: one of transformers.

    Special tokens in the texts are read as such. The ids compared include those that are added at the ends.
    composed: Compare only texts in Unicode's form NFC.
    """
    texts = probing_texts(fields)
    if composed:
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    ids = zip(texts, llama_cpp_ids(fields, texts), tokenizer(texts)["input_ids"], strict=True)
    found = (Difference(i, *triple) for i, triple in enumerate(ids) if triple[1] != triple[2])
    return next(found, None)


def llama_cpp_ids(fields: dict[str, Any], texts: Sequence[str]) -> list[list[int]]:
    """Return llama.cpp's ids of each text, with special tokens in the text and at its ends.

    Raises CourseError if llama.cpp cannot load or use the tokenizer.
    """
    from course_lib.models.gguf.llamacpp_server import LlamaServer, PrivateFolder
    from course_lib.models.schema.spec import ModelSpec

    folder = PrivateFolder()
    file = _write_empty_model(fields, Path(folder.name) / "vocabulary.gguf")
    spec = ModelSpec.parse({"source": str(file), "task": "text-generation", "device": "cpu"})
    try:
        with closing(LlamaServer(spec, file, CONTEXT, [], folder)) as server:
            before, after = server.added_ids
            return [[*before, *row, *after] for row in server.tokenize(texts)]
    except CourseError as error:
        kind = f"{fields['tokenizer.ggml.model']}, {fields.get('tokenizer.ggml.pre', 'default')}"
        raise CourseError(
            f"llama.cpp cannot use this tokenizer ({kind}): {error.what}", USE_FOLDER
        ) from error


def _write_empty_model(fields: dict[str, Any], file: Path) -> Path:
    """Write a model of one layer of zeros with these tokenizer fields, the least that llama.cpp loads."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    add_fields(writer, {key: value for key, value in fields.items() if not key.endswith("chat_template")})
    kind, matrix = gguf.GGMLQuantizationType.Q4_0, np.zeros((WIDTH, WIDTH), dtype=np.float32)
    embeddings = np.zeros((len(fields["tokenizer.ggml.tokens"]), WIDTH), dtype=np.float32)
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(embeddings, kind), raw_dtype=kind)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", matrix)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", matrix[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
