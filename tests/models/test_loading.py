"""Loading takes the memory that it must, and refuses what belongs to other tasks and other machines."""

import os
import platform
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.models import ModelManager, catalog, load
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.gguf import export

NAME = "haneul-1m"


def test_an_encoder_refuses_what_belongs_to_writing():
    with pytest.raises(Unsupported, match=r"generates no text, and generation\.temperature is set"):
        load("all-MiniLM-L6-v2", task="text-embedding", generation={"temperature": 1})
    with pytest.raises(Unsupported, match="loaded for text-embedding and cannot generate"):
        load("all-MiniLM-L6-v2", task="text-embedding").generate(["hi"])


def without_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors[min(tensors)]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "manifest.json").unlink(missing_ok=True)


def test_a_model_without_a_context_length_is_told(tmp_path):
    from transformers import BloomConfig, BloomForCausalLM

    shutil.copytree(ROOT / "models" / "haneul-300k", tmp_path, dirs_exist_ok=True)
    BloomForCausalLM(BloomConfig(vocab_size=4096, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(
        tmp_path
    )
    without_a_tensor(tmp_path)  # it is refused before the weights are read
    with pytest.raises(CourseError, match="names no context length"):
        load(tmp_path)


@pytest.mark.parametrize("task", ["chat-completion", "text-embedding"])
def test_a_context_length_is_refused_before_the_weights_are_read(tmp_path, task):
    """One of the weights is missing, which whoever reads them says."""
    name = "haneul-300k" if task == "chat-completion" else catalog.MINILM
    shutil.copytree(catalog.verify_shipped(name), tmp_path, dirs_exist_ok=True)
    without_a_tensor(tmp_path)
    with pytest.raises(CourseError, match=r"context_length=999999, but .* reads \d+"):
        load(tmp_path, task=task, context_length=999_999)
    with pytest.raises(CourseError, match="lacks"):
        load(tmp_path, task=task)


def test_low_memory_loading_makes_no_second_copy(tmp_path):
    """Peak memory while loading 64 MB of weights, in a process of its own: less than twice the weights."""
    code = """
import resource, sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
folder = sys.argv[1]
from course_lib.models.drivers.pretrained import from_pretrained
from course_lib.models.schema import ModelSpec
import peft, course_lib.models.drivers.encoder
spec = ModelSpec.parse({"source": "haneul-300k"})
from pathlib import Path
from transformers import AutoModelForCausalLM
from_pretrained(AutoModelForCausalLM, spec, Path(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = from_pretrained(AutoModelForCausalLM, spec, Path(folder))
taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(taken / sum(p.numel() * 4 for p in model.parameters()))
"""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=4096, hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(ROOT / "models" / "haneul-300k")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert said.returncode == 0, said.stderr
    assert float(said.stdout) < 1.7


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries return memory by themselves")
def test_a_load_returns_the_memory_that_others_have_freed():
    """Large blocks between small ones that are still held, as freed models leave them."""
    code = """
import psutil, torch
from course_lib.models import load
load("haneul-300k")
resident = lambda: psutil.Process().memory_info().rss / 2**20
big = torch.ones(28 * 2**18)
del big  # from now on glibc takes blocks of this size from its heap
freed, held = zip(*((torch.ones(2**20), torch.ones(2**14)) for _ in range(50)))
full = resident()
del freed
before = full - resident()
load("haneul-300k")
print(before, full - resident())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    before, after = map(float, said.stdout.split())
    assert before < 20 and after > 150, "MiB returned"


def test_silence_of_threads_that_overlap_ends_with_the_last():
    """The second begins before the first ends, and ends after it."""
    import warnings

    from transformers.utils import logging

    from course_lib.quiet import quiet

    logging.set_verbosity_info()
    logging.enable_progress_bar()
    before = list(warnings.filters)
    first, second = quiet(), quiet()
    try:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        second.__exit__(None, None, None)
        assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
        assert warnings.filters == before
        with pytest.raises(KeyError), quiet():
            raise KeyError
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity_warning()


def test_a_name_that_is_nearly_right_is_proposed(monkeypatch, tmp_path):
    with pytest.raises(CourseError) as error:
        load("haneul-4M")
    assert error.value.fix == 'load("haneul-4m")'
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    with pytest.raises(CourseError, match=r"hub id is OWNER/NAME.*folder of this name") as error:
        load("my-model")
    assert error.value.fix == 'load("./my-model")'


def test_the_name_of_a_gguf_file_that_lies_here_loads_it_everywhere(monkeypatch, tmp_path):
    export(ROOT / "models" / "haneul-300k", tmp_path / "smol.gguf", "q8_0")
    monkeypatch.chdir(tmp_path)
    assert load("smol.gguf").parameters == 344384
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path))
    manager = ModelManager()
    manager.register("mine", "smol.gguf")
    for name in ("mine", "smol.gguf"):
        assert manager.registry.spec(name).driver == "llamacpp"
    with pytest.raises(CourseError, match=r"none\.gguf does not exist"):
        load("none.gguf")


def test_an_embedder_needs_no_task():
    assert load("all-MiniLM-L6-v2").embed(["hello"]).shape == (1, 384)


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP, which prints its settings")
def test_threads_of_torch_do_not_spin_while_they_wait_unless_the_user_says_so():
    for given, policy in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE"):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        said = subprocess.run(
            [sys.executable, "-c", "import course_lib, torch"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment | {"OMP_DISPLAY_ENV": "true"} | given,
        )
        assert f"OMP_WAIT_POLICY = '{policy}'" in said.stderr
