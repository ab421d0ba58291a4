"""How probable a model finds texts that are given to it: the basis of perplexity and of choosing among labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def log_probabilities(model: Any, ids: Sequence[int]) -> list[float]:
    """Natural log-probability of ids[1:], each given all before it."""
    import torch

    if len(ids) < 2:
        return []
    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device)).logits[0, :-1].float()
    chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:], device=model.device)[:, None])
    values: list[float] = chosen[:, 0].tolist()
    return values


def score(
    model: Any, prompts: Sequence[Sequence[int]], tails: Sequence[Sequence[int]], rows: int
) -> NDArray[np.float64]:
    """Log-probability of every tail after every prompt: shape (prompts, tails). An empty tail has probability 1.

    Each prompt is read once; its KV cache is repeated for all tails, which are then read in one pass.
    `rows`: prompts times tails in that pass, at most (one prompt's tails stay together).
    """
    import numpy as np

    out = np.zeros((len(prompts), len(tails)))
    filled = [j for j, t in enumerate(tails) if t]
    if not filled or not prompts:
        return out
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    step = max(1, rows // len(filled))
    for at in range(0, len(order), step):
        chosen = order[at : at + step]
        out[np.ix_(chosen, filled)] = _pass(model, [prompts[i] for i in chosen], [tails[j] for j in filled])
    return out


def _pass(model: Any, prompts: list[Sequence[int]], tails: list[Sequence[int]]) -> Any:
    import torch

    device, longest, widest = model.device, max(map(len, prompts)), max(map(len, tails))
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    ends = torch.tensor([list(t) + [0] * (widest - len(t)) for t in tails], device=device)
    counts = torch.tensor([[1.0] * len(t) + [0.0] * (widest - len(t)) for t in tails], device=device)
    with torch.inference_mode():
        read = model(
            ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        first = torch.log_softmax(read.logits[:, -1].float(), -1)[:, ends[:, 0]]  # (prompts, tails)
        if widest == 1:
            return first.double().cpu().numpy()
        read.past_key_values.batch_repeat_interleave(len(tails))
        rows = len(prompts) * len(tails)
        after = mask.repeat_interleave(len(tails), 0)
        inner = torch.cat([after, torch.ones(rows, widest - 1, dtype=after.dtype, device=device)], 1)
        places = mask.sum(1).repeat_interleave(len(tails))[:, None] + torch.arange(widest - 1, device=device)
        logits = model(
            ends[:, :-1].repeat(len(prompts), 1),
            attention_mask=inner,
            position_ids=places,
            past_key_values=read.past_key_values,
        ).logits
        rest = torch.log_softmax(logits.float(), -1).gather(
            2, ends[:, 1:].repeat(len(prompts), 1)[..., None]
        )[..., 0]
        rest = (rest.view(len(prompts), len(tails), -1) * counts[:, 1:]).sum(-1)
    return (first + rest).double().cpu().numpy()
