"""The optimiser: master weights, learning-rate schedule, checkpoints, and the memory that training holds."""

import itertools

import pytest
import torch
from safetensors.torch import load_file

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.tuning.config import LoRATrainingConfig
from course_lib.tuning.cost import activation_bytes, adapter_weights, training_bytes
from course_lib.tuning.dataset import collate, tokenize
from course_lib.tuning.optimiser import MixedPrecisionAdamW, defer_interrupt
from course_lib.tuning.peft_model import add_lora, loss_of, seeded
from tests.tuning.conftest import EXAMPLES


def one(value, dtype=torch.float32):
    """A model of one weight, whose gradient is 1."""
    model = torch.nn.Linear(1, 1, bias=False).to(dtype)
    model.weight.data.fill_(value)
    return model


def step(optimiser, model, x=1.0):
    model(torch.full((1, 1), x, dtype=model.weight.dtype)).sum().backward()
    optimiser.step()


def test_steps_too_small_for_16_bits_add_up():
    model = one(1.0, torch.bfloat16)
    optimiser = MixedPrecisionAdamW(model, total_steps=10**6, learning_rate=1e-4, warmup_steps=0)
    step(optimiser, model)
    assert model.weight.item() == 1.0  # the nearest number below 1 that has 16 bits is 0.996
    for _ in range(99):
        step(optimiser, model)
    assert optimiser.master_weights["weight"].item() == pytest.approx(
        0.99, abs=1e-4
    ) and model.weight.item() == pytest.approx(0.99, abs=2e-3)


def test_the_rate_rises_and_falls():
    """AdamW's steps are as long as the rate where the gradient is always the same."""
    model, steps, places = one(1.0), 20, [1.0]
    optimiser = MixedPrecisionAdamW(model, total_steps=steps, learning_rate=1e-3, warmup_steps=5)
    for _ in range(steps):
        step(optimiser, model)
        places.append(model.weight.item())
    lengths = [before - after for before, after in itertools.pairwise(places)]
    expected = [1e-3 * min((i + 1) / 5, (steps - i) / steps) for i in range(steps)]
    assert lengths == pytest.approx(expected, abs=1e-6) and optimiser.steps_done == steps


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_gradients_that_are_none_make_no_step(wrong):
    model = one(1.0)
    optimiser = MixedPrecisionAdamW(model, total_steps=10, learning_rate=1e-3, warmup_steps=0)
    step(optimiser, model)
    before = model.weight.item()
    with pytest.raises(FloatingPointError, match=r"gradient norm is (inf|nan) at step 2"):
        step(optimiser, model, wrong)
    assert (model.weight.item(), optimiser.steps_done, model.weight.grad) == (before, 1, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_holds_everything(tmp_path, dtype):
    file, settings = (
        tmp_path / "new folder" / "checkpoint",
        {"total_steps": 20, "learning_rate": 1e-2, "warmup_steps": 3, "weight_decay": 0.1},
    )
    models = [one(1.0, dtype) for _ in range(2)]
    through, stopped = (MixedPrecisionAdamW(model, **settings) for model in models)
    for optimiser, model in ((through, models[0]), (stopped, models[1])):
        for x in (1.0, -2.0, 0.5):
            step(optimiser, model, x)
    stopped.save(file, {"of": "mine"}, {"losses": torch.tensor([1.0, 2.0])})
    model = one(-7.0, dtype)
    again = MixedPrecisionAdamW(model, **settings)
    assert again.resume(file)["losses"].tolist() == [1.0, 2.0] and again.steps_done == 3
    for x in (3.0, -1.0):
        step(through, models[0], x)
        step(again, model, x)
    assert torch.equal(model.weight, models[0].weight) and torch.equal(
        again.master_weights["weight"], through.master_weights["weight"]
    )
    with pytest.raises(CourseError, match=f"{file} is damaged"):  # of another shape
        MixedPrecisionAdamW(torch.nn.Linear(2, 3), **settings).resume(file)


def test_a_block_that_is_not_to_be_interrupted_keeps_its_own_error():
    with pytest.raises(ValueError, match="mine"), defer_interrupt():
        raise ValueError("mine")


def test_what_is_drawn_depends_on_the_seed_and_the_step_alone():
    def drawn(seed, step):
        with seeded(seed, step):
            return torch.rand(4).tolist()

    torch.manual_seed(5)
    draws, after = [drawn(*of) for of in ((0, 0), (0, 1), (1, 0), (1, 1))], torch.rand(3).tolist()
    assert len(set(map(tuple, draws))) == 4 and drawn(0, 1) == draws[1]
    torch.manual_seed(5)
    assert torch.rand(3).tolist() == after  # and whoever draws beside it draws what he would have drawn


# -- what it takes


def bytes_of(tensors):
    return sum(t.nbytes for t in tensors)


def test_the_rule_for_memory_is_what_training_holds(tmp_path):
    """In bfloat16: weights, gradients and the optimiser's copies, counted in what is there."""
    engine = load("haneul-300k", precision="bfloat16")
    shapes = {
        n: tuple(m.weight.shape)
        for n, m in engine.model.named_modules()
        if isinstance(m, torch.nn.Linear) and n != "lm_head"
    }
    rows, config = tokenize(engine, EXAMPLES, 2048), LoRATrainingConfig(rank=4, precision="bfloat16")
    model = add_lora(engine, config)
    optimiser = MixedPrecisionAdamW(model, total_steps=9, learning_rate=1e-3, warmup_steps=0)
    loss_of(model, *collate(rows, "cpu")).backward()
    gradients = bytes_of(p.grad for p in optimiser.trainable.values())
    optimiser.step()
    means = bytes_of(
        t for state in optimiser.adamw.state.values() for name, t in state.items() if name != "step"
    )
    trainable = sum(p.numel() for p in optimiser.trainable.values())
    assert trainable == adapter_weights(shapes, 4)
    held = (bytes_of(model.parameters()), gradients, means + bytes_of(optimiser.master_weights.values()))
    assert held == training_bytes(engine.parameters, trainable)
    optimiser.save(tmp_path / "checkpoint", {})
    assert (
        sum(t.nbytes for n, t in load_file(tmp_path / "checkpoint").items() if not n.endswith("/step"))
        == held[2]
    )


def test_activations_grow_with_examples_and_shrink_where_layers_are_computed_twice():
    def kept(count, **changes):
        engine = load("haneul-300k")
        model = add_lora(engine, LoRATrainingConfig(**changes))
        return activation_bytes(
            model, lambda: loss_of(model, *collate(tokenize(engine, EXAMPLES, 2048)[:count], "cpu"))
        )

    assert kept(3) < kept(6) < kept(12) and kept(12, gradient_checkpointing=True) < 0.5 * kept(12)


def test_numbers_that_are_none_are_refused():
    assert (
        training_bytes(7_000_000_000, 20_000_000, 4.5).all < training_bytes(7_000_000_000, 20_000_000).all / 3
    )
    for settings in ((0,), (10, 0), (10, 5, 0)):
        with pytest.raises(CourseError, match="parameters, trainable and bits must be positive"):
            training_bytes(*settings)
