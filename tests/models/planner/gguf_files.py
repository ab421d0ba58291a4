"""Small GGUF models of any architecture, with weights of one value, as llama.cpp reads them."""

import functools
import json
from pathlib import Path

import gguf
import numpy as np

from course_lib.data import MODELS
from course_lib.models.gguf.tokenizer import tokenizer_fields
from course_lib.models.gguf.vocabulary import add_fields

TOKENIZER = MODELS / "haneul-1m"  # its vocabulary has 4,096 tokens
BERT_NORMS = ("attn_output_norm", "layer_output_norm")
NORMS = {
    2: ("attn_norm", "ffn_norm"),
    4: ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"),
}


@functools.cache
def _tokenizer():
    return tokenizer_fields(TOKENIZER, json.loads((TOKENIZER / "config.json").read_text()))


def write_model(path: Path, sizes, kind: str, fields=None, *, general_type="model", shapes=None) -> Path:
    """Write a model of these sizes in float32. kind: llama.cpp's name of the architecture.

    fields: Further fields of the header, and those to replace; None leaves one out. shapes: Of the tensors to
    write, if not of all.
    """
    writer = gguf.GGUFWriter(path, kind)
    for name, value in (header_fields(sizes, kind) | (fields or {})).items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    writer.add_string("general.type", general_type)
    add_fields(writer, _tokenizer())
    for name, shape in (shapes or tensor_shapes(sizes)).items():
        writer.add_tensor(f"{name}.weight", np.full(shape, 0.01, dtype=np.float32))
        if sizes.family.encoder and "embd" not in name.removesuffix("_norm") and name != "token_types":
            writer.add_tensor(f"{name}.bias", np.zeros(shape[0], dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


def header_fields(sizes, kind):
    """The fields of the header that state the sizes."""
    fields = {
        "context_length": sizes.context,
        "embedding_length": sizes.hidden,
        "block_count": sizes.layers,
        "feed_forward_length": sizes.feed_forward,
        "vocab_size": sizes.vocabulary,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "attention.key_length": sizes.head_dim,
        "attention.value_length": sizes.head_dim,
        "rope.dimension_count": sizes.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e4,
    }
    if sizes.window:
        fields["attention.sliding_window"] = sizes.window
    if sizes.experts:
        fields |= {"expert_count": sizes.experts, "expert_used_count": sizes.experts_used}
        fields["expert_feed_forward_length"] = sizes.feed_forward
    if kind == "llama4":
        fields["interleave_moe_layer_step"] = 1
    return {f"{kind}.{name}": value for name, value in fields.items()} | {"general.file_type": 0}


def tensor_shapes(sizes):
    """The shape of each tensor by its name, as in numpy: the rows first."""
    encoder = sizes.family.encoder
    layer = dict.fromkeys(BERT_NORMS if encoder else NORMS[sizes.family.norms], (sizes.hidden,))
    if sizes.family.head_norms:
        layer |= dict.fromkeys(("attn_q_norm", "attn_k_norm"), (sizes.head_dim,))
    for m in sizes.matrices:
        layer[m.name] = (m.experts, m.rows, m.columns) if m.name.endswith("_exps") else (m.rows, m.columns)
    embedding = (sizes.vocabulary, sizes.hidden)
    whole = {"token_embd": embedding, "token_embd_norm" if encoder else "output_norm": (sizes.hidden,)}
    if encoder:
        whole |= {"position_embd": (sizes.context, sizes.hidden), "token_types": (2, sizes.hidden)}
    if not sizes.tied:
        whole["output"] = embedding
    return whole | {f"blk.{i}.{part}": shape for i in range(sizes.layers) for part, shape in layer.items()}
