"""Every field and driver: the field has an effect on what comes out, or the driver refuses it by its name."""

import functools
import json
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import torch
from ollama import Client
from peft import LoraConfig, get_peft_model

from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import capability_table
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.schema.sources import SERVER_DRIVERS
from course_lib.serve import discovery
from tests.models.llama_http import http_server

NAME = "haneul-1m"
ASKED = "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the Sorin branch open?"
LONG = "Tell me everything about the fees of the bank, please."
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
VALUES = {
    "device": "cpu",
    "device_mode": "auto",
    "precision": "bfloat16",
    "quantization": "q8_0",
    "compute_dtype": "bfloat16",
    "double_quantization": True,
    "context_length": 64,
    "batch_size": 2,
    "low_cpu_mem_usage": True,
    "adapters": [{"source": "adapter", "weight": 1.0}],
    "combination_type": "svd",
    "generation.max_output_length": 3,
    "generation.min_output_length": 8,
    "generation.temperature": 0.5,
    "generation.top_p": 0.5,
    "generation.top_k": 5,
    "generation.repetition_penalty": 1.5,
    "generation.stop": ["x"],
    "generation.seed": 7,
    "generation.json_schema": SCHEMA,
    "architecture": "blip",
    "image": "picture.png",
    "prompt": "a card",
    "params.width": 64,
    "params.height": 64,
    "params.num_inference_steps": 3,
    "params.guidance": 2.0,
    "params.seed": 7,
    "params.scale": 2,
}


def cells(grid, supported):
    return [cell for cell, value in grid.items() if value is supported]


def source_for(driver):
    server = {"type": "server", "model": "m", "url": "http://127.0.0.1:9"}
    return server if driver in SERVER_DRIVERS else NAME


@pytest.fixture(scope="module")
def address():
    """Driver -> address of a server, started on first use: the course's for ollama, llama.cpp for openai."""
    with ExitStack() as servers:

        @functools.cache
        def address_of(driver):
            if driver == "ollama":
                url = servers.enter_context(closing(discovery.start())).url
                Client(url).pull(f"{NAME}:f32")
                return url
            engine = load(NAME, driver="llamacpp", batch_size=2)
            server = http_server(engine)
            servers.callback(lambda _: engine.close(), server)  # keeps the server
            return f"{server.listening_address}/v1"

        yield address_of


@pytest.fixture(scope="module")
def make(address):
    """Load the same weights by any driver, with one field set."""

    def load_with(driver, field="", value=None, **spec):
        spec |= {"driver": driver, "source": NAME}
        if driver in ("ollama", "openai"):
            model = f"{NAME}:f32" if driver == "ollama" else NAME
            spec["source"] = {"type": "server", "model": model, "url": address(driver)}
        parent, _, name = field.rpartition(".")
        return load(spec | ({parent: {name: value}} if parent else {field: value} if field else {}))

    return load_with


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA adapter large enough to be seen in the text."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules=["q_proj", "up_proj"])
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(load(NAME).model, lora).save_pretrained(folder)
    return folder


def test_the_page_in_the_docs_is_the_table_of_the_code():
    assert (ROOT / "docs" / "model-fields.md").read_text("utf-8") == capability_table.page()
    grid = capability_table.fields()
    assert len(grid) == 5 * len(VALUES) and set(VALUES) == {field for _, field in grid}
    assert set(EFFECTS) == {field for _, field in cells(grid, True)}


@pytest.mark.parametrize(("driver", "field"), cells(capability_table.fields(), False))
def test_a_field_without_an_effect_on_a_driver_is_refused_by_name(driver, field):
    parent, _, name = field.rpartition(".")
    spec = {parent: {name: VALUES[field]}} if parent else {field: VALUES[field]}
    if field == "generation.min_output_length":
        spec["generation"]["max_output_length"] = 8
    with pytest.raises(
        Unsupported, match=rf"driver {driver} does not support {field}=.*\n.*leave {field} out"
    ):
        load({"source": source_for(driver), "driver": driver, "task": "text-generation"} | spec)


@pytest.mark.parametrize("field", ["device", "adapters", "generation.seed", "quantization", "task"])
@pytest.mark.parametrize("driver", ["unsloth", "vllm"])
def test_a_driver_outside_this_process_says_how_to_go_on_whatever_is_set(driver, field):
    value = {"task": "rerank"}.get(field, VALUES.get(field))
    parent, _, name = field.rpartition(".")
    spec = {parent: {name: value, "max_output_length": 8}} if parent else {field: value}
    with pytest.raises(
        Unsupported, match=rf'{driver} .* not a driver: .*\n  Fix: load\(.*("openai"\}}\)|FOLDER"\))$'
    ):
        load({"source": NAME, "driver": driver} | spec)


