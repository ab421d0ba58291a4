"""Estimate how much memory a model will need, from its configuration alone, or from the headers of its files.

The sizes of weights, embeddings, norms and KV cache are computed for the driver (the software that runs the
model). The size of its other buffers is a simple formula fitted to measurements. Not counted: the program
itself (Python, its libraries, a GPU's context); llama.cpp's vocabulary (250 to 400 bytes a token, measured);
and on a CPU the memory-mapped model file, which the system can drop when memory is short. The estimate is for
one instance of the model; `load` may start one instance per core for a model below 64 MB. The KV cache holds
the keys and values that a model has computed for earlier tokens. An encoder reads a text and gives vectors or
labels, but generates no text. Some models have layers with several experts (parallel networks), of which a
router chooses a few for each token.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from course_lib.errors import CourseError
from course_lib.models.planner.architectures import Architecture, Matrix
from course_lib.models.planner.buffers import Driver, huggingface_overhead, kv_bytes, llamacpp_overhead
from course_lib.models.planner.files import StoredModel
from course_lib.models.planner.lookup import Model, architecture, files_of, stored
from course_lib.models.planner.memory import BITS_OF
from course_lib.models.planner.quants import BASES, WHOLE, tensor_types
from course_lib.models.schema.spec import QUANTIZATIONS
from course_lib.tables import table

MIB = 2**20
#: Bytes of a GiB.
GIB = 2**30
BITSANDBYTES = QUANTIZATIONS["huggingface"]  # bitsandbytes quantizes only the matrices of the layers
FORMATS = (*(m for m in BASES if m not in WHOLE), "nf4", "fp4", "int8", *WHOLE)
PURE = ("q4_0",)  # the course writes all matrices in this type; llama.cpp's program gives the output q6_k
DEFAULT_FORMAT, DEFAULT_CONTEXT = "q4_0", 4096


@dataclass(frozen=True)
class Plan:
    """The bytes that a model needs while it processes `batch` texts of `context` tokens each.

    weights: The matrices of the layers. kv: The KV cache. overhead: The driver's other buffers.
    idle: The bytes, out of `weights`, of the experts that one token does not use.
    """

    model: str
    weight_format: str
    driver: Driver
    context: int
    batch: int
    weights: int
    embeddings: int
    norms: int
    kv: int
    overhead: int
    idle: int = 0

    @property
    def bytes_per_token(self) -> int:
        """The bytes of weights and KV cache that are read for one token at the end of the context.

        The memory's bandwidth divided by it is an upper bound of the tokens per second of one text.
        """
        return self.weights - self.idle + self.embeddings + self.norms + self.kv // self.batch

    @property
    def total(self) -> int:
        """The sum of all parts in bytes."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """The bytes of each part by its name."""
        return {
            "weights": self.weights,
            "embeddings": self.embeddings,
            "norms": self.norms,
            "KV cache": self.kv,
            "overhead": self.overhead,
        }

    def __str__(self) -> str:
        title = f"{self.model}, {self.weight_format}, {self.driver}: {self.batch} x {self.context:,} tokens"
        parts = self.parts | {"total": self.total}
        rows = [[name, format_bytes(n), f"{n / self.total:.0%}"] for name, n in parts.items()]
        text = f"{title}\n{table(['part', 'bytes', 'share'], rows)}"
        if not self.idle:
            return text
        used = f"One token uses {format_bytes(self.weights - self.idle)} of the weights"
        return f"{text}\n{used}: that sets the speed, the total the memory."


def format_bytes(number: float) -> str:
    """Format a number of bytes as GiB or MiB.

    >>> format_bytes(24 * 2**30), format_bytes(3 * 2**20)
    ('24.00 GiB', '3.00 MiB')
    """
    return f"{number / GIB:,.2f} GiB" if number >= GIB / 10 else f"{number / MIB:,.2f} MiB"


def plan(
    model: Model,
    weight_format: str | None = None,
    context: int | None = None,
    batch: int = 1,
    *,
    driver: Driver | None = None,
    precision: str | None = None,
    kv: str | None = None,
    double_quantization: bool = False,
) -> Plan:
    """Return the memory plan of a model, given by the name of a known model, or as a folder or .gguf file.

    weight_format: One of FORMATS. nf4, fp4 and int8 are for transformers with bitsandbytes; the unquantized
    formats are for both drivers (by default transformers); the others are for llama.cpp. By default the
    format of the model's files, whose tensors are then counted; without files q4_0 (float32 for an encoder).
    By llama.cpp's rules, some matrices of a mixture such as q4_k_m get more bits; a folder in q4_0 is planned
    as the course writes it, with one type for all. context: By default 4,096 tokens, or the training's if
    they are fewer. precision: The type of the weights that bitsandbytes does not quantize, by default
    bfloat16 (on a CPU, `load` uses float32). kv: The type of llama.cpp's KV cache: float16 (default),
    float32, bfloat16, q8_0 or q4_0. In transformers the cache has the type of the unquantized weights. Raises
    CourseError for invalid combinations, and for a context longer than the model supports.
    """
    files = stored(model) if weight_format is None else None
    if files and driver not in (None, files.driver):
        weight_format, files = files.weight_format, None  # what the other driver would make of them
    if files is None:
        usual = "float32" if architecture(model).family.encoder else DEFAULT_FORMAT
        weight_format = (weight_format or usual).lower()
        driver = _resolve_driver(weight_format, driver)
    else:
        weight_format, driver = files.weight_format, files.driver
    sizes = files.sizes if files else architecture(model)
    context = min(DEFAULT_CONTEXT, sizes.context) if context is None else context
    _check_options(sizes, weight_format, driver, context, batch, precision, kv, double_quantization)
    rest = weight_format if weight_format in WHOLE else precision or "bfloat16"
    if driver == "llamacpp":
        parts = files or _in_gguf(sizes, weight_format, pure=files_of(model) is not None)
        overhead, rest = llamacpp_overhead(sizes, context, batch), kv or "float16"
    else:
        parts = files or _in_transformers(sizes, weight_format, rest, double_quantization)
        overhead = huggingface_overhead(sizes, weight_format, context, batch, rest)
    return Plan(
        model=sizes.name,
        weight_format=weight_format,
        driver=driver,
        context=context,
        batch=batch,
        weights=parts.weights,
        embeddings=parts.embeddings,
        norms=parts.norms,
        kv=kv_bytes(sizes, context, batch, rest, driver),
        overhead=overhead,
        idle=parts.experts - parts.experts * sizes.experts_used // max(1, sizes.experts),
    )


@functools.lru_cache(maxsize=1024)  # the longest context that fits is found by many plans of one model
def _in_gguf(sizes: Architecture, mixture: str, pure: bool) -> StoredModel:
    """Return the bytes of a GGUF file.

    Norms have 32 bits in it, and so have an encoder's embeddings of positions and of segments (which of two
    texts a token belongs to).
    """
    tensors = tensor_types(sizes, mixture, pure and mixture in PURE)
    layers = sum(t.bytes for t in tensors if t.name.startswith("blk."))
    positions = sizes.embedding_parameters - sum(t.weights for t in tensors if "blk." not in t.name)
    return StoredModel(
        sizes=sizes,
        weight_format=mixture,
        driver="llamacpp",
        weights=round(layers),
        embeddings=round(sum(t.bytes for t in tensors) - layers) + 4 * positions,
        norms=4 * sizes.norm_parameters,
        experts=round(sum(t.bytes for t in tensors if "_exps." in t.name)),
    )


def _in_transformers(sizes: Architecture, weight_format: str, rest: str, double: bool) -> StoredModel:
    """Return the bytes of a torch model. rest: The type of the weights that are not quantized.

    bitsandbytes quantizes neither the experts nor the router, which are no torch.nn.Linear.
    """
    matrices = [(m, _matrix_bytes(m, rest if m.routed else weight_format, double)) for m in sizes.matrices]
    return StoredModel(
        sizes=sizes,
        weight_format=weight_format,
        driver="huggingface",
        weights=round(sizes.layers * sum(size for _, size in matrices)),
        embeddings=round(sizes.embedding_parameters * BITS_OF[rest] / 8),
        norms=round(sizes.norm_parameters * BITS_OF[rest] / 8),
        experts=round(sizes.layers * sum(size for m, size in matrices if m.experts > 1)),
    )


def _resolve_driver(weight_format: str, driver: Driver | None) -> Driver:
    if weight_format not in FORMATS:
        raise CourseError(
            f"weight_format={weight_format!r} is unknown", f"choose one of {', '.join(FORMATS)}"
        )
    if driver not in (None, "huggingface", "llamacpp"):
        raise CourseError(
            f"driver={driver!r} is not supported by the planner", "choose huggingface or llamacpp"
        )
    if weight_format in WHOLE:
        return driver or "huggingface"
    only: Driver = "huggingface" if weight_format in BITSANDBYTES else "llamacpp"
    if driver not in (None, only):
        raise CourseError(
            f"the driver {driver} has no format {weight_format}",
            f'plan(..., weight_format="{weight_format}", driver="{only}")',
        )
    return only


def _check_options(
    sizes: Architecture,
    weight_format: str,
    driver: Driver,
    context: int,
    batch: int,
    precision: str | None,
    kv: str | None,
    double: bool,
) -> None:
    if not 0 < context <= sizes.context or batch < 1:
        message = f"{batch} x {context:,} tokens; {sizes.name} reads 1 to {sizes.context:,}"
        raise CourseError(message, f"plan(..., context={sizes.context}, batch=1)")
    if precision not in (None, *WHOLE) or (precision and weight_format not in BITSANDBYTES):
        message = f"precision={precision!r} with {weight_format}: only {', '.join(BITSANDBYTES)} take one"
        raise CourseError(f"{message}, of {', '.join(WHOLE)}", "leave precision out")
    if kv not in (None, *WHOLE, "q8_0", "q4_0") or (kv and driver != "llamacpp"):
        message = f"kv={kv!r} for {driver}: only llamacpp takes a kv type, one of"
        raise CourseError(f"{message} {', '.join(WHOLE)}, q8_0, q4_0", "leave kv out")
    if double and weight_format not in ("nf4", "fp4"):
        message = f"double_quantization with {weight_format}: only nf4 and fp4 support it"
        raise CourseError(message, "leave double_quantization out")


def _matrix_bytes(matrix: Matrix, weight_format: str, double: bool) -> float:
    """Return the bytes of a matrix with its quantization scales.

    int8 has a scale of 4 bytes per row (arXiv:2208.07339). nf4 and fp4 have a scale of 4 bytes per block of
    64 weights, and a table of 16 values. With double quantization, a block has a scale of 1 byte, and 256
    blocks share 4 more bytes (arXiv:2305.14314).
    """
    weights = matrix.weights
    if weight_format == "int8":
        return weights + 4 * matrix.rows
    if weight_format not in ("nf4", "fp4"):
        return weights * BITS_OF[weight_format] / 8
    blocks = -(-weights // 64)
    scales = blocks + 4 * -(-blocks // 256) + 4 * 256 + 4 if double else 4 * blocks
    return -(-weights // 2) + 4 * 16 + scales
