"""What the tests of training share: a tiny random model, examples to learn, and a short run."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from course_lib.models import catalog
from course_lib.tuning.config import Example, LoRATrainingConfig
from course_lib.tuning.dataset import collate
from course_lib.tuning.training import train

WEIGHTS = "adapter_model.safetensors"
SHORT = LoRATrainingConfig(
    steps=6, batch_size=4, learning_rate=1e-2, warmup_steps=2, rank=4, precision="float32"
)
EXAMPLES = [
    Example(f"What is the fee of account {i}?", f"KRW {7 * i % 10} at branch {i}" * (1 + i % 3))
    for i in range(13)
]
VALIDATION = [Example(f"And the fee of account {i}?", f"KRW {7 * i % 10} at branch {i}") for i in range(5)]


def llama(folder, seed=0, **shape):
    """A small, random model with haneul-300k's tokenizer."""
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    tokens = dict(vocab_size=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    config = LlamaConfig(**sizes | tokens | shape, max_position_embeddings=256, initializer_range=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(catalog.verify_shipped("haneul-300k")).save_pretrained(folder)
    return folder


def weights(folder):
    return load_file(folder / WEIGHTS)


def mean_loss(model, dataset):
    """The loss of transformers: labels of -100 are not learnt, padding is masked."""
    ids, learn = collate(dataset, "cpu")
    mask = torch.tensor([[1] * example.length + [0] * (ids.shape[1] - example.length) for example in dataset])
    return model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(~learn, -100)).loss


def at_call(number, before, method):
    """The method, before whose call of a number something is done."""
    calls = []

    def wrapped(*settings, **changes):
        calls.append(1)
        if len(calls) == number:
            before()
        return method(*settings, **changes)

    return wrapped


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def short(tiny, tmp_path):
    """A function that trains a short run into a folder of a name, with some settings changed."""

    def run(name="adapter", examples=EXAMPLES, base=tiny, **changes):
        return train(base, examples, tmp_path / name, config=SHORT, **changes)

    return run