# TGI needs a GPU: tests/models/test_tgi.py has its fields.
@pytest.mark.parametrize(
    ("driver", "field"), [cell for cell in cells(capability_table.fields(), True) if cell[0] != "tgi"]
)
def test_a_field_has_an_effect_on_what_comes_out(driver, field, make, adapter):
    EFFECTS[field](driver, make, adapter)


def max_output_length(driver, make, _):
    reply = make(driver, "generation.max_output_length", 3).generate([LONG])[0]
    assert reply.tokens == 3 and reply.finish_reason == "length"
    assert make(driver).generate([LONG])[0].tokens > 3


def min_output_length(driver, make, _):
    engine = make(driver, generation={"max_output_length": 40, "min_output_length": 40})
    assert make(driver).generate([ASKED])[0].tokens < 40 and engine.generate([ASKED])[0].tokens == 40


def temperature(driver, make, _):
    engine, greedy = make(driver, "generation.temperature", 5.0), make(driver).generate([LONG])[0]
    assert engine.generate([LONG], max_output_length=16)[0] != greedy


def seed(driver, make, _):
    options = {"temperature": 2.0, "max_output_length": 16}
    one, two = (make(driver, generation=options | {"seed": value}) for value in (1, 2))
    assert one.generate([LONG]) == one.generate([LONG]) != two.generate([LONG])


def greedy_at_any_temperature(option, value):
    def check(driver, make, _):
        engine = make(driver, generation={"temperature": 5.0, option: value})
        assert engine.generate([LONG]) == make(driver).generate([LONG])

    return check


def repetition_penalty(driver, make, _):
    engine = make(driver, "generation.repetition_penalty", 3.0)
    assert engine.generate([LONG]) != make(driver).generate([LONG])


def stop(driver, make, _):
    engine = make(driver, "generation.stop", ["30"])
    assert engine.generate([ASKED]) == ["09:"] and "".join(engine.stream(ASKED)).strip() == "09:"


def json_schema(driver, make, _):
    answer = json.loads(make(driver, "generation.json_schema", SCHEMA).generate([ASKED])[0])
    assert answer["colour"] in ("red", "blue")


def context_length(driver, make, _):
    engine = make(driver, "context_length", 256)
    assert engine.context == 256 and engine.generate([ASKED]) == ["09:30"]
    with pytest.raises(CourseError, match=r"\d+ tokens.*256|256.*\d+ tokens"):
        engine.generate([ASKED * 12])


def batch_size(driver, make, _):
    engine, sizes = make(driver, "batch_size", 2), []
    if driver == "huggingface":
        generate = engine.model.generate
        engine.model.generate = lambda rows, **kwargs: sizes.append(len(rows)) or generate(rows, **kwargs)
    elif driver == "llamacpp":
        assert engine.slots == 2 and make(driver).slots == 1
        sizes = [2]
    else:
        sizes = requests_in_flight(engine)
    assert engine.generate([ASKED] * 4) == ["09:30"] * 4
    assert max(sizes) == 2


def requests_in_flight(engine):
    """A list that gets the number of requests under way whenever one begins."""
    seen, now, answer = [], [0], engine._answer

    def counted(*args):
        now[0] += 1
        seen.append(now[0])
        try:
            return answer(*args)
        finally:
            now[0] -= 1

    engine._answer = counted
    return seen


def precision(driver, make, _):
    full, half = make(driver), make(driver, "precision", "bfloat16")
    assert half.weight_bytes == pytest.approx(full.weight_bytes / 2, rel=0.01)
    assert half.parameters == full.parameters and half.generate([ASKED]) == ["09:30"]


def quantization(driver, make, _):
    if driver == "huggingface":
        full = make(driver)
        for kind, bits in (("int8", 8.5), ("nf4", 5), ("fp4", 5)):
            engine = make(driver, "quantization", kind)
            assert engine.parameters == full.parameters
            assert bits_per_layer_weight(engine) == pytest.approx(bits, abs=0.5)
            assert 0 < abs(engine.perplexity([ASKED]) / full.perplexity([ASKED]) - 1) < 0.5
        return
    for kind, bits in (("q8_0", 8.5), ("q4_0", 4.5)):
        engine = make(driver, "quantization", kind)
        assert engine.weight_bytes * 8 / engine.parameters == pytest.approx(bits, rel=0.02)
    with pytest.raises(Unsupported, match="only one can be set"):
        make(driver, "quantization", "q8_0", precision="float16")


def bits_per_layer_weight(engine):
    """Bits of a weight in the matrices of layers; the others take 4 bytes."""
    layers = sum(p.numel() for n, p in load(NAME).model.named_parameters() if "layers" in n and p.ndim == 2)
    return (engine.weight_bytes - 4 * (engine.parameters - layers)) * 8 / layers


def compute_dtype(driver, make, _):
    """The same quantized weights, multiplied in another type."""
    full, half = (make(driver, "compute_dtype", t, quantization="nf4") for t in ("float32", "bfloat16"))
    assert make(driver, quantization="nf4").log_probabilities(ASKED) == full.log_probabilities(ASKED)
    assert 0 < abs(half.perplexity([ASKED]) / full.perplexity([ASKED]) - 1) < 0.1
    only_with_four_bits(driver, make, "compute_dtype", "bfloat16")


