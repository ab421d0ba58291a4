"""Compute log-probabilities of given texts: the basis of perplexity and of choosing among labels."""

from __future__ import annotations

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

    An empty tail has 0. Each prompt is read once; its KV cache is repeated for all tails, which are read in
    one pass. rows: the maximum number of (prompt, tail) pairs in a pass; the tails of a prompt stay together.
    """
    import numpy as np

    scores = np.zeros((len(prompts), len(tails)))
    filled = [j for j, tail in enumerate(tails) if tail]
    if not filled or not prompts:
        return scores
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    step = max(1, rows // len(filled))
    for start in range(0, len(order), step):
        batch = order[start : start + step]
        scores[np.ix_(batch, filled)] = _score_batch(
            model, [prompts[i] for i in batch], [tails[j] for j in filled]
        )
    return scores


def _score_batch(model: Any, prompts: list[Sequence[int]], tails: list[Sequence[int]]) -> Any:
    """The scores (P, T) of P prompts and T tails. L and W: the lengths of the longest prompt and tail."""
    import torch

    device, length, width = model.device, max(map(len, prompts)), max(map(len, tails))
    ids = torch.tensor([[0] * (length - len(p)) + list(p) for p in prompts], device=device)  # (P, L)
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=device)
    tail_ids = torch.tensor([list(t) + [0] * (width - len(t)) for t in tails], device=device)  # (T, W)
    tail_mask = torch.tensor([[1.0] * len(t) + [0.0] * (width - len(t)) for t in tails], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        output = model(ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        first = torch.log_softmax(output.logits[:, -1].float(), -1)[:, tail_ids[:, 0]]  # (P, T)
        if width == 1:
            return first.double().cpu().numpy()
        cache, pairs = output.past_key_values, len(prompts) * len(tails)
        cache.batch_repeat_interleave(len(tails))
        prompt_mask = mask.repeat_interleave(len(tails), 0)  # (P * T, L)
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
