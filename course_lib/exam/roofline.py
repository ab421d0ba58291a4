"""What a language model asks of a processor: bytes to move, operations to do, and the least seconds for both.

A processor is busy for at least the longer of the two times, bytes / bandwidth and operations / peak (the
roofline: Williams et al. 2009, doi:10.1145/1498765.1498785). Reading a prompt is bounded by operations,
since all of its tokens use a weight once it is there; writing by bytes, since each token needs all weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from course_lib.errors import CourseError
from course_lib.models.planner.architectures import Architecture
from course_lib.models.planner.buffers import PROMPT_CHUNK, Driver
from course_lib.models.planner.estimate import Plan, plan
from course_lib.models.planner.lookup import Model, architecture


@dataclass(frozen=True)
class Work:
    """Bytes that are read from memory, and operations (multiplications and additions of numbers)."""

    bytes: float
    flops: float

    def seconds(self, bandwidth: float, flops: float) -> float:
        """Return the least seconds at so many bytes and operations a second."""
        return max(self.bytes / bandwidth, self.flops / flops)


def reading(
    model: Model,
    tokens: int,
    weight_format: str | None = None,
    batch: int = 1,
    *,
    driver: Driver | None = None,
) -> Work:
    """Return the work of reading `batch` prompts of so many tokens each. The arguments are those of `plan`.

    The weights are read once for each PROMPT_CHUNK tokens in llama.cpp, and once in transformers.
    """
    needed = plan(model, weight_format, tokens, batch, driver=driver)
    sizes = _writer(model)
    chunk = min(batch * tokens, PROMPT_CHUNK) if needed.driver == "llamacpp" else batch * tokens
    times = -(-batch * tokens // chunk)
    visible = tokens * (tokens + 1) // 2
    within = min(tokens, sizes.window)
    windowed = within * (within + 1) // 2 + (tokens - within) * within
    flops = tokens * _matrix_flops(sizes) + _attention_flops(sizes, visible, windowed) + _output_flops(sizes)
    return Work(times * _weight_bytes(sizes, needed, chunk) + needed.kv, batch * flops)


def writing(
    model: Model,
    context: int,
    weight_format: str | None = None,
    batch: int = 1,
    *,
    driver: Driver | None = None,
) -> Work:
    """Return the work of one step, which writes a token to each of `batch` texts of `context` tokens.

    The weights are read once for all texts, the KV cache of each text once.
    """
    needed = plan(model, weight_format, context, batch, driver=driver)
    sizes = _writer(model)
    attention = _attention_flops(sizes, context, min(context, sizes.window))
    flops = _matrix_flops(sizes) + attention + _output_flops(sizes)
    return Work(_weight_bytes(sizes, needed, batch) + needed.kv, batch * flops)


def _writer(model: Model) -> Architecture:
    sizes = architecture(model)
    if sizes.family.encoder:
        raise CourseError(f"{sizes.name} is an encoder and writes no answers", "choose a language model")
    return sizes


def _matrix_flops(sizes: Architecture) -> int:
    """Return the operations of all layers' matrices for a token: 2 for each weight that it uses."""
    return 2 * sizes.layers * sum(m.used * m.rows * m.columns for m in sizes.matrices)


def _output_flops(sizes: Architecture) -> int:
    """Return the operations of the logits of one token."""
    return 2 * sizes.vocabulary * sizes.hidden


def _attention_flops(sizes: Architecture, full: int, windowed: int) -> int:
    """Return the operations of attention: 2 for a score and 2 for the sum, each as wide as the heads.

    full, windowed: pairs of a token and one that it sees, in a layer that sees all, and in one with a window.
    """
    pairs = (sizes.layers - sizes.windowed) * full + sizes.windowed * windowed
    return 4 * sizes.heads * sizes.head_dim * pairs


def _weight_bytes(sizes: Architecture, needed: Plan, tokens: int) -> float:
    """Return the bytes of the weights that so many tokens together need.

    Of separate input embeddings only the rows of these tokens, which count nothing. Of the experts, those
    that no token chose stay unread, if each is chosen as often as any other.
    """
    embeddings = needed.embeddings if sizes.tied else needed.embeddings / 2
    unread = 0.0
    if needed.idle:
        unread = needed.idle * (1 - sizes.experts_used / sizes.experts) ** (tokens - 1)
    return needed.weights - unread + embeddings + needed.norms
