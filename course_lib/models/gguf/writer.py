"""Convert a Hugging Face model folder to GGUF, the file format of llama.cpp and Ollama.

The format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.atomic import atomic_file
from course_lib.errors import CourseError
from course_lib.models.files.headers import read_safetensors_header, weight_paths
from course_lib.models.gguf.architecture import (
    Architecture,
    read_architecture,
    rope_divisors,
    write_metadata,
)
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.tokenizer import NORMALIZER, tokenizer_fields
from course_lib.models.gguf.vocabulary import add_fields

if TYPE_CHECKING:
    import numpy as np

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")  # bits per weight: 32, 16, 16, 8.5, 4.5
K_QUANTS = ("q4_k_m", "q5_k_m", "q6_k")  # types in super-blocks, which only llama.cpp's own program writes
BLOCK, SUPER_BLOCK = 32, 256  # weights that share a scale in q8_0 and q4_0, and in the K-quants
MAX_F16, MAX_F32 = 65504.0, 3.4028235e38
# the largest weight: the scale of a block, weight / 127 or weight / 8, is stored in 16 bits
LARGEST = {"f32": MAX_F32, "bf16": 3.3895314e38, "f16": MAX_F16, "q8_0": 127 * MAX_F16, "q4_0": 8 * MAX_F16}
CHOOSE_ANOTHER_FOLDER = "choose a writable folder with enough free space"


def export(folder: Path, target: Path, weight_type: str = "f32") -> Path:
    """Write the model in `folder` (config, tokenizer, safetensors) to the file `target` and return it.

    weight_type: One of TYPES. Raises ValueError for another one, and CourseError for a K-quant, an
    unsupported architecture or tokenizer, weights that do not fit config.json, weights that the type cannot
    represent, matrix rows not divisible into blocks of 32 weights (quantized types), and if `target` cannot
    be written. No partial file is left behind.
    """
    try:
        write(folder, target, weight_type)
    except OSError as error:
        raise CourseError(f"{target} cannot be written: {error}", CHOOSE_ANOTHER_FOLDER) from error
    if NORMALIZER in read_header(target).fields:
        what = f"the tokenizer of {folder.name} composes letters (Unicode NFC), and llama.cpp does not"
        warnings.warn(f"{what}: other programs than this course must give it texts in NFC", stacklevel=2)
    return target


def write(folder: Path, target: Path, weight_type: str) -> None:
    """Do the same as `export`, but raise OSError if `target` cannot be written."""
    if weight_type in K_QUANTS:
        raise _k_quant_error(folder, target, weight_type)
    if weight_type not in TYPES:
        raise ValueError(f"weight_type={weight_type!r} must be one of {', '.join(TYPES)}")
    from huggingface_hub.errors import StrictDataclassError  # a configuration that contradicts itself

    try:
        architecture = read_architecture(folder)
        _check_weights(folder)
        with gguf_writer(target, architecture.name) as writer:
            write_metadata(writer, architecture)
            add_fields(writer, tokenizer_fields(folder, architecture.config))
            _add_tensors(writer, folder, architecture, weight_type)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        message = f"{folder.name} is not complete: {type(error).__name__}: {reason}"
        raise CourseError(message, "download or save it again") from error


@contextmanager
def gguf_writer(target: Path, architecture: str) -> Iterator[Any]:
    """Yield a writer of a GGUF file; the file appears when the block ends."""
    import gguf

    with atomic_file(target) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        try:
            read_header(partial)  # numpy writes the tensors without reporting a full disk
        except ValueError as error:
            raise OSError(f"the file is truncated, perhaps because the disk is full: {error}") from error


def _check_weights(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    from course_lib.models.files.weights import check_weights

    check_weights(folder, AutoModelForCausalLM)


def _add_tensors(writer: Any, folder: Path, architecture: Architecture, weight_type: str) -> None:
    """Add the tensors. Each is read, converted and quantized only when its turn comes to be written."""
    import gguf

    file_type = "ALL_F32" if weight_type == "f32" else f"MOSTLY_{weight_type.upper()}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    headers = {path: read_safetensors_header(path) for path in weight_paths(folder)}
    path_of = {name: path for path, header in headers.items() for name in header}
    for name, path in path_of.items():
        if _is_redundant(name, path_of, architecture):
            continue
        shape = headers[path][name].shape
        if weight_type.startswith("q") and len(shape) == 2 and shape[1] % BLOCK:
            what = f"{weight_type} quantizes blocks of {BLOCK}, which does not divide the "
            what += f"{shape[1]} of a row of {name} in {folder.name}"
            raise CourseError(what, "export it with --type f16")
        kind = weight_type if len(shape) == 2 else "f32"  # norms stay exact
        lazy = _lazy_tensor(path, name, shape, architecture, kind)
        code = gguf.GGMLQuantizationType[kind.upper()]
        writer.add_tensor(architecture.gguf_name(name), gguf.quants.quantize(lazy, code), raw_dtype=code)
    if architecture.rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_divisors(architecture.config))


def _is_redundant(name: str, path_of: dict[str, Path], architecture: Architecture) -> bool:
    """Whether a tensor need not be stored: frequencies of rotary positions in old files, which config.json
    determines, or a head equal to the embeddings.

    The head is the output layer. As in transformers, one that differs from the embeddings is kept, even if
    config.json says that they share a matrix.
    """
    if name != "lm_head.weight" or not architecture.config["tie_word_embeddings"]:
        return name.endswith("rotary_emb.inv_freq")
    embeddings = "model.embed_tokens.weight"
    return bool((_read(path_of[name], name) == _read(path_of[embeddings], embeddings)).all())


def _read(path: Path, name: str) -> np.ndarray:
    """Return a tensor of a safetensors file as float32."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        weight: np.ndarray = file.get_tensor(name).float().numpy()
    return weight


