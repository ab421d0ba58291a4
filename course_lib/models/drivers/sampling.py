"""Drawing tokens so that one seed gives one text, alone or in a batch: each row has its own random numbers."""

from __future__ import annotations

from typing import Any

from course_lib.models.schema import Generation


def processors(how: Generation, rows: int) -> Any:
    """What is done to the logits before the largest is taken: penalty, temperature, top-k, top-p, then the draw itself.

    The Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030): the largest of logit + Gumbel noise is a
    draw from the softmax. So greedy search with noise samples, and row i of a batch draws what it would draw alone.
    """
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    out = LogitsProcessorList()
    if how.repetition_penalty != 1:
        out.append(RepetitionPenaltyLogitsProcessor(how.repetition_penalty))
    if how.temperature > 0:
        out.append(TemperatureLogitsWarper(how.temperature))
        if how.top_k:
            out.append(TopKLogitsWarper(how.top_k))
        if how.top_p < 1:
            out.append(TopPLogitsWarper(how.top_p))
        out.append(gumbel_noise(how.seed, rows))
    return out


def gumbel_noise(seed: int, rows: int) -> Any:
    """Adds Gumbel noise to logits of shape (rows, vocabulary), each row from a generator of its own with the same seed."""
    import torch
    from transformers import LogitsProcessor

    class Noise(LogitsProcessor):
        def __init__(self) -> None:
            self.generators = [torch.Generator().manual_seed(seed) for _ in range(rows)]

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
            return scores - torch.log(-torch.log(uniform.clamp_min(1e-20))).to(scores)

    return Noise()
