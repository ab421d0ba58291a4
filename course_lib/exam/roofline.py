"""The least work of a language model: bytes to read from memory, operations, and the least seconds for both.

A processor takes at least the longer of two times: bytes / bandwidth and operations / peak (the roofline
model, Williams et al. 2009, doi:10.1145/1498765.1498785). Reading a prompt is limited by operations, because
each weight that is fetched serves all tokens. Writing is limited by bytes, because each token needs all
weights. The KV cache holds what the layers computed for earlier tokens (keys and values).
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
    """Bytes read from memory, and operations (multiplications and additions)."""

    bytes: float
    flops: float

    def seconds(self, bandwidth: float, flops: float) -> float:
        """Return the least seconds. bandwidth: bytes per second. flops: operations per second."""
        return max(self.bytes / bandwidth, self.flops / flops)


def reading(
    model: Model,
    tokens: int,
    weight_format: str | None = None,
    batch: int = 1,
    *,
    driver: Driver | None = None,
) -> Work:
    """Return the work of reading `batch` prompts of `tokens` tokens each. Other arguments: as for `plan`.

    driver: the software that runs the model. llama.cpp reads PROMPT_CHUNK tokens at a time, and fetches the
    weights for each chunk; transformers reads all at once.
    """
    needed = plan(model, weight_format, tokens, batch, driver=driver)
    sizes = _language_model(model)
    chunk = min(batch * tokens, PROMPT_CHUNK) if needed.driver == "llamacpp" else batch * tokens
    times = -(-batch * tokens // chunk)
    # Pairs of a token and one that it sees: itself, and all before it or those in the window.
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
    """Return the work of one decoding step: one new token for each of `batch` texts of `context` tokens.

    The weights are fetched once for all texts, and the KV cache of each text once.
    """
    needed = plan(model, weight_format, context, batch, driver=driver)
    sizes = _language_model(model)
    attention = _attention_flops(sizes, context, min(context, sizes.window))
    flops = _matrix_flops(sizes) + attention + _output_flops(sizes)
    return Work(_weight_bytes(sizes, needed, batch) + needed.kv, batch * flops)


def _language_model(model: Model) -> Architecture:
    """Return a model's sizes. Raises CourseError for an encoder, a model that reads and does not write."""
    sizes = architecture(model)
    if sizes.family.encoder:
        raise CourseError(f"{sizes.name} is an encoder and writes no answers", "choose a language model")
    return sizes


def _matrix_flops(sizes: Architecture) -> int:
    """Return the operations of all layers' matrices for a token: 2 for each weight that the token uses."""
    return 2 * sizes.layers * sum(m.used * m.rows * m.columns for m in sizes.matrices)


def _output_flops(sizes: Architecture) -> int:
    """Return the operations of the last matrix for one token: the scores of the whole vocabulary."""
    return 2 * sizes.vocabulary * sizes.hidden


def _attention_flops(sizes: Architecture, full: int, windowed: int) -> int:
    """Return the operations of attention: 4 x head_dim for each head and pair of tokens.

    A head compares the vectors, of head_dim numbers, of two tokens, which takes 2 x head_dim operations, and
    as many for its share in a weighted sum.

    full, windowed: the numbers of (token, visible token) pairs in a layer in which a token sees all earlier
    ones, and in one in which it sees only the last `sizes.window`.
    """
    pairs = (sizes.layers - sizes.windowed) * full + sizes.windowed * windowed
    return 4 * sizes.heads * sizes.head_dim * pairs


def _weight_bytes(sizes: Architecture, needed: Plan, tokens: int) -> float:
    """Return the bytes of the weights that are fetched for `tokens` tokens together.

    Of input embeddings (the table of the tokens' vectors) that are stored apart from the output matrix
    (untied) only the rows of these tokens are read, which count as 0. In a mixture of experts each token
    chooses a few of several matrices, the experts. Those that no token chose are not read; the formula
    assumes that all are chosen equally often.
    """
    embeddings = needed.embeddings if sizes.tied else needed.embeddings / 2
    unread = 0.0
    if needed.idle:  # bytes of the experts that one token does not choose
        unread = needed.idle * (1 - sizes.experts_used / sizes.experts) ** (tokens - 1)
    # norms: the factors by which layers scale their vectors.
    return needed.weights - unread + embeddings + needed.norms