def _lazy_tensor(
    path: Path, name: str, shape: tuple[int, ...], architecture: Architecture, weight_type: str
) -> Any:
    """Return a tensor in llama.cpp's layout, float32, that is read from its file when it is needed.

    Reading raises CourseError for a weight that the type cannot represent.
    """
    import numpy as np
    from gguf import LazyNumpyTensor

    def read() -> np.ndarray:
        weight = _read(path, name)
        largest = float(np.abs(weight).max(initial=0.0))
        if not largest <= LARGEST[weight_type]:  # also for NaN
            what = f"{architecture.label}: {name} has a weight of {largest:g}, and {weight_type} represents "
            what += f"at most {LARGEST[weight_type]:g}"
            raise CourseError(what, "export it with --type f32, or train it anew")
        converted: np.ndarray = np.ascontiguousarray(architecture.to_gguf(name, weight), dtype=np.float32)
        return converted

    meta = LazyNumpyTensor.meta_with_dtype_and_shape(np.float32, shape)
    return LazyNumpyTensor(meta=meta, func=read)


def _k_quant_error(folder: Path, target: Path, weight_type: str) -> CourseError:
    """Return the error for a K-quant: the installed llama.cpp has no function that quantizes a file."""
    what = f"{weight_type} is written by llama.cpp's program llama-quantize, which xllamacpp does not contain"
    headers = [read_safetensors_header(path) for path in weight_paths(folder)]
    shapes = [tensor.shape for header in headers for tensor in header.values() if len(tensor.shape) == 2]
    odd = sum(1 for shape in shapes if shape[1] % SUPER_BLOCK)
    if odd:
        what += f"; {odd} of {len(shapes)} matrices have rows not divisible by {SUPER_BLOCK}, so that "
        what += "it stores them as q5_0, q5_1 or q8_0, and the file becomes larger"
    f16 = target.with_name(f"{folder.name}-f16.gguf")
    fix = f"course models export {folder} --type f16 --out {f16} && llama-quantize {f16} {target} "
    return CourseError(what, fix + weight_type.upper())
