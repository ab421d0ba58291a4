"""Double a model's width without changing its outputs (Net2Net, Chen et al. 2015, arXiv:1511.05641).

The training of haneul-4m starts from haneul-1m in this way.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def double_width(small: LlamaForCausalLM, noise: float = 0.3, seed: int = 0) -> LlamaForCausalLM:
    """Return a model with twice the hidden size, heads and intermediate size, and the same outputs.

    Every unit (a number in a hidden vector) gets a copy. The weights from a unit are split unevenly between
    it and its copy, so that training can make the two different. noise: the unevenness, in standard
    deviations of the weights.
    """
    c = small.config
    config = LlamaConfig.from_dict(
        c.to_dict()
        | {
            "hidden_size": 2 * c.hidden_size,
            "intermediate_size": 2 * c.intermediate_size,
            "num_attention_heads": 2 * c.num_attention_heads,
            "num_key_value_heads": 2 * c.num_key_value_heads,
        }
    )
    big, generator = LlamaForCausalLM(config), torch.Generator().manual_seed(seed)
    old, new = small.state_dict(), big.state_dict()
    for name, w in old.items():
        if w.ndim == 1:
            # The output layer, whose weights are those of the tokens' vectors, adds up both copies of a unit,
            # so the factors of the last normalisation are halved.
            grown = torch.cat([w, w]) * (0.5 if name == "model.norm.weight" else 1.0)
        elif "embed_tokens" in name or "lm_head" in name:
            grown = torch.cat([w, w], 1)
        else:
            rows = torch.cat([w, w], 0)  # a unit and its copy compute the same sum
            delta = noise * rows.std() * torch.randn(rows.shape, generator=generator)
            grown = torch.cat([rows / 2 + delta, rows / 2 - delta], 1)  # over two copies of each input
        new[name].copy_(grown)
    big.load_state_dict(new)
    return big