def double_quantization(driver, make, _):
    once, twice = (make(driver, "double_quantization", v, quantization="nf4") for v in (False, True))
    assert twice.weight_bytes < once.weight_bytes
    assert twice.log_probabilities(ASKED) != once.log_probabilities(ASKED)
    only_with_four_bits(driver, make, "double_quantization", True)


def only_with_four_bits(driver, make, field, value):
    for kind in ("none", "int8"):
        message = rf"{field}={value!r} applies to 4-bit weights, and quantization is {kind}"
        with pytest.raises(Unsupported, match=message):
            make(driver, field, value, quantization=kind)


def device(driver, make, _):
    assert make(driver, "device", "cpu").device == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(CourseError, match=r"device='cuda'.*\n  Fix: load\(\.\.\., device=\"auto\"\)"):
            make(driver, "device", "cuda")


def device_mode(driver, make, _):
    if not torch.cuda.is_available():
        with pytest.raises(CourseError, match="distributes a model over GPUs, and torch finds none"):
            make(driver, "device_mode", "auto")
        return
    engine = make(driver, "device_mode", "auto")
    assert engine.model.hf_device_map and engine.generate([ASKED]) == ["09:30"]


def low_cpu_mem_usage(driver, make, _):
    for value in (True, False):
        engine = make(driver, "low_cpu_mem_usage", value, precision="float16")  # a file of no other engine
        assert (str(engine.file) in Path(f"/proc/{engine.process_id}/maps").read_text()) is value
        assert engine.generate([ASKED]) == ["09:30"]
        engine.close()


def adapters(driver, make, folder):
    def generate(*weights, **spec):
        parts = [{"source": folder, "weight": weight} for weight in weights]
        return make(driver, adapters=parts, **spec).generate([ASKED, LONG])

    assert generate(1.0) != generate() == generate(0.0)
    assert generate(0.4, 0.6) == generate(1.0)
    if driver == "huggingface":
        nf4 = {"quantization": "nf4", "compute_dtype": "float32"}
        assert generate(0.4, 0.6, **nf4) != generate(**nf4)


def combination_type(driver, make, folder):
    parts = [{"source": folder, "weight": 0.4}, {"source": folder, "weight": 0.6}]
    once = make(driver, "adapters", [folder]).generate([ASKED, LONG])

    def generate(kind):
        return make(driver, "combination_type", kind, adapters=parts).generate([ASKED, LONG])

    assert generate("cat") == once
    if driver == "llamacpp":
        with pytest.raises(Unsupported, match=r"combination_type='svd': llama\.cpp can only add adapters up"):
            generate("svd")
        return
    assert generate("svd") == once  # nothing is lost of two times the same adapter
    assert generate("linear") != once  # it adds (sqrt(.4) + sqrt(.6))^2 = 1.98 times the adapter


EFFECTS = {
    "generation.max_output_length": max_output_length,
    "generation.min_output_length": min_output_length,
    "generation.temperature": temperature,
    "generation.seed": seed,
    "generation.top_p": greedy_at_any_temperature("top_p", 1e-6),
    "generation.top_k": greedy_at_any_temperature("top_k", 1),
    "generation.stop": stop,
    "generation.repetition_penalty": repetition_penalty,
    "generation.json_schema": json_schema,
    "context_length": context_length,
    "batch_size": batch_size,
    "precision": precision,
    "quantization": quantization,
    "compute_dtype": compute_dtype,
    "double_quantization": double_quantization,
    "device": device,
    "device_mode": device_mode,
    "low_cpu_mem_usage": low_cpu_mem_usage,
    "adapters": adapters,
    "combination_type": combination_type,
}


def test_both_engines_say_the_same_with_an_adapter(make, adapter):
    parts = [{"source": adapter, "weight": 0.7}]
    one, two = (
        make(driver, adapters=parts).generate([ASKED, LONG]) for driver in ("huggingface", "llamacpp")
    )
    assert one == two


@pytest.mark.parametrize(("driver", "kind"), cells(capability_table.quantizations(), False))
def test_a_quantization_that_a_driver_does_not_have_is_refused_with_one_that_has_it(driver, kind):
    able = next(d for d, k in cells(capability_table.quantizations(), True) if k == kind)
    with pytest.raises(CourseError, match=rf"(?s)quantization.*{kind}.*{able}"):
        load(
            {"source": source_for(driver), "driver": driver, "quantization": kind, "task": "text-generation"}
        )


@pytest.mark.parametrize(("driver", "task"), cells(capability_table.tasks(), False))
def test_a_task_that_a_driver_does_not_have_is_refused(driver, task):
    with pytest.raises(CourseError, match=task):
        load({"source": source_for(driver), "driver": driver, "task": task})
