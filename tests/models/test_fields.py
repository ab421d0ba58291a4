"""Every field x driver: the driver acts, which shows in what comes out, or it refuses the field by its name."""

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
from course_lib.models.drivers import capability_table as fields
from course_lib.models.drivers.engine import Unsupported
from course_lib.serve import discovery

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
}
ACTS = [cell for cell, acts in fields.cells().items() if acts]
RAISES = [cell for cell, acts in fields.cells().items() if not acts]


@pytest.fixture(scope="module")
def address():
    """The address of a server for a driver, started when it is first asked for: the course's own speaks Ollama's protocol,
    llama.cpp's own OpenAI's."""
    with ExitStack() as open_until_the_end:

        @functools.cache
        def of(driver):
            if driver == "ollama":
                url = open_until_the_end.enter_context(closing(discovery.start())).url
                Client(url).pull(f"{NAME}:f32")
                return url
            native = load(NAME, driver="llamacpp", batch_size=2)
            open_until_the_end.callback(native.close)
            return f"{native.servers[0].listening_address}/v1"

        yield of


@pytest.fixture(scope="module")
def make(address):
    """Load the same weights by any driver, with one field set."""

    def load_with(driver, field="", value=None, **more):
        served = driver in ("ollama", "openai")
        model = f"{NAME}:f32" if driver == "ollama" else NAME
        source = {"type": "server", "model": model, "url": address(driver)} if served else NAME
        kind, _, name = field.rpartition(".")
        said = {"source": source, "driver": driver, **more}
        return load(said | ({kind: {name: value}} if kind else {field: value} if field else {}))

    return load_with


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA adapter large enough to be seen in the text."""
    torch.manual_seed(0)
    model = get_peft_model(
        load(NAME).model,
        LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules=["q_proj", "up_proj"]),
    )
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def test_the_page_in_the_docs_is_the_table_of_the_code():
    assert (ROOT / "docs" / "model-fields.md").read_text("utf-8") == fields.page()
    assert len(ACTS) + len(RAISES) == 6 * len(VALUES) and set(VALUES) == {f for _, f in fields.cells()}


@pytest.mark.parametrize(("driver", "field"), RAISES)
def test_a_field_on_which_a_driver_does_not_act_is_refused_by_name(driver, field):
    source = (
        {"type": "server", "model": "m", "url": "http://127.0.0.1:9"}
        if driver in ("ollama", "openai")
        else NAME
    )
    kind, _, name = field.rpartition(".")
    said = {kind: {name: VALUES[field]}} if kind else {field: VALUES[field]}
    if field == "generation.min_output_length":
        said["generation"]["max_output_length"] = 8
        if f"{driver}" in ("unsloth", "vllm"):
            field = "generation.m"  # either of the two may be named first
    with pytest.raises(Unsupported, match=rf"does not act on {field}"):
        load({"source": source, "driver": driver} | said)


@pytest.mark.parametrize(("driver", "field"), ACTS)
def test_a_field_on_which_a_driver_acts_shows_in_what_comes_out(driver, field, make, adapter):
    EFFECTS[field](driver, make, adapter)


def longest(driver, make, _):
    short = make(driver, "generation.max_output_length", 3).generate([LONG])[0]
    assert short.tokens == 3 and short.finish == "length" and make(driver).generate([LONG])[0].tokens > 3


def shortest(driver, make, _):
    engine = make(driver, generation={"max_output_length": 40, "min_output_length": 40})
    assert make(driver).generate([ASKED])[0].tokens < 40 and engine.generate([ASKED])[0].tokens == 40


def temperature(driver, make, _):
    engine, greedy = make(driver, "generation.temperature", 5.0), make(driver).generate([LONG])[0]
    assert engine.generate([LONG], max_output_length=16)[0] != greedy


def seed(driver, make, _):
    one, two = (
        make(driver, generation={"temperature": 2.0, "seed": s, "max_output_length": 16}) for s in (1, 2)
    )
    assert one.generate([LONG]) == one.generate([LONG]) != two.generate([LONG])


def top_p(driver, make, _):
    engine = make(driver, generation={"temperature": 5.0, "top_p": 1e-6})
    assert engine.generate([LONG]) == make(driver).generate([LONG])


def top_k(driver, make, _):
    engine = make(driver, generation={"temperature": 5.0, "top_k": 1})
    assert engine.generate([LONG]) == make(driver).generate([LONG])


def repetition(driver, make, _):
    assert make(driver, "generation.repetition_penalty", 3.0).generate([LONG]) != make(driver).generate(
        [LONG]
    )


def stop(driver, make, _):
    assert make(driver, "generation.stop", ["30"]).generate([ASKED]) == ["09:"]
    assert "".join(make(driver, "generation.stop", ["30"]).stream(ASKED)).strip() == "09:"


def schema(driver, make, _):
    said = json.loads(make(driver, "generation.json_schema", SCHEMA).generate([ASKED])[0])
    assert said["colour"] in ("red", "blue")


def context(driver, make, _):
    engine = make(driver, "context_length", 256)
    assert engine.context == 256 and engine.generate([ASKED]) == ["09:30"]
    with pytest.raises(CourseError, match=r"\d+ tokens.*256|256.*\d+ tokens"):
        engine.generate([ASKED * 12])


def batches(driver, make, _):
    engine, at_once = make(driver, "batch_size", 2), []
    if driver == "huggingface":
        wrapped = engine.model.generate
        engine.model.generate = lambda rows, **said: at_once.append(len(rows)) or wrapped(rows, **said)
    elif driver == "llamacpp":
        assert engine.slots == 2 and make(driver).slots == 1
        at_once = [2, 2]
    else:
        at_once = in_flight(engine)
    assert engine.generate([ASKED] * 4) == ["09:30"] * 4
    assert max(at_once) == 2


def in_flight(engine):
    """A list that gets, at the beginning of each request, how many are under way."""
    seen, now, wrapped = [], [0], engine._ask

    def counted(*said, **more):
        now[0] += 1
        seen.append(now[0])
        try:
            return wrapped(*said, **more)
        finally:
            now[0] -= 1

    engine._ask = counted
    return seen


def precision(driver, make, _):
    whole, half = make(driver), make(driver, "precision", "bfloat16")
    assert (
        half.weight_bytes == pytest.approx(whole.weight_bytes / 2, rel=0.01)
        and half.parameters == whole.parameters
    )
    assert half.generate([ASKED]) == ["09:30"]


def quantization(driver, make, _):
    if driver == "huggingface":
        whole = make(driver)
        for kind, bits in (("int8", 8.5), ("nf4", 5), ("fp4", 5)):
            engine = make(driver, "quantization", kind)
            assert engine.parameters == whole.parameters and packed_bits(engine) == pytest.approx(
                bits, abs=0.5
            )
            assert 0 < abs(engine.perplexity([ASKED]) / whole.perplexity([ASKED]) - 1) < 0.5
        return
    for kind, bits in (("q8_0", 8.5), ("q4_0", 4.5)):
        engine = make(driver, "quantization", kind)
        assert engine.weight_bytes * 8 / engine.parameters == pytest.approx(bits, rel=0.02)
    with pytest.raises(Unsupported, match="weights have one type"):
        make(driver, "quantization", "q8_0", precision="float16")


def packed_bits(engine):
    """Bits that a weight takes, of those in the matrices of layers."""
    layers = sum(p.numel() for n, p in load(NAME).model.named_parameters() if "layers" in n and p.ndim == 2)
    return (engine.weight_bytes - 4 * (engine.parameters - layers)) * 8 / layers


def compute(driver, make, _):
    """The same packed weights, multiplied in another type."""
    whole, half = (make(driver, "compute_dtype", t, quantization="nf4") for t in ("float32", "bfloat16"))
    assert make(driver, quantization="nf4").log_probabilities(ASKED) == whole.log_probabilities(ASKED)
    assert 0 < abs(half.perplexity([ASKED]) / whole.perplexity([ASKED]) - 1) < 0.1
    refused(driver, make, "compute_dtype", "bfloat16")


def double(driver, make, _):
    once, twice = (make(driver, "double_quantization", said, quantization="nf4") for said in (False, True))
    assert twice.weight_bytes < once.weight_bytes and twice.log_probabilities(
        ASKED
    ) != once.log_probabilities(ASKED)
    refused(driver, make, "double_quantization", True)


def refused(driver, make, field, value):
    """A field of 4-bit weights beside others."""
    for kind in ("none", "int8"):
        with pytest.raises(
            Unsupported, match=rf"{field}={value!r} acts on 4-bit weights, and quantization is {kind}"
        ):
            make(driver, field, value, quantization=kind)


def device(driver, make, _):
    assert make(driver, "device", "cpu").device == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(CourseError, match="device='cuda'"):
            make(driver, "device", "cuda")


def spread(driver, make, _):
    if not torch.cuda.is_available():
        with pytest.raises(CourseError, match="spreads a model over GPUs, and torch finds none"):
            make(driver, "device_mode", "auto")
        return
    engine = make(driver, "device_mode", "auto")
    assert engine.model.hf_device_map and engine.generate([ASKED]) == ["09:30"]


def mapped(driver, make, _):
    for said in (True, False):
        engine = make(driver, "low_cpu_mem_usage", said)
        assert (str(engine.file) in Path("/proc/self/maps").read_text()) is said
        assert engine.generate([ASKED]) == ["09:30"]


def adapters(driver, make, folder):
    plain = make(driver).generate([ASKED, LONG])
    with_it = make(driver, "adapters", [{"source": folder, "weight": 1.0}]).generate([ASKED, LONG])
    assert (
        with_it != plain
        and make(driver, "adapters", [{"source": folder, "weight": 0.0}]).generate([ASKED, LONG]) == plain
    )
    twice = [{"source": folder, "weight": 0.4}, {"source": folder, "weight": 0.6}]
    assert make(driver, "adapters", twice).generate([ASKED, LONG]) == with_it
    if driver == "huggingface":
        packed = make(driver, "quantization", "nf4", compute_dtype="float32").generate([ASKED, LONG])
        assert (
            make(driver, "adapters", twice, quantization="nf4", compute_dtype="float32").generate(
                [ASKED, LONG]
            )
            != packed
        )


def mixing(driver, make, folder):
    twice = {"adapters": [{"source": folder, "weight": 0.4}, {"source": folder, "weight": 0.6}]}
    once = make(driver, "adapters", [folder]).generate([ASKED, LONG])
    assert make(driver, "combination_type", "cat", **twice).generate([ASKED, LONG]) == once
    if driver == "llamacpp":
        with pytest.raises(
            Unsupported, match=r"combination_type='svd': llama\.cpp adds each adapter by itself"
        ):
            make(driver, "combination_type", "svd", **twice)
        return
    assert (
        make(driver, "combination_type", "svd", **twice).generate([ASKED, LONG]) == once
    )  # of one and the same, nothing is lost
    assert (
        make(driver, "combination_type", "linear", **twice).generate([ASKED, LONG]) != once
    )  # (sqrt(.4) + sqrt(.6))^2 = 1.98 of it


EFFECTS = {
    "generation.max_output_length": longest,
    "generation.min_output_length": shortest,
    "generation.temperature": temperature,
    "generation.seed": seed,
    "generation.top_p": top_p,
    "generation.top_k": top_k,
    "generation.stop": stop,
    "generation.repetition_penalty": repetition,
    "generation.json_schema": schema,
    "context_length": context,
    "batch_size": batches,
    "precision": precision,
    "quantization": quantization,
    "compute_dtype": compute,
    "double_quantization": double,
    "device": device,
    "device_mode": spread,
    "low_cpu_mem_usage": mapped,
    "adapters": adapters,
    "combination_type": mixing,
}


def test_both_engines_say_the_same_with_an_adapter(make, adapter):
    how = {"adapters": [{"source": adapter, "weight": 0.7}]}
    assert make("huggingface", **how).generate([ASKED, LONG]) == make("llamacpp", **how).generate(
        [ASKED, LONG]
    )


@pytest.mark.parametrize(("driver", "kind"), [cell for cell, has in fields.packs().items() if not has])
def test_a_quantization_that_a_driver_does_not_have_is_refused_and_one_that_has_it_named(driver, kind):
    source = (
        {"type": "server", "model": "m", "url": "http://127.0.0.1:9"}
        if driver in ("ollama", "openai")
        else NAME
    )
    able = next(d for (d, q), has in fields.packs().items() if has and q == kind)
    with pytest.raises(CourseError, match=rf"(?s)quantization.*{kind}.*{able}"):
        load({"source": source, "driver": driver, "quantization": kind})


@pytest.mark.parametrize(("driver", "task"), [cell for cell, has in fields.tasks().items() if not has])
def test_a_task_that_a_driver_does_not_have_is_refused(driver, task):
    source = (
        {"type": "server", "model": "m", "url": "http://127.0.0.1:9"}
        if driver in ("ollama", "openai")
        else NAME
    )
    with pytest.raises(CourseError, match=rf"{task}|this machine"):
        load({"source": source, "driver": driver, "task": task})
