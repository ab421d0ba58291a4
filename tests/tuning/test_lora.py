"""LoRA by hand equals peft's: outputs, gradients and merged weights; it changes the named layers alone."""

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.tuning.lora import LoRALinear, inject, merge

TARGETS = ["q_proj", "down_proj"]


class Holder(nn.Module):
    """A model that holds one linear layer, so that peft can find it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def both(inputs, outputs, rank, alpha, bias, seed):
    """One layer with random A and B, by hand and by peft, in 64 bits (in 32, cancelling sums round apart)."""
    torch.manual_seed(seed)
    linear = nn.Linear(inputs, outputs, bias)
    ours = LoRALinear(copy.deepcopy(linear), rank, alpha)
    nn.init.normal_(ours.B)
    theirs = get_peft_model(Holder(linear), LoraConfig(r=rank, lora_alpha=alpha, target_modules=["layer"]))
    layer = theirs.base_model.model.layer
    layer.lora_A["default"].weight.data.copy_(ours.A)
    layer.lora_B["default"].weight.data.copy_(ours.B)
    return ours.double(), theirs.double(), layer


def same(a, b):
    """Within 1e-6 of the largest value."""
    return torch.allclose(a, b, rtol=0, atol=1e-6 * max(1.0, float(b.detach().abs().max())))


@settings(max_examples=40)
@example(1, 1, 7, 26.0, True, 0)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 12),
    st.floats(0.1, 64),
    st.booleans(),
    st.integers(0, 9),
)
def test_a_layer_is_that_of_peft(inputs, outputs, rank, alpha, bias, seed):
    ours, theirs, layer = both(inputs, outputs, rank, alpha, bias, seed)
    x = torch.randn(2, 3, inputs, dtype=torch.float64)
    result, expected = ours(x), theirs(x)
    assert same(result, expected)
    (result**2).sum().backward()
    (expected**2).sum().backward()
    assert same(ours.A.grad, layer.lora_A["default"].weight.grad) and same(
        ours.B.grad, layer.lora_B["default"].weight.grad
    )
    assert all(p.grad is None for p in ours.base.parameters())
    merged, merged_model = ours.merged(), theirs.merge_and_unload().layer
    assert same(merged.weight, merged_model.weight) and same(merged(x), result)
    assert (merged.bias is None) == (not bias) and (not bias or torch.equal(merged.bias, merged_model.bias))
    assert torch.linalg.matrix_rank(ours.delta().detach(), rtol=1e-4) <= min(rank, inputs, outputs)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8))
def test_a_new_layer_changes_nothing_and_can_learn(inputs, outputs, rank):
    linear = nn.Linear(inputs, outputs)
    layer, x = LoRALinear(linear, rank, 16), torch.randn(4, inputs)
    assert torch.equal(layer(x), linear(x)) and not layer.delta().any()
    layer(x).sum().backward()
    assert layer.B.grad.any() and not layer.A.grad.any()  # B moves first: A's gradient is zero while B is
    assert 0 < layer.A.abs().max() <= inputs**-0.5 + 1e-6


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


def test_what_is_named_is_replaced_and_all_else_is_frozen():
    model, ids = load("haneul-300k").model, torch.arange(40)[None]
    before = logits(model, ids)
    layers = inject(model, TARGETS, rank=2, alpha=4)
    assert {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, LoRALinear)} == set(
        TARGETS
    )
    assert (
        len(layers) == 4 == sum(isinstance(m, LoRALinear) for m in model.modules())
    )  # two in each of two layers
    learning = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"A", "B"} and torch.equal(logits(model, ids), before)


def test_one_model_learns_as_the_one_of_peft_and_merges_into_the_same():
    ours, theirs, ids = load("haneul-300k").model, load("haneul-300k").model, torch.arange(40)[None]
    inject(ours, TARGETS, rank=3, alpha=5)
    adapted = get_peft_model(theirs, LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS))
    for name, layer in ours.named_modules():
        if isinstance(layer, LoRALinear):
            twin = adapted.base_model.model.get_submodule(name)
            twin.lora_A["default"].weight.data.copy_(layer.A)
    for model in (ours, adapted):
        trainable = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(trainable, lr=0.5)
        for _ in range(3):
            model(ids, labels=ids).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    outputs = logits(ours, ids)
    assert torch.allclose(outputs, logits(adapted, ids), atol=1e-4)
    assert (outputs - logits(load("haneul-300k").model, ids)).abs().max() > 0.01
    merged_model, unloaded = merge(ours), adapted.merge_and_unload()
    assert not any(isinstance(m, LoRALinear) for m in merged_model.modules())
    assert torch.allclose(logits(merged_model, ids), outputs, atol=1e-4)
    weights = unloaded.state_dict()
    assert all(
        torch.allclose(weight, weights[name], atol=1e-6) for name, weight in merged_model.state_dict().items()
    )


def test_an_unknown_target_is_refused_with_the_names_that_are_there_and_nothing_is_changed():
    model = load("haneul-300k").model
    before = [p.requires_grad for p in model.parameters()]
    with pytest.raises(
        CourseError,
        match=r"called 'query'(.|\n)*q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
    ):
        inject(model, ["q_proj", "query"], rank=2, alpha=4)
    assert [p.requires_grad for p in model.parameters()] == before
    assert not any(isinstance(m, LoRALinear) for m in model.modules())


@pytest.mark.parametrize("rank", [0, -1])
def test_no_rank_is_refused(rank):
    with pytest.raises(CourseError, match=f"rank={rank}: the rank of an adapter is at least 1"):
        inject(load("haneul-300k").model, ["q_proj"], rank=rank, alpha=4)
