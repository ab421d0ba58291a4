"""Compute log-probabilities of given texts: the basis of perplexity and of choosing among labels."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CELLS_PER_PASS = 2**25  # a limit on memory: the numbers in the mask, the logits, or the KV cache of one pass
PROMPTS_PER_PASS = 32

Tokens = tuple[int, ...]


def log_probabilities(model: Any, ids: Sequence[int]) -> list[float]:
    """The natural log-probability of each of ids[1:], given the ids before it."""
    import torch

    if len(ids) < 2:
        return []
    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device)).logits[0, :-1].float()
    targets = torch.tensor(ids[1:], device=model.device)
    values: list[float] = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0].tolist()
    return values


@dataclass(frozen=True)
class _Row:
    """A prompt without the beginning that all have in common, and the tails to score after it.

    Beginnings that several tails share are read once, so the tails form a tree (Cai et al. 2024,
    arXiv:2401.10774): a node for every beginning of a tail but the whole tail. Node 0 is the empty one.
    """

    prompt: Sequence[int]
    tails: Sequence[Tokens]
    nodes: dict[Tokens, int]

    @classmethod
    def of(cls, prompt: Sequence[int], tails: Sequence[Sequence[int]]) -> _Row:
        whole = [tuple(tail) for tail in tails]
        beginnings = {tail[:k]: None for tail in whole for k in range(1, len(tail))}
        return cls(prompt, whole, {b: i for i, b in enumerate([(), *sorted(beginnings, key=len)])})

    def __len__(self) -> int:
        """The number of tokens that are read."""
        return len(self.prompt) + len(self.nodes) - 1


def score(
    model: Any, prompts: Sequence[Sequence[int]], tails: Sequence[Sequence[Sequence[int]]]
) -> list[NDArray[np.float64]]:
    """The log-probability of every tail (a continuation) of each prompt, summed over its tokens.

    An empty tail has 0. The prompts' common prefix goes through the model once. The rest of a prompt and all
    of its tails go through in one pass, in which a tail sees its prompt and itself. Raises ValueError for an
    empty prompt.
    """
    if not all(prompts):
        raise ValueError(f"prompt {[bool(p) for p in prompts].index(False)} has no token")
    # with a sliding window, a cache forgets tokens that the mask would have to leave out, too
    prefix = [] if _window(model) else _common_prefix(prompts)
    rows = [_Row.of(p[len(prefix) :], t) for p, t in zip(prompts, tails, strict=True)]
    cache = _prefill(model, prefix) if prefix else None
    scores: list[Any] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers) if cache else 0
    vocabulary = model.get_output_embeddings().weight.shape[0]
    for batch in _batches(rows, order, len(prefix), kept, vocabulary):
        found = _score_batch(model, [rows[i] for i in batch], len(prefix), cache)
        for i, values in zip(batch, found, strict=True):
            scores[i] = values
    return scores


def _common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix, cut so that each prompt keeps at least one token; [] for a single prompt."""
    if len(prompts) < 2:
        return []
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    return [column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns)]


def _prefill(model: Any, ids: list[int]) -> Any:
    """Return the KV cache after these token ids."""
    import torch

    with torch.inference_mode():
        row = torch.tensor([ids], device=model.device)
        return model(row, use_cache=True, logits_to_keep=1).past_key_values


def _batches(
    rows: list[_Row], order: list[int], cached: int, kept: int, vocabulary: int
) -> Iterator[list[int]]:
    """Cut `order`, by which rows become longer, into batches within the limits; one row is always allowed.

    kept: the size of the KV cache of the `cached` tokens, of which each row gets a copy that grows.
    """
    batch: list[int] = []
    for i in order:
        bigger = [rows[j] for j in (*batch, i)]
        nodes = max(len(row.nodes) for row in bigger)
        length = len(rows[i]) + nodes
        copy_of_cache = kept * (cached + length) // max(cached, 1)
        cells = max(length * (cached + length), nodes * vocabulary, copy_of_cache)
        if batch and (len(bigger) > PROMPTS_PER_PASS or len(bigger) * cells > CELLS_PER_PASS):
            yield batch
            batch = []
        batch = [*batch, i]
    if batch:
        yield batch


