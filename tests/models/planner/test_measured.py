"""The planner's bytes beside those that torch's allocator, llama.cpp's own report and the process show."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.data import MODELS
from course_lib.models import catalog, load
from course_lib.models.gguf import export
from course_lib.models.planner import memory_footprint
from course_lib.models.planner.architectures import Architecture
from course_lib.models.planner.buffers import kv_bytes
from course_lib.models.planner.estimate import BITSANDBYTES, plan
from course_lib.models.planner.lookup import architecture
from course_lib.models.planner.quants import WHOLE
from tests.models.footprint import real_bytes
from tests.models.planner.gguf_files import write_model

SHIPPED = catalog.shipped()
ENCODER = catalog.MINILM
WITHIN = 0.05


@pytest.fixture(autouse=True)
def two_threads():
    """Attention holds 0.5 MB a thread beside what is planned, which models of this size would notice."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def model_of(name, **fields):
    return load(name, task="text-embedding" if name == ENCODER else "text-generation", **fields)


def most_held(run):
    """What `run` returns, and the most bytes that torch's allocator held at once for it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        out = run()
    events = sorted(
        (e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"),
        key=lambda e: e.start_ns(),
    )
    return out, int(np.cumsum([e.nbytes() for e in events]).max())


def reading(model, tokens, batch):
    """A function that reads `batch` prompts of so many tokens, and writes two."""
    ids = torch.randint(
        5, model.config.vocab_size, (batch, tokens), generator=torch.Generator().manual_seed(0)
    )

    def run():
        with torch.inference_mode():
            if not hasattr(model, "generate") or model.config.model_type == "bert":
                return model(input_ids=ids, attention_mask=torch.ones_like(ids))
            return model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=2,
                min_new_tokens=2,
                do_sample=False,
                return_dict_in_generate=True,
                pad_token_id=0,
            )

    return run


def cache_bytes(output):
    return sum(
        t.untyped_storage().nbytes()
        for layer in output.past_key_values.layers
        for t in (layer.keys, layer.values)
    )


@pytest.mark.parametrize("weight_format", [*WHOLE, *BITSANDBYTES])
@pytest.mark.parametrize("name", [*SHIPPED, ENCODER])
def test_transformers_takes_what_was_planned(name, weight_format):
    if weight_format == "float16" and torch.cpu.get_capabilities().get("avx512_fp16"):
        pytest.skip("this CPU multiplies float16 itself, and holds more for it")
    quantized = weight_format in BITSANDBYTES
    engine = model_of(name, **{"quantization" if quantized else "precision": weight_format})
    precision = "float32" if quantized else None
    planned = plan(name, weight_format, 256, 4, driver="huggingface", precision=precision)
    assert planned.weights + planned.embeddings + planned.norms == engine.weight_bytes, "to the byte"
    run = reading(engine.model, 256, 4)
    reading(engine.model, 8, 1)()  # some CPUs rearrange packed weights when they are first used
    output, peak = most_held(run)
    if name != ENCODER:
        assert planned.kv == pytest.approx(cache_bytes(output), rel=0.01)
    assert planned.kv + planned.overhead == pytest.approx(peak, rel=0.02)
    assert planned.total == pytest.approx(engine.weight_bytes + peak, rel=WITHIN)


def test_doubly_packed_scales_are_planned_to_the_byte():
    planned = plan("haneul-1m", "nf4", 8, precision="float32", double_quantization=True)
    engine = load("haneul-1m", quantization="nf4", double_quantization=True)
    assert planned.weights + planned.embeddings + planned.norms == engine.weight_bytes


def test_bitsandbytes_leaves_experts_and_router_as_they_are(tmp_path):
    """transformers keeps the experts of a layer in one tensor, which is no torch.nn.Linear."""
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
    for kind, fields in (("qwen3_moe", experts), ("mixtral", {"num_local_experts": 4})):
        without = {k: v for k, v in SMALL.items() if k != "sliding_window"}
        config = AutoConfig.for_model(kind, **without, **fields)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / kind)
        for weight_format, how in (("int8", {"load_in_8bit": True}), ("nf4", {"load_in_4bit": True})):
            quantization = BitsAndBytesConfig(**how, bnb_4bit_quant_type="nf4")
            model = AutoModelForCausalLM.from_pretrained(
                tmp_path / kind, quantization_config=quantization, dtype=torch.bfloat16
            )
            planned = plan(tmp_path / kind, weight_format, 64)
            assert planned.weights + planned.embeddings + planned.norms == memory_footprint(model)


SMALL = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "head_dim": 16,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "sliding_window": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize(
    "kind", ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3_text", "exaone4"]
)
def test_transformers_keeps_the_window_alone_and_reads_whole_prompts(kind, tmp_path):
    """Random models: grouped queries, layers with a window, and Gemma 2 with eager attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    without = {"phi3": "head_dim", "llama": "sliding_window"}.get(kind)
    config = AutoConfig.for_model(kind, **{k: v for k, v in SMALL.items() if k != without})
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config).eval()
    for tokens, batch in ((256, 2), (512, 1), (1000, 1)):
        output, peak = most_held(reading(model, tokens, batch))
        planned = plan(tmp_path, "float32", tokens, batch)
        assert planned.kv == pytest.approx(cache_bytes(output), rel=0.01)
        assert planned.kv + planned.overhead == pytest.approx(
            peak, rel=0.1 if architecture(tmp_path).window else 0.01
        )


