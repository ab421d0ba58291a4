"""Continuations that are scored together have the scores of separate passes, whatever stands beside them."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from course_lib.models import load
from course_lib.models.drivers import scoring
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.scoring import _common_prefix

TAILS = ["account_closing", "card", "card_lost", "card_not_arrived", "fee_dispute", ""]
COMMON = "You label messages of a bank.\n" * 5
PROMPTS = [
    [f"{COMMON}Message: {m}\nLabel:" for m in ("lost card", "x", "how do I close my account please", "fee")],
    [COMMON, COMMON],  # nothing but the beginning
    [COMMON, f"{COMMON}Message: fee"],  # one is the beginning of the other
    ["lost card", "Fee?"],
]
SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
}
SIZES |= {"num_key_value_heads": 1, "num_hidden_layers": 2, "head_dim": 16, "initializer_range": 0.5}
LAYERS = ["sliding_attention", "full_attention"]
ARCHITECTURES = [
    LlamaForCausalLM(LlamaConfig(**SIZES)),
    MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5)),
    Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, sliding_window=5, layer_types=LAYERS)),
]


@pytest.mark.parametrize("prompts", PROMPTS)
def test_together_and_alone_the_scores_are_the_same(prompts):
    model = load("haneul-300k")
    alone = np.vstack([model.score([prompt], TAILS) for prompt in prompts])
    assert np.allclose(model.score(prompts, TAILS), alone, atol=1e-3)
    assert len(set(alone[:, 0])) == len(set(prompts))


@pytest.mark.parametrize("model", ARCHITECTURES, ids=lambda model: model.config.model_type)
@pytest.mark.parametrize("limit", [1, 10**6], ids=["a prompt a pass", "one pass"])
def test_scores_are_those_of_each_text_read_alone(model, limit, monkeypatch):
    """Also beyond a sliding window, and where continuations begin alike or one begins another."""
    monkeypatch.setattr(scoring, "CELLS_PER_PASS", limit)
    model = model.eval()
    prompts = [[1, 2, 3, 4, 5, 6, *rest] for rest in ([7], [8, 9, 10, 11, 12, 13, 14], [7, 7, 7])]
    tails = [[[20, 21, 22], [20, 21], [20, 23, 24, 25], []], [[30]], [[21, 22, 23, 24, 25, 26, 27, 28], [5]]]
    found = scoring.score(model, prompts, tails)
    assert [len(row) for row in found] == [4, 1, 2]
    for prompt, row, values in zip(prompts, tails, found, strict=True):
        for tail, value in zip(row, values, strict=True):
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + tail])).logits[0].log_softmax(-1)
            steps = range(len(prompt) - 1, len(prompt) + len(tail) - 1)
            alone = sum(float(logits[i, token]) for i, token in zip(steps, tail, strict=True))
            assert value == pytest.approx(alone, abs=1e-3)


def test_each_prompt_may_have_its_own_continuations():
    model, prompts = load("haneul-300k"), PROMPTS[0]
    own = [TAILS[:2], TAILS[2:], [], TAILS[1:3]]
    found = model.score_each(prompts, own)
    together = model.score(prompts, TAILS)
    for row, values, scores in zip(own, found, together, strict=True):
        assert np.allclose(values, [scores[TAILS.index(text)] for text in row], atol=1e-3)
    with pytest.raises(InputError, match="4 prompts, 1 lists of texts"):
        model.score_each(prompts, [TAILS])


def tokens_read(engine, call):
    """Return how many tokens the model reads in each pass of a call."""
    passes: list[int] = []
    hook = engine.model.register_forward_pre_hook(
        lambda model, args, kwargs: passes.append(args[0].numel()), with_kwargs=True
    )
    try:
        call()
    finally:
        hook.remove()
    return passes


def test_a_beginning_that_was_read_is_not_read_again():
    model, prompts, texts = load("haneul-300k"), PROMPTS[0], [TAILS] * 4
    prefix = model.read_prefix(prompts[:2])
    assert len(prefix.ids) > 30 and prefix.cache.get_seq_length() == len(prefix.ids)
    expected = np.vstack([model.score([prompt], TAILS) for prompt in prompts])
    for _ in range(2):  # the first use changes nothing
        assert np.allclose(model.score_each(prompts, texts, prefix=prefix), expected, atol=1e-3)
    without = tokens_read(model, lambda: model.score_each(prompts[:1], texts[:1]))
    with_it = tokens_read(model, lambda: model.score_each(prompts[:1], texts[:1], prefix=prefix))
    assert sum(without) - sum(with_it) == len(prefix.ids)
    other = ["Another beginning.", COMMON]  # the second has no token after the prefix
    alone = np.vstack([model.score([prompt], TAILS) for prompt in other])
    assert np.allclose(model.score_each(other, texts[:2], prefix=prefix), alone, atol=1e-3)


def test_a_beginning_too_short_to_pay_is_read_with_each_prompt():
    model = load("haneul-300k")
    assert model.read_prefix(["lost card", "Fee?"]).cache is None
    passes = tokens_read(model, lambda: model.score(["lost card", "Fee?"], TAILS))
    assert len(passes) == 1


def test_a_prompt_without_a_token_is_refused():
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        scoring.score(None, [[1], []], [[[2]], [[2]]])


def test_the_common_beginning_leaves_a_token_of_every_prompt():
    assert _common_prefix([[1, 2, 3], [1, 2, 4]]) == [1, 2]
    assert _common_prefix([[1, 2], [1, 2], [1, 2, 3]]) == [1]
    assert _common_prefix([[1, 2, 3]]) == [] and _common_prefix([[5], [5]]) == []
