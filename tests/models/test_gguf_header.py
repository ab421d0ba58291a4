"""The header of a GGUF file, read without its lists, beside gguf's own reader."""

import os
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest

from course_lib.data import MODELS
from course_lib.models.gguf import export
from course_lib.models.gguf.header import SHORT, control_tokens, read_header


def by_gguf(path):
    reader = gguf.GGUFReader(path)
    fields = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    tensors = {
        t.name: (tuple(t.shape.tolist()[::-1]), t.n_bytes, t.tensor_type.name.lower(), t.data_offset)
        for t in reader.tensors
    }
    return fields, tensors


def assert_equal_to_gguf(path):
    fields, tensors = by_gguf(path)
    assert read_header(path, decode_arrays=True) == (fields, tensors)
    without = {k: None if is_long(v) else v for k, v in fields.items()}
    assert read_header(path) == (without, tensors) and None in without.values()


def is_long(value):
    return isinstance(value, list) and (len(value) > SHORT or isinstance(value[0], str))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return export(MODELS / "haneul-300k", tmp_path_factory.mktemp("gguf") / "m.gguf", "q8_0")


def test_the_fields_of_our_exports_are_those_that_gguf_reads(ours):
    assert_equal_to_gguf(ours)


def test_the_fields_of_another_program_s_file_are_those_that_gguf_reads():
    path = Path(os.environ.get("COURSE_DATA_DIR", "../shared/data")) / "models" / "stories260K.gguf"
    if not path.is_file():
        pytest.skip("set COURSE_DATA_DIR")
    assert_equal_to_gguf(path)


def test_every_type_of_field_is_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for add, value in {
        "uint8": 200, "int8": -100, "uint16": 60_000, "int16": -30_000, "uint32": 2**32 - 1, "int32": -1,
        "uint64": 2**64 - 1, "int64": -1, "float32": 0.1, "float64": 0.1, "bool": True, "string": "하늘",
    }.items():  # fmt: skip
        getattr(writer, f"add_{add}")(f"a.{add}", value)
    for name, values in {"texts": ["", "하늘"], "floats": [0.5, 1.5], "flags": [True, False]}.items():
        writer.add_array(f"a.{name}", values)
    writer.add_custom_alignment(64)
    writer.add_tensor("t", np.zeros((3, 5), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_equal_to_gguf(tmp_path / "m.gguf")


def test_control_tokens_are_those_of_their_type(ours):
    fields = {key: field.contents() for key, field in gguf.GGUFReader(ours).fields.items()}
    texts, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    found = control_tokens(ours)
    assert found == [text for text, kind in zip(texts, kinds, strict=True) if kind == gguf.TokenType.CONTROL]
    assert 1 < len(found) < len(texts) / 10


def test_control_tokens_are_found_without_the_texts_of_all(ours):
    """Those of SmolLM2 left 4 MB behind in the server."""
    control_tokens(ours)  # imports
    tracemalloc.start()
    control_tokens(ours)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    texts = read_header(ours, decode_arrays={"tokenizer.ggml.tokens": True}).fields["tokenizer.ggml.tokens"]
    everything = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(texts) > 1000 and peak < everything / 2, (peak, everything)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_header_is_an_error_of_value_or_is_read(seed, ours, tmp_path):
    raw, rng = bytearray(ours.read_bytes()), np.random.default_rng(seed)
    for place in rng.integers(0, 4000, 20):
        raw[place] = rng.integers(256)
    (tmp_path / "m.gguf").write_bytes(raw)
    with pytest.raises(ValueError):
        read_header(tmp_path / "m.gguf")


@pytest.mark.parametrize("length", [0, 3, 20, 24, 100, 5000, -1])
def test_a_file_that_ends_too_early_is_an_error_of_value(length, ours, tmp_path):
    (tmp_path / "m.gguf").write_bytes(ours.read_bytes()[:length])
    with pytest.raises(ValueError):
        read_header(tmp_path / "m.gguf")


def test_numbers_of_the_layers_are_read_without_the_vocabulary(tmp_path):
    path = written(tmp_path / "m.gguf", {"a.layers": [4, 2, 1], "a.long": [1] * (SHORT + 1)})
    assert read_header(path).fields == {
        "general.architecture": "llama",
        "a.layers": [4, 2, 1],
        "a.long": None,
    }


def written(path, arrays):
    """A GGUF file of one tensor, 3 x 5, with these arrays in its header."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, values in arrays.items():
        writer.add_array(name, values)
    writer.add_tensor("t", np.zeros((3, 5), dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("dimensions", "code", "message"),
    [
        ([5, 3], 12, "t has rows of 5 weights, not a multiple of Q4_K's 256"),
        ([5, 3], 250, "250 is not a valid"),
        ([1] * 9, 0, "t has 9 dimensions, over 4"),
        ([2**40, 2**20], 0, "its tensors need"),
    ],
)
def test_a_tensor_that_cannot_be_is_an_error_of_value(dimensions, code, message, tmp_path):
    """The description of the one tensor is overwritten: its name, dimensions, type and place."""
    raw = written(tmp_path / "m.gguf", {}).read_bytes()
    start = raw.index(b"t" + (2).to_bytes(4, "little")) + 1
    described = struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, code, 0)
    (tmp_path / "m.gguf").write_bytes(raw[:start] + described + raw[start + 32 :])
    with pytest.raises(ValueError, match=message):
        read_header(tmp_path / "m.gguf")
