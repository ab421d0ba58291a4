"""Sample reproducibly: with one seed, a prompt gets the same text alone and in a batch.

Each row of a batch has its own random number generator.
"""

from __future__ import annotations

from typing import Any

from course_lib.models.schema.generation import Generation


def logits_processors(options: Generation, rows: int) -> Any:
    """The repetition penalty, temperature, top-k, top-p and Gumbel noise, for logits (rows, vocabulary).

    Logits are the scores of all tokens; their softmax is the distribution to sample from. The token with the
    largest sum of logit and Gumbel noise is such a sample (Gumbel 1954; Maddison et al. 2014,
    arXiv:1411.0030), so transformers only has to take the highest score.
    """
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    processors = LogitsProcessorList()
    if options.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.temperature > 0:
        processors.append(TemperatureLogitsWarper(options.temperature))
        if options.top_k:
            processors.append(TopKLogitsWarper(options.top_k))
        if options.top_p < 1:
            processors.append(TopPLogitsWarper(options.top_p))
        processors.append(gumbel_noise(options.seed, rows))
    return processors


def gumbel_noise(seed: int, rows: int) -> Any:
    """A processor that adds Gumbel noise to logits (rows, vocabulary), with a generator for each row."""
    import torch
    from transformers import LogitsProcessor

    class GumbelNoise(LogitsProcessor):
        def __init__(self) -> None:
            self.generators = [torch.Generator().manual_seed(seed) for _ in range(rows)]

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            uniform = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators])
            return scores - torch.log(-torch.log(uniform.clamp_min(1e-20))).to(scores)

    return GumbelNoise()
