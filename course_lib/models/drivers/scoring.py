"""Compute log-probabilities of given texts, to measure a model or to choose among labels.

A pass is one call of the model. A KV cache holds the keys and values that a model has computed for earlier
tokens. Logits are a model's scores of all tokens as the next one.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CELLS_PER_PASS = 2**25  # a limit on memory: the numbers in the mask or in the logits of one pass
# The texts of a pass are joined to one row. A longer row needs fewer passes, but attention compares each of
# its tokens with all others.
CPU_TOKENS_PER_PASS, GPU_TOKENS_PER_PASS = 256, 4096
SHORT_PREFIX = 32  # tokens; reading fewer again takes less time than an additional pass

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


class _Tree:
    """Tails (continuations) to score after one prompt.

    Beginnings that several tails share are read once, so the tails form a tree (Cai et al. 2024,
    arXiv:2401.10774): a node for every beginning of a tail but the whole tail. Node 0 is the empty one, which
    is the prompt's last token.

    ids, depths: (nodes - 1,), each node's token and its distance from the prompt. visible: (nodes - 1,
    nodes - 1), True where a node sees another one. steps: (node that is read, token after it), tail by tail.
    """

    def __init__(self, tails: Sequence[Tokens]) -> None:
        import numpy as np

        beginnings = sorted(dict.fromkeys(t[:k] for t in tails for k in range(1, len(t))), key=len)
        nodes = {beginning: i for i, beginning in enumerate([(), *beginnings])}
        self.lengths = list(map(len, tails))
        self.ids = np.array([beginning[-1] for beginning in beginnings], np.int64)
        self.depths = np.array(list(map(len, beginnings)), np.int64)
        self.visible = np.eye(len(beginnings), dtype=bool)
        for i, beginning in enumerate(beginnings):
            if parent := nodes[beginning[:-1]]:
                self.visible[i] |= self.visible[parent - 1]
        steps = [(nodes[tail[:k]], tail[k]) for tail in tails for k in range(len(tail))]
        self.steps = np.array(steps, np.int64).reshape(-1, 2)


class _Row(NamedTuple):
    """A prompt, without the beginning that all have in common, and the tails to score after it."""

    prompt: Sequence[int]
    tree: _Tree

    @property
    def tokens(self) -> int:
        """The number of tokens that are read."""
        return len(self.prompt) + len(self.tree.ids)

    def lay_out(self, cached: int, ids: NDArray[Any], positions: NDArray[Any], visible: NDArray[Any]) -> None:
        """Fill in the prompt, then the nodes of its tails.

        ids, positions: (tokens,). visible: (tokens, tokens), True where a token sees another one.
        """
        import numpy as np

        length = len(self.prompt)
        ids[:length], ids[length:] = self.prompt, self.tree.ids
        positions[:length], positions[length:] = np.arange(length), length - 1 + self.tree.depths
        positions += cached
        visible[:length, :length] = np.tri(length, dtype=bool)
        visible[length:, :length] = True
        visible[length:, length:] = self.tree.visible


@dataclass(frozen=True)
class Prefix:
    """The beginning that prompts have in common, and its KV cache, which is None without such a beginning."""

    ids: Sequence[int] = ()
    cache: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, model: Any, prompts: Sequence[Sequence[int]]) -> Prefix:
        """Read the beginning that prompts have in common, where that takes less time than it saves."""
        import torch

        # A model with a sliding window attends to the latest tokens only, and its cache forgets the others.
        ids = [] if _window(model) else _common_prefix(prompts)
        if len(ids) * (len(prompts) - 1) < SHORT_PREFIX:
            return cls()
        with torch.inference_mode():
            row = torch.tensor([ids], device=model.device)
            return cls(ids, model(row, use_cache=True, logits_to_keep=1).past_key_values)

    def begins(self, prompt: Sequence[int]) -> bool:
        """Tell whether a prompt begins with it and has at least one more token."""
        return len(prompt) > len(self.ids) and list(prompt[: len(self.ids)]) == list(self.ids)


def score(
    model: Any,
    prompts: Sequence[Sequence[int]],
    tails: Sequence[Sequence[Sequence[int]]],
    prefix: Prefix | None = None,
) -> list[NDArray[np.float64]]:
    """The log-probability of every tail (a continuation) of each prompt, summed over its tokens.

    An empty tail has 0. The prompts' common prefix goes through the model once, or not at all where they
    begin with `prefix`, of the same model. The rest of a prompt and all of its tails go through in one pass,
    in which a tail sees its prompt and itself. Raises ValueError for an empty prompt.
    """
    if not all(prompts):
        raise ValueError(f"prompt {[bool(p) for p in prompts].index(False)} has no token")
    if prefix is None or not all(map(prefix.begins, prompts)):
        prefix = Prefix.of(model, prompts)
    whole = [tuple(map(tuple, row)) for row in tails]
    trees = {row: _Tree(row) for row in dict.fromkeys(whole)}
    rows = [_Row(p[len(prefix.ids) :], trees[t]) for p, t in zip(prompts, whole, strict=True)]
    scores: list[NDArray[np.float64]] = []
    for batch in _batches(model, rows, len(prefix.ids)):
        scores += _score_batch(model, batch, prefix)
    return scores


def _common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix, cut so that each prompt keeps at least one token; [] for a single prompt."""
    if len(prompts) < 2:
        return []
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    return [column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns)]


def _batches(model: Any, rows: Sequence[_Row], cached: int) -> Iterator[list[_Row]]:
    """Cut the rows into batches for one pass each; one row is always allowed. cached: tokens before all."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    most = CPU_TOKENS_PER_PASS if model.device.type == "cpu" else GPU_TOKENS_PER_PASS
    batch: list[_Row] = []
    for row in rows:
        bigger = [*batch, row]
        length, read = sum(row.tokens for row in bigger), sum(len(row.tree.ids) + 1 for row in bigger)
        cells = max(length * (cached + length), read * vocabulary)
        if batch and (length > most or cells > CELLS_PER_PASS):
            yield batch
            bigger = [row]
        batch = bigger
    if batch:
        yield batch


def _score_batch(model: Any, rows: Sequence[_Row], prefix: Prefix) -> list[NDArray[np.float64]]:
    """The scores of the tails of each row, all read in one pass."""
    import numpy as np
    import torch

    cached, length = len(prefix.ids), sum(row.tokens for row in rows)
    ids, positions = np.zeros((2, length), np.int64)
    visible = np.zeros((length, cached + length), bool)
    visible[:, :cached] = True
    steps, begin = [], 0  # steps: (token that is read, token after it)
    for row in rows:
        part = slice(begin, begin := begin + row.tokens)
        row.lay_out(cached, ids[part], positions[part], visible[part, cached:][:, part])
        steps.append(np.add(row.tree.steps, (part.start + len(row.prompt) - 1, 0)))
    device = model.device
    where, after = torch.tensor(np.concatenate(steps), device=device).unbind(1)
    read, where = where.unique(return_inverse=True)
    with torch.inference_mode():
        logits = model(
            torch.tensor(ids[None], device=device),
            attention_mask=_mask(model, visible[None], positions[None]),
            position_ids=torch.tensor(positions[None], device=device),
            past_key_values=copy.deepcopy(prefix.cache),  # a copy, because the model appends to it
            use_cache=prefix.cache is not None,
            logits_to_keep=read,
        ).logits  # (1, tokens that are read, vocabulary)
        logs = logits[0].float().log_softmax(-1)
        values = iter(logs[where, after].double().tolist())
    return [np.array([sum(itertools.islice(values, n)) for n in row.tree.lengths]) for row in rows]


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