LOUD = """
import json, sys, threading
from course_lib.models import load
from course_lib.models.gguf import llamacpp_server
quiet = llamacpp_server.settings
llamacpp_server.settings = lambda *a: quiet(*a) | {"verbosity": 10}
told = threading.Event()
def collect(stream, lines):
    for line in stream:
        print(line, end="", flush=True)
        if "compute buffer size" in line:
            told.set()
llamacpp_server._collect = collect
for fields in json.loads(sys.argv[1]):
    engine = load(fields.pop("source"), driver="llamacpp", task="text-generation", **fields)
    engine.generate(["a"], max_output_length=1)
    print(f"weights {engine.weight_bytes}\\n", end="", flush=True)  # one write, beside the thread of the log
    assert told.wait(60), "the log of a busy machine comes late, and what has not come by the end is lost"
    told.clear()
    engine.close()
    [thread.join() for thread in threading.enumerate() if thread.daemon]  # the rest of its log
"""
MIB = 2**20


def llama_cpp_takes(cases):
    """For each case (fields of a specification), bytes of weights, of caches, and of buffers, by llama.cpp's
    own report.

    On one core the driver starts one instance for several texts.
    """
    ran = subprocess.run(
        [sys.executable, "-c", LOUD, json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    weights = [int(w) for w in re.findall(r"weights (\d+)", ran.stdout)]
    logs = re.split(r"build_info", ran.stdout)[1:]
    found = []
    for case, held, log in zip(cases, weights, logs, strict=True):
        assert log.count("loaded meta data") == 1, "the header and its vocabulary are read once"
        caches = re.findall(r"KV buffer size = +([\d.]+) MiB", log)
        buffers = (
            re.findall(r"output buffer size = +([\d.]+) MiB", log)[-1],
            re.findall(r"compute buffer size = +([\d.]+) MiB", log)[-1],
        )
        found.append((case, held, sum(float(c) for c in caches) * MIB, sum(float(b) for b in buffers) * MIB))
    assert len(found) == len(cases)
    return found


def test_llama_cpp_takes_what_was_planned():
    kinds = {
        "float32": {"precision": "float32"},
        "float16": {"precision": "float16"},
        "bfloat16": {"precision": "bfloat16"},
        "q8_0": {"quantization": "q8_0"},
        "q4_0": {"quantization": "q4_0"},
    }
    cases = [
        {"source": name, "context_length": 2048} | fields for name in SHIPPED for fields in kinds.values()
    ]
    cases += [
        {"source": "haneul-1m", "context_length": 300, "quantization": "q8_0"},
        {"source": "haneul-4m", "context_length": 1000, "batch_size": 3, "precision": "float32"},
    ]
    for (
        case
    ) in cases:  # a first load writes a file, and asks llama.cpp for the ids of texts: not to be measured
        load(case, driver="llamacpp").close()
    for case, held, caches, buffers in llama_cpp_takes(cases):
        weight_format = next(f for f, fields in kinds.items() if fields.items() <= case.items())
        planned = plan(
            case["source"],
            weight_format,
            case["context_length"],
            case.get("batch_size", 1),
            driver="llamacpp",
        )
        assert planned.weights + planned.embeddings + planned.norms == held, "to the byte"
        assert planned.kv == pytest.approx(caches, abs=0.01 * MIB)
        assert planned.overhead == pytest.approx(buffers, rel=0.02)
        assert planned.total == pytest.approx(held + caches + buffers, rel=WITHIN)


@pytest.mark.parametrize(
    ("model", "contexts"), [("smollm2", (512, 4096, 8192)), ("gemma", (512, 4096, 32768))]
)
def test_llama_cpp_takes_what_was_planned_for_a_real_model(model, contexts, request):
    file = request.getfixturevalue(model)
    cases = [{"source": str(file), "context_length": context} for context in contexts]
    for case, held, caches, buffers in llama_cpp_takes(cases):
        planned = plan(file, context=case["context_length"])
        assert planned.weights + planned.embeddings + planned.norms == held, "to the byte"
        assert planned.total == pytest.approx(held + caches + buffers, rel=0.002)


SIZES = Architecture(
    name="tiny",
    type="gemma3_text",
    hidden=64,
    feed_forward=256,
    layers=6,
    heads=2,
    kv_heads=1,
    head_dim=32,
    vocabulary=4096,
    tied=True,
    context=8192,
    window=512,
    windowed=5,
)


def test_llama_cpp_keeps_a_window_of_gemma_and_the_piece_that_it_reads(tmp_path):
    file = write_model(tmp_path / "gemma.gguf", SIZES, "gemma3")
    for case, held, caches, buffers in llama_cpp_takes(
        [{"source": str(file), "context_length": context} for context in (700, 8192)]
    ):
        planned = plan(file, context=case["context_length"])
        assert planned.kv == pytest.approx(caches, abs=0.02 * MIB)
        assert planned.total == pytest.approx(held + caches + buffers, rel=WITHIN)
    all_tokens = replace(SIZES, window=0, windowed=0)
    assert kv_bytes(SIZES, 8192) == pytest.approx(kv_bytes(all_tokens, 8192) * (1 + 5 * 1024 / 8192) / 6), (
        "by hand"
    )


EXPERTS = {
    "qwen3moe": replace(SIZES, type="qwen3_moe", window=0, windowed=0, tied=False, experts=8, experts_used=2),
    "llama": replace(SIZES, type="mixtral", window=0, windowed=0, hidden=128, experts=8, experts_used=2),
    "llama4": replace(SIZES, type="llama4_text", window=8192, experts=4, experts_used=1),
}


def test_llama_cpp_takes_what_was_planned_for_experts(tmp_path):
    """Narrow experts, of which many are chosen, hold more hidden rows than feed-forward ones."""
    narrow = replace(EXPERTS["qwen3moe"], hidden=256, feed_forward=96, experts=16, experts_used=4)
    kinds = [*EXPERTS.items(), ("qwen3moe", narrow)]
    files = [write_model(tmp_path / f"{i}.gguf", sizes, kind) for i, (kind, sizes) in enumerate(kinds)]
    cases = [{"source": str(file), "context_length": 4096} for file in files]
    for case, held, caches, buffers in llama_cpp_takes(cases):
        planned = plan(Path(case["source"]), context=4096)
        assert planned.weights + planned.embeddings + planned.norms == held
        assert planned.kv == pytest.approx(caches, abs=0.02 * MIB)
        assert planned.total == pytest.approx(held + caches + buffers, rel=0.03)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A random model of 126 million weights with grouped queries, in 16 bits, and as GGUF."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("larger") / "larger"
    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=8,
        num_attention_heads=16,
        head_dim=64,
        num_key_value_heads=4,
        vocab_size=4096,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    noise = torch.randn(1 << 20) / 50
    for weight in model.parameters():
        weight.data.copy_(noise.repeat(-(-weight.numel() // noise.numel()))[: weight.numel()].view_as(weight))
    model.tie_weights()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MODELS / "haneul-1m" / name, folder)
    export(folder, folder / "larger.gguf", "f16")
    yield folder
    shutil.rmtree(folder)


def test_a_mapped_file_is_in_the_process_only_when_it_has_been_read(larger):
    """So resident memory alone is no measure of what a model takes."""
    engine, real = real_bytes(lambda: load(larger, task="text-generation", precision="bfloat16"))
    assert real.weights == 2 * engine.parameters and real.grown < 0.3 * real.weights
    used, after = real_bytes(lambda: (engine.generate(["a b c d"], max_output_length=1), engine)[1])
    assert used is engine and after.grown > 0.7 * real.weights


GROWN = """
import gc, json, psutil, sys
from course_lib.measure import peak_memory
from course_lib.models import load
from tests.models.footprint import real_bytes
for fields, text in json.loads(sys.argv[1]):
    def write():
        engine.generate([text], max_output_length=2, min_output_length=2)
    def first():
        global engine
        engine = load(task="text-generation", **{"spec": fields.pop("source")} | fields)
        write()
        return engine
    engine, real = real_bytes(first)
    grown = real.grown + peak_memory(write)[1].added
    if engine.process_id:
        grown = psutil.Process(engine.process_id).memory_info().rss  # all of it
    print(json.dumps([real.weights, grown, engine.count_tokens(text) + 2]))
    engine.close()
    del engine
    gc.collect()
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="the C library is told to give freed memory back by glibc's own variables"
)
def test_the_process_grows_by_what_was_planned_for_a_larger_model(larger):
    """Freed memory goes back to the system at once here; else a process keeps it, and looks larger than what
    it holds. Of llama.cpp's process, what it holds with a small model is taken off.
    """
    short, long = "a b c d " * 16, "a b c d " * 150
    folder, file = str(larger), str(larger / "larger.gguf")
    first = [
        ({"source": "haneul-300k"} | fields, short)
        for fields in ({}, {"quantization": "int8"}, {"driver": "llamacpp"})
    ]
    cases = [
        ({"source": folder}, short),
        ({"source": folder, "precision": "bfloat16"}, short),
        ({"source": folder, "quantization": "int8"}, short),
        ({"source": file, "driver": "llamacpp", "context_length": 1024}, long),
    ]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    ran = subprocess.run(
        [sys.executable, "-c", GROWN, json.dumps(first + cases)],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    small, *found = [json.loads(line) for line in ran.stdout.splitlines()][len(first) - 1 :]
    program = small[1] - plan("haneul-300k", "float32", 2048, driver="llamacpp").total
    formats = (
        {"weight_format": "float32"},
        {"weight_format": "bfloat16"},
        {"weight_format": "int8", "precision": "float32"},
        {"weight_format": "float16", "driver": "llamacpp"},
    )
    for options, (weights, grown, tokens) in zip(formats, found, strict=True):
        planned = plan(larger, context=1024 if "driver" in options else tokens, **options)
        assert planned.weights + planned.embeddings + planned.norms == weights
        more = program if "driver" in options else 0
        if options["weight_format"] == "int8" and torch.backends.cpu.get_cpu_capability() != "AVX512":
            more = 4 * max(m.rows * m.columns for m in architecture(larger).matrices)  # multiplied in float32
        assert planned.total + more == pytest.approx(grown, rel=WITHIN), options
