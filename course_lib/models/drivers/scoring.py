"""Compute log-probabilities of given texts: the basis of perplexity and of choosing among labels."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


def score(
    model: Any, prompts: Sequence[Sequence[int]], tails: Sequence[Sequence[int]], rows: int
) -> NDArray[np.float64]:
    """The log-probability of every tail (a continuation) after every prompt, of shape (prompts, tails).

    An empty tail has 0. The prompts' common prefix goes through the model once, and so does the rest of each
    prompt. The KV cache is then copied for each tail, and the tails of a batch of prompts go through in one
    pass. rows: the maximum number of (prompt, tail) pairs in a pass. The tails of a prompt are never split,
    so a pass is larger where there are more tails than `rows`. Raises ValueError for an empty prompt.
    """
    import numpy as np

    scores = np.zeros((len(prompts), len(tails)))
    filled = [j for j, tail in enumerate(tails) if tail]
    if not filled or not prompts:
        return scores
    if not all(prompts):
        raise ValueError(f"prompt {[bool(p) for p in prompts].index(False)} has no token")
    prefix = _common_prefix(prompts)
    cache = _prefill(model, prefix) if prefix else None
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    step = max(1, rows // len(filled))
    for start in range(0, len(order), step):
        batch = order[start : start + step]
        scores[np.ix_(batch, filled)] = _score_batch(
            model, [prompts[i][len(prefix) :] for i in batch], [tails[j] for j in filled], len(prefix), cache
        )
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


def _score_batch(
    model: Any, prompts: list[Sequence[int]], tails: list[Sequence[int]], cached: int, cache: Any
) -> NDArray[np.float64]:
    """The scores (P, T) of P prompts and T tails. L and W: the lengths of the longest prompt and tail.

    cache: the KV cache of the `cached` tokens that come before every prompt, or None.
    """
    import torch

    device, length, width = model.device, max(map(len, prompts)), max(map(len, tails))
    ids = torch.tensor([[0] * (length - len(p)) + list(p) for p in prompts], device=device)  # (P, L)
    mask = torch.tensor(
        [[1] * cached + [0] * (length - len(p)) + [1] * len(p) for p in prompts], device=device
    )
    tail_ids = torch.tensor([list(t) + [0] * (width - len(t)) for t in tails], device=device)  # (T, W)
    tail_mask = torch.tensor([[1.0] * len(t) + [0.0] * (width - len(t)) for t in tails], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, cached:]
    with torch.inference_mode():
        if cache is not None:
            cache = copy.deepcopy(cache)
            cache.batch_repeat_interleave(len(prompts))
        output = model(
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        first = torch.log_softmax(output.logits[:, -1].float(), -1)[:, tail_ids[:, 0]]  # (P, T)
        if width == 1:
            return first.double().cpu().numpy()
        cache, pairs = output.past_key_values, len(prompts) * len(tails)
        cache.batch_repeat_interleave(len(tails))
        prompt_mask = mask.repeat_interleave(len(tails), 0)  # (P * T, cached + L)
        ones = torch.ones(pairs, width - 1, dtype=mask.dtype, device=device)
        positions = prompt_mask.sum(1)[:, None] + torch.arange(width - 1, device=device)
        logits = model(
            tail_ids[:, :-1].repeat(len(prompts), 1),
            attention_mask=torch.cat([prompt_mask, ones], 1),
            position_ids=positions,
            past_key_values=cache,
        ).logits
        targets = tail_ids[:, 1:].repeat(len(prompts), 1)[..., None]
        rest = torch.log_softmax(logits.float(), -1).gather(2, targets)[..., 0]  # (P * T, W - 1)
        rest = (rest.view(len(prompts), len(tails), -1) * tail_mask[:, 1:]).sum(-1)
    return (first + rest).double().cpu().numpy()
