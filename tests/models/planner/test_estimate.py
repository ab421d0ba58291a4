"""The memory planner: what fits on which GPU, and which common rules and reports are wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.planner.architectures import architectures
from course_lib.models.planner.buffers import kv_bytes
from course_lib.models.planner.estimate import BITSANDBYTES, FORMATS, GIB, format_bytes, plan
from course_lib.models.planner.gpus import (
    GPUS,
    fits,
    fitting_models,
    gpu_bytes,
    largest_context,
    largest_model,
    largest_parameters,
    usable_bytes,
)
from course_lib.models.planner.lookup import architecture
from course_lib.models.planner.memory import BITS_OF
from course_lib.models.planner.quants import BASES, WHOLE
from tests.models.footprint import real_bytes

GPU = "GeForce RTX 3090, 24 GB"
KNOWN = architectures()
WRITERS = sorted(name for name, a in KNOWN.items() if not a.family.encoder)


def test_a_card_of_24_gb_holds_what_the_guides_say():
    """Of 24 GiB a tenth stays free, and 2 GiB hold keys and values."""
    assert gpu_bytes(GPU) == 24 * GIB
    for bits, billions in ((4.5, 37.4), (8.5, 19.8), (16, 10.5)):
        assert largest_parameters(GPU, bits, 2 * GIB) / 1e9 == pytest.approx(billions, abs=0.05)
    assert largest_parameters(int(24e9), 4.5, 2e9) / 1e9 == pytest.approx(34.8, abs=0.05), (
        "GB are 7% less than GiB"
    )


def test_the_largest_models_for_a_card_of_24_gb():
    found = {f: largest_model(GPU, f, 8192) for f in ("q4_0", "q8_0", "float16")}
    assert found == {"q4_0": "Qwen2.5-32B", "q8_0": "Qwen2.5-14B", "float16": "gemma-7b"}
    assert largest_model("A100, 80 GB", "q4_0", 8192) == "Llama-4-Scout"
    assert largest_model(GIB // 10) is None
    assert largest_context(GPU, "Llama-3.1-8B") == 131072
    assert 0 < largest_context(GPU, "Qwen2.5-32B") < 32768 and largest_context(GPU, "Llama-3.3-70B") == 0


def test_a_model_of_7_billion_does_not_need_34_gb():
    """34 GB counts 32 bits a weight and a fifth on top; nobody runs it so."""
    seven = KNOWN["Mistral-7B-v0.3"]
    assert 1.2 * seven.parameters * 4 == pytest.approx(34.8e9, rel=0.01)
    assert plan(seven, "q4_0", 4096).total == pytest.approx(4.75e9, rel=0.01)
    assert plan(seven, "float16", 4096, driver="llamacpp").total < 15.3e9
    assert fits("GeForce RTX 4060, 8 GB", seven, "q4_0", 4096) and fits(GPU, seven, "float16", 8192)


def test_a_model_of_70_billion_at_4_bits_does_not_fit_in_24_gb():
    seventy = KNOWN["Llama-3.3-70B"]
    assert seventy.parameters * 4.5 / 8 == pytest.approx(39.7e9, rel=0.001)
    at_least_4_bits = [f for f in FORMATS if not f.startswith(("q2", "q3"))]
    small = [gpu for gpu, mib in GPUS.items() if mib < 40_000]
    assert not any(fits(gpu, seventy, f, 512) for gpu in small for f in at_least_4_bits)
    assert not any(fits(gpu, seventy, f, 512) for gpu in small for f in FORMATS if GPUS[gpu] < 25_000)
    assert fits("RTX A6000, 48 GB", seventy, "q4_0", 4096)
    assert 24 * GIB * 8 / seventy.parameters < 3, "bits a weight, with nothing left for anything else"


def test_no_factor_gives_the_memory_from_the_size():
    """The rule "size x 1.2": the true factor depends on context, texts at once, heads and engine."""

    def factor(name, weight_format, context, batch=1, **options):
        needed = plan(name, weight_format, context, batch, **options)
        return needed.total / (needed.weights + needed.embeddings + needed.norms)

    assert factor("Llama-3.1-8B", "q4_0", 512) < 1.05
    assert factor("Llama-3.1-8B", "q4_0", 8192) == pytest.approx(1.27, abs=0.01)
    assert factor("Llama-3.1-8B", "q4_0", 131_072) > 4.5
    assert factor("Llama-3.1-8B", "float16", 8192, 16, driver="llamacpp") > 2
    assert factor("Llama-2-7B", "q4_0", 4096) > factor("Llama-3.1-8B", "q4_0", 4096) + 0.4, (
        "four times the heads in the cache"
    )
    assert (
        factor("gemma-2-9b", "bfloat16", 8192)
        > 1.6
        > 1.2
        > factor("gemma-2-9b", "bfloat16", 8192, driver="llamacpp")
    )


def test_the_cache_follows_from_layers_heads_and_tokens():
    assert kv_bytes(KNOWN["Llama-3.1-8B"], 8192) == GIB == 2 * 32 * 8 * 128 * 2 * 8192
    assert kv_bytes(KNOWN["Llama-2-7B"], 8192) == 4 * GIB, "without grouped queries"
    assert kv_bytes(KNOWN["Llama-3.1-8B"], 8192, 3, "q8_0") == 3 * GIB * 8.5 / 16
    assert (
        kv_bytes(KNOWN["Llama-3.1-8B"], 100, driver="huggingface") * 256
        == kv_bytes(KNOWN["Llama-3.1-8B"], 100) * 100
    )
    mistral = KNOWN["Mistral-7B-v0.1"]
    assert kv_bytes(mistral, 16384) == 4 * kv_bytes(mistral, 16384, driver="huggingface"), (
        "llama.cpp keeps all of its tokens"
    )
    assert kv_bytes(KNOWN["gemma-3-27b"], 131_072) < 0.2 * 62 * 2 * 16 * 128 * 2 * 131_072


def test_what_libraries_report_is_wrong_and_what_is_measured_here_is_right(tmp_path):
    """transformers leaves out the scales of 4-bit weights; the saved file has them all."""
    from safetensors.numpy import load_file

    engine, real = real_bytes(lambda: load("haneul-4m", quantization="nf4"))
    file = load_file(engine.save(tmp_path / "saved") / "model.safetensors")
    whole = sum(
        t.nbytes for name, t in file.items() if "quant_state" not in name
    )  # that is JSON of names and shapes
    assert real.weights == engine.weight_bytes == whole
    assert engine.model.get_memory_footprint() - real.buffers == real.weights - 214_784, (
        "4 bytes for 64 weights, and 28 tables"
    )
    stored = sum(p.numel() for p in engine.model.parameters())
    assert stored < 0.63 * engine.parameters == 0.63 * catalog.entry("haneul-4m").parameters, (
        "two weights share a byte"
    )


def test_engines_of_both_kinds_and_torch_models_are_measured():
    engine, real = real_bytes(lambda: load("haneul-1m", precision="bfloat16"))
    assert real.weights == 2 * engine.parameters and real.buffers == 2 * 16 * 4, (
        "the frequencies of its positions, twice"
    )
    again, other = real_bytes(lambda: engine.model)
    assert again is engine.model and other[:2] == real[:2]
    packed, real = real_bytes(lambda: load("haneul-1m", driver="llamacpp", quantization="q8_0"))
    assert (real.weights, real.buffers) == (
        packed.weight_bytes,
        0,
    ) and packed.weight_bytes * 8 == pytest.approx(8.5 * packed.parameters, rel=0.01)


@pytest.mark.parametrize(("context", "batch", "buffers"), [(256, 1, 3.63), (512, 1, 7.38), (512, 2, 7.51)])
def test_an_encoder_in_llama_cpp_takes_what_llama_cpp_reported(context, batch, buffers):
    """For a GGUF file with the sizes of MiniLM, by xllamacpp 2026.10, which reads a text in one piece."""
    planned = plan("all-MiniLM-L6-v2", "float32", context, batch, driver="llamacpp")
    assert (planned.weights + planned.embeddings + planned.norms) / 2**20 == pytest.approx(86.08, abs=0.005)
    assert planned.kv == 0 and planned.overhead / 2**20 == pytest.approx(buffers, abs=0.01)


plans = st.tuples(st.sampled_from(WRITERS), st.sampled_from(FORMATS), st.integers(1, 2048), st.integers(1, 9))


@given(plans)
def test_a_plan_adds_up_and_grows_with_context_and_batch(arguments):
    name, weight_format, context, batch = arguments
    planned = plan(*arguments)
    assert planned.total == sum(planned.parts.values()) and all(part > 0 for part in planned.parts.values())
    assert plan(name, weight_format, context, batch + 1).total > planned.total
    assert plan(name, weight_format, min(context + 1, KNOWN[name].context), batch).total >= planned.total
    weights = planned.weights + planned.embeddings + planned.norms
    bits = BITS_OF[BASES.get(weight_format, weight_format)]
    assert weights >= KNOWN[name].parameters * bits / 8 * 0.999


@given(plans)
def test_what_is_longest_fits_and_what_is_longer_does_not(arguments):
    name, weight_format, context, batch = arguments
    gpu = plan(*arguments).total
    longest = largest_context(gpu, name, weight_format, batch, reserve=0)
    assert longest >= context and fits(gpu, name, weight_format, longest, batch, reserve=0)
    assert longest == KNOWN[name].context or not fits(gpu, name, weight_format, longest + 1, batch, reserve=0)


@given(st.sampled_from(sorted(GPUS)), st.sampled_from(FORMATS), st.sampled_from([512, 8192, 32768]))
def test_candidates_fit_and_the_first_is_the_largest(gpu, weight_format, context):
    found = [a.name for a in fitting_models(gpu, weight_format, context)]
    assert found[:1] == [n for n in [largest_model(gpu, weight_format, context)] if n]
    assert set(found) == {
        n for n in WRITERS if KNOWN[n].context >= context and fits(gpu, n, weight_format, context)
    }


def test_the_text_says_every_part_in_order():
    lines = str(plan("Llama-3.1-8B-Instruct", "q4_0", 8192)).splitlines()
    assert lines[0] == "Llama-3.1-8B, q4_0, llamacpp: 1 x 8,192 tokens"
    assert [line.split("  ")[0].strip() for line in lines[1:]] == [
        "part",
        "weights",
        "embeddings",
        "norms",
        "KV cache",
        "overhead",
        "total",
    ]
    assert "1.00 GiB" in lines[5] and "5.46 GiB" in lines[7] and format_bytes(0) == "0.00 MiB"


def test_whole_formats_run_in_both_engines_and_packed_ones_in_their_own():
    for weight_format in FORMATS:
        expected = "llamacpp" if weight_format.startswith(("q", "iq")) else "huggingface"
        assert plan("haneul-1m", weight_format, 64).driver == expected
    assert (
        plan("haneul-1m", "float16", 64, driver="llamacpp").norms
        == 2 * plan("haneul-1m", "float16", 64).norms
    )
    assert plan("haneul-1m", "nf4", 64, precision="float32").kv == 2 * plan("haneul-1m", "nf4", 64).kv
    assert plan("all-MiniLM-L6-v2").kv == 0 and plan("all-MiniLM-L6-v2").weight_format == "float32"
    assert plan("phi-4", "Q4_K_M") == plan("phi-4", "q4_k_m"), "as files are often named"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("phi-4", "q3"), {}, r"weight_format='q3' is unknown\n.*choose one of q4_0"),
        (("phi-4", "q4_0"), {"driver": "huggingface"}, "huggingface has no format q4_0"),
        (("phi-4", "nf4"), {"driver": "llamacpp"}, "llamacpp has no format nf4"),
        (("phi-4", "q4_0"), {"driver": "ollama"}, "'ollama' is not supported by the planner"),
        (("phi-4", "q4_0", 16385), {}, r"1 x 16,385 tokens; phi-4 reads 1 to 16,384"),
        (("phi-4", "q4_0", 0), {}, "1 x 0 tokens"),
        (("phi-4", "q4_0", 64, 0), {}, "0 x 64 tokens"),
        (("phi-4", "q4_0"), {"precision": "float32"}, "precision='float32' with q4_0"),
        (("phi-4", "nf4"), {"precision": "q8_0"}, "precision='q8_0' with nf4"),
        (("phi-4", "nf4"), {"kv": "q8_0"}, "kv='q8_0' for huggingface"),
        (("phi-4", "q4_0"), {"kv": "nf4"}, "kv='nf4' for llamacpp"),
        (("phi-4", "int8"), {"double_quantization": True}, "double_quantization with int8"),
        (("x" * 999,), {}, f"not know a model '{'x' * 100}'"),
        (("Llama-3:13b",), {}, "not know a model 'Llama-3:13b'"),
    ],
)
def test_what_cannot_be_is_refused(arguments, options, message):
    with pytest.raises(CourseError, match=message):
        plan(*arguments, **options)


def test_a_card_is_named_or_given_in_bytes():
    assert (
        usable_bytes(1000) == 900
        and usable_bytes(1000, 0) == 1000
        and set(WHOLE) | set(BITSANDBYTES) < set(FORMATS)
    )
    with pytest.raises(CourseError, match="unknown GPU 'RTX 9090'"):
        gpu_bytes("RTX 9090")
    with pytest.raises(ValueError, match=r"reserve=1\.5"):
        usable_bytes(GPU, 1.5)
    with pytest.raises(ValueError, match="bits=0"):
        largest_parameters(GPU, 0)
    assert largest_parameters(GPU, 4.5, 1e12) == 0
    promised = [int(name.split(", ")[1].split()[0]) for name in GPUS]
    assert all(0.93 * gb <= mib / 1024 <= gb for gb, mib in zip(promised, GPUS.values(), strict=True)), (
        "GB are said, GiB meant"
    )
    assert architecture("phi-4").context == 16384