def _score_batch(model: Any, rows: list[_Row], cached: int, cache: Any) -> list[NDArray[np.float64]]:
    """The scores of the tails of each row. cache: the KV cache of the `cached` tokens before all, or None."""
    import numpy as np
    import torch

    length, width = max(len(row.prompt) for row in rows), max(len(row.nodes) for row in rows) - 1
    ids, positions = np.zeros((2, len(rows), length + width), np.int64)
    visible = np.zeros((len(rows), length + width, cached + length + width), bool)
    for i, row in enumerate(rows):
        _lay_out(row, length, cached, ids[i], positions[i], visible[i])
    if cache is not None:
        cache = copy.deepcopy(cache)
        cache.batch_repeat_interleave(len(rows))
    device = model.device
    with torch.inference_mode():
        logits = model(
            torch.tensor(ids, device=device),
            attention_mask=_mask(model, visible, positions),
            position_ids=torch.tensor(positions, device=device),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=width + 1,
        ).logits.float()  # (rows, width + 1, vocabulary)
        totals = logits.logsumexp(-1)
        steps = [  # (row, node, next token), tail by tail
            (i, row.nodes[tail[:k]], tail[k])
            for i, row in enumerate(rows)
            for tail in row.tails
            for k in range(len(tail))
        ]
        where = torch.tensor(steps, dtype=torch.long, device=device).reshape(-1, 3).unbind(1)
        values = iter((logits[where] - totals[where[:2]]).double().tolist())
    return [np.array([sum(itertools.islice(values, len(tail))) for tail in row.tails]) for row in rows]


def _lay_out(
    row: _Row, length: int, cached: int, ids: NDArray[Any], positions: NDArray[Any], visible: NDArray[Any]
) -> None:
    """Fill in a row: padding, its prompt up to `length`, then the nodes of its tails.

    ids, positions: (tokens,). visible: (tokens, cached + tokens), True where a token sees another one.
    """
    import numpy as np

    start, (own, nodes) = length - len(row.prompt), (visible[:, cached:], len(row.nodes) - 1)
    ids[start:length], positions[start:length] = row.prompt, cached + np.arange(len(row.prompt))
    visible[start : length + nodes, :cached] = True
    own[start:length, start:length] = np.tri(len(row.prompt), dtype=bool)
    own[length : length + nodes, start:length] = True
    for beginning, node in list(row.nodes.items())[1:]:
        at = length + node - 1
        ids[at], positions[at] = beginning[-1], cached + len(row.prompt) + len(beginning) - 1
        own[at, [length + row.nodes[beginning[:k]] - 1 for k in range(1, len(beginning) + 1)]] = True
    np.fill_diagonal(own, True)  # a softmax over nothing, in the padding, would be NaN


def _window(model: Any) -> int:
    """The number of tokens that layers with a sliding window see, or 0 for a model without such layers."""
    return getattr(model.config.get_text_config(), "sliding_window", None) or 0


def _mask(model: Any, visible: NDArray[Any], positions: NDArray[Any]) -> Any:
    """The mask to add to the attention: 0 where a token is seen, elsewhere the lowest number.

    Layers with a sliding window see the tokens within it; a model with both kinds of layers takes a dict.
    """
    import torch

    def added(seen: NDArray[Any]) -> Any:
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=model.device)
        hidden = torch.tensor(~seen, device=model.device)
        return mask.masked_fill_(hidden, torch.finfo(model.dtype).min)[:, None]

    if not (window := _window(model)):
        return added(visible)
    near = added(visible & (positions[:, :, None] - positions[:, None] < window))
    if "full_attention" not in (getattr(model.config.get_text_config(), "layer_types", None) or ()):
        return near
    return {"full_attention": added(visible), "sliding_attention": near}
