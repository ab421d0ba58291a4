"""Quantization by hand equals llama.cpp's and bitsandbytes', bit by bit; models get their weights back."""

import logging

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf import quants as gguf_quants
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from course_lib import data
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.gguf import export
from course_lib.tuning import FORMATS, absmax, format_of, matrices, quantized, relative_error
from course_lib.tuning import quantize as q
from course_lib.tuning.quantize import block_errors, largest_error, snr_db

logging.disable(logging.WARNING)  # bitsandbytes warns at its import of a kernel that is not there
from bitsandbytes import functional as bnb  # noqa: E402

logging.disable(logging.NOTSET)

NAME = "haneul-300k"
LARGEST_OF_HALF = {"q8_0": 65504 * 127, "q4_0": 65504 * 8}  # weights whose scale is the largest float16
ROUGH = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def matrix(rows: int, row: int, seed: int, exponent: float, spread: float) -> np.ndarray:
    """Normal weights of about 10^exponent, whose rows differ by powers of ten."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** (exponent + spread * rng.random((rows, 1)))
    return (rng.normal(size=(rows, row)) * scale).clip(-1e37, 1e37).astype(np.float32)


def weights(row: int, largest: float = 1e37, rows: int = 4):
    """Matrices with rows of `row` weights: any float32, normal ones of any size, constants, few values."""
    shape = st.tuples(st.integers(1, rows), st.integers(1, 4).map(lambda blocks: blocks * row))
    bound = float(np.float32(largest))
    value = st.floats(-bound, bound, width=32)
    few = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 8.0, -8.0, 3.5, 127.0, -127.0, 63.5])
    normal = st.builds(
        matrix,
        st.integers(1, rows),
        st.just(2 * row),
        st.integers(0, 2**32),
        st.floats(-44, 35),
        st.floats(0, 6),
    )
    return st.one_of(
        shape.flatmap(lambda s: arrays(np.float32, s, elements=value)),
        shape.flatmap(lambda s: arrays(np.float32, s, elements=few)),
        shape.flatmap(lambda s: value.map(lambda v: np.full(s, v, np.float32))),
        normal.map(lambda w: w.clip(-bound, bound)),
    )


# -- llama.cpp


@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
@ROUGH
@given(st.data())
def test_bytes_are_those_of_llama_cpp(name, data):
    original = data.draw(weights(32, LARGEST_OF_HALF[name]))
    kind = GGMLQuantizationType[name.upper()]
    packed, *rest = FORMATS[name].store(original)
    with np.errstate(all="ignore"):
        theirs = gguf_quants.quantize(original, kind)
        scales = np.abs(original.reshape(-1, 32)).max(1) / np.float32(127 if name == "q8_0" else 8)
        known = (scales == 0) | np.isfinite(
            1 / scales
        )  # else theirs casts infinity to an integer, which C leaves open
    size = packed.size // known.size
    assert packed.shape == theirs.shape and not rest
    assert np.array_equal(packed.reshape(-1, size)[known], theirs.reshape(-1, size)[known])
    assert np.array_equal(FORMATS[name].roundtrip(original), gguf_quants.dequantize(theirs, kind))


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 3e-45, -1e-40, 1e-8, 4e5, -4e5])
@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
def test_constants_come_back(name, value):
    original = np.full((2, 64), value, np.float32)
    within = (
        abs(value) * 2**-11 + 6e-8 * 127
    )  # half a step of a float16: of its last bit, or of the smallest one there is
    assert largest_error(original, FORMATS[name].roundtrip(original)) <= within


def test_q4_0_gives_the_largest_weight_the_code_of_which_there_is_one():
    codes, scales = q.quantize_q4_0(np.linspace(-0.9, 1, 32))
    assert (codes.min(), codes.max(), scales.item()) == (-8, 7, -0.125)
    codes, scales = q.quantize_absmax(np.linspace(-0.9, 1, 32), bits=4)
    assert (codes.min(), codes.max()) == (-6, 7)


def test_a_byte_of_q4_0_holds_a_weight_of_either_half():
    codes, scales = q.quantize_q4_0(np.arange(-8, 8).repeat(2))
    packed = q.pack_q4_0(codes, scales)
    assert packed[2:].tolist() == [
        (low + 8) | (high + 8) << 4 for low, high in zip(*codes.reshape(2, 16).tolist(), strict=True)
    ]
    assert np.array_equal(q.unpack_q4_0(packed)[0], codes)


def test_a_weight_too_large_for_a_float16_scale_is_refused():
    for name, largest in LARGEST_OF_HALF.items():
        FORMATS[name].store(np.full(32, largest))
        with pytest.raises(CourseError, match=r"needs the scale 131,008, but the largest float16 is 65,504"):
            FORMATS[name].store(np.full(32, 2 * largest))


def test_bytes_that_are_no_whole_blocks_are_refused():
    with pytest.raises(CourseError, match="33 bytes in a row are not a multiple of a block's 34"):
        q.unpack_q8_0(np.zeros((2, 33), np.uint8))
    with pytest.raises(CourseError, match="3 scales cannot be shared among 64 codes"):
        q.dequantize(np.zeros(64, np.int8), np.ones(3))


# -- bitsandbytes


@pytest.mark.parametrize("name", ["nf4", "fp4"])
@ROUGH
@given(st.data())
def test_four_bits_are_those_of_bitsandbytes(name, data):
    original = data.draw(weights(64))
    packed, largest = FORMATS[name].store(original)
    theirs, state = bnb.quantize_4bit(torch.from_numpy(original), quant_type=name)
    assert np.array_equal(packed, theirs.numpy()[:, 0])
    assert np.array_equal(largest, state.absmax.numpy())
    np.testing.assert_allclose(
        FORMATS[name].roundtrip(original), bnb.dequantize_4bit(theirs, state).numpy(), rtol=1e-6
    )


@ROUGH
@given(original=weights(64, largest=1e30, rows=20))
@example(original=matrix(64, 1024, 1, 0, 3))  # 1,024 blocks: four of their absmaxes' own blocks
def test_double_quantization_is_that_of_bitsandbytes_but_for_its_grid(original):
    """Codes are equal or a neighbour as near, up to the step of the grid to which their kernel rounds."""
    codes, second, mean = FORMATS["nf4-double"].store(original)[1:]
    theirs = bnb.quantize_4bit(torch.from_numpy(original), quant_type="nf4", compress_statistics=True)[1]
    largest = q.quantize_nearest(original, q.NF4, 64)[1]
    assert (codes.shape, second.shape) == (theirs.absmax.shape, theirs.state2.absmax.shape)
    rounding = (
        1e-6 * largest.max() + 1e-38
    )  # float32 sums in another order give another mean; at 1e-38 no reciprocal is held
    assert (
        abs(mean - theirs.offset.item()) <= rounding
        and np.abs(second - theirs.state2.absmax.numpy()).max() <= rounding
    )
    ours = np.abs(q.dequantize_absmaxes(codes, second, mean) - largest)
    other = np.abs(
        bnb.dequantize_blockwise(theirs.absmax, theirs.state2).numpy() + theirs.offset.item() - largest
    )
    assert np.all(np.abs(ours - other) <= second.max() / 32767 + 2 * rounding)
    assert np.all(ours <= other + 2 * rounding)  # theirs is never nearer


def test_double_quantization_of_a_model_has_the_codes_of_bitsandbytes():
    model = load(NAME).model
    for weight in matrices(model).values():
        codes = FORMATS["nf4-double"].store(weight.detach().numpy())[1]
        theirs = bnb.quantize_4bit(weight.detach(), quant_type="nf4", compress_statistics=True)[
            1
        ].absmax.numpy()
        assert np.abs(codes.astype(int) - theirs).max() <= 1 and np.mean(codes == theirs) > 0.98


@ROUGH
@given(original=weights(8, largest=1e30))
def test_int8_codes_are_those_of_bitsandbytes(original):
    codes, scales = q.quantize_absmax(original, 8, per="row")
    known = scales * 127 > 1e-35  # below, theirs divides by 0
    theirs, largest, _ = bnb.int8_vectorwise_quant(torch.from_numpy(original.copy()))
    assert np.array_equal(codes[known], theirs.numpy()[known])
    np.testing.assert_allclose(scales * 127, largest.numpy(), rtol=1e-6, atol=1e-43)


def test_the_recipe_of_nf4_gives_the_published_values():
    assert np.abs(q.normal_float() - q.NF4).max() < 2e-7
    assert np.array_equal(q.NF4, bnb.get_4bit_type("nf4", "cpu").numpy())
    assert q.normal_float()[[0, 7, 15]].tolist() == [-1, 0, 1]


def test_the_values_of_fp4_and_of_the_8_bit_type_are_those_of_bitsandbytes():
    assert np.array_equal(q.FP4, bnb.get_4bit_type("fp4", "cpu").numpy())
    np.testing.assert_allclose(q.dynamic_values(), bnb.create_dynamic_map().numpy(), rtol=2e-7)


# -- absmax and every format


@ROUGH
@given(original=weights(8), bits=st.integers(2, 8), per=st.sampled_from(["tensor", "row", 8, 4]))
def test_absmax_is_off_by_half_a_step_at_most(original, bits, per):
    codes, scales = q.quantize_absmax(original, bits, per)
    off = np.abs(q.dequantize(codes, scales) - original).reshape(scales.size, -1)
    assert codes.shape == original.shape and np.abs(codes).max() < 2 ** (bits - 1)
    assert np.all(off.max(1) <= scales * np.float32(0.5001) + 4e-37)  # whose quotient with 127 is no float32


@ROUGH
@given(codes=arrays(np.uint8, st.integers(1, 40)), bits=st.integers(1, 8))
def test_packed_codes_come_back(codes, bits):
    codes = codes >> (8 - bits)
    packed = q.pack(codes, bits)
    assert packed.size == -(-codes.size * bits // 8) and np.array_equal(
        q.unpack(packed, bits, codes.size), codes
    )


@pytest.mark.parametrize("name", FORMATS)
@settings(ROUGH, max_examples=12)
@given(st.data())
def test_each_format_keeps_shapes_and_zeros_and_what_is_rounded_already(name, data):
    original = data.draw(weights(64, largest=1e5))
    kept = original.copy()
    back = FORMATS[name].roundtrip(original)
    assert back.shape == original.shape and back.dtype == np.float32 and np.isfinite(back).all()
    assert np.array_equal(original, kept)
    assert not FORMATS[name].roundtrip(np.zeros_like(original)).any()
    if np.abs(original).max() > 1e-3:  # below, a float16 scale has few bits or none
        assert relative_error(original, back) <= 1
        assert "double" in name or relative_error(back, FORMATS[name].roundtrip(back)) < 1e-3


BITS = {
    "int8-tensor": 8,
    "int8": 8 + 32 / 1024,
    "q8_0": 8.5,
    "int4-tensor": 4,
    "int4-row": 4 + 32 / 1024,
    "int4-block": 5,
    "q4_0": 4.5,
    "nf4": 4.5,
    "nf4-double": 4 + 8 / 64 + 32 / (64 * 256),
    "fp4": 4.5,
    "fp4-double": 4 + 8 / 64 + 32 / (64 * 256),
}


def test_each_format_takes_its_bits():
    assert {name: fmt.bits for name, fmt in FORMATS.items()} == pytest.approx(BITS, abs=1e-4)
    assert FORMATS["q4_0"].nbytes(np.ones((3, 64))) == 3 * 2 * 18
    assert absmax(3, "row").nbytes(np.ones((4, 64))) == 4 * 64 * 3 / 8 + 4 * 4


def test_more_bits_and_smaller_groups_come_nearer():
    original = matrix(64, 256, 0, -2, 1)
    errors = [relative_error(original, absmax(bits, "row").roundtrip(original)) for bits in range(2, 9)]
    assert errors == sorted(errors, reverse=True)
    errors = [
        relative_error(original, absmax(4, per).roundtrip(original)) for per in ("tensor", "row", 32, 8)
    ]
    assert errors == sorted(errors, reverse=True)


def test_errors_are_what_they_say():
    before, after = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[3.0, 4.5], [0.0, 1.0]])
    assert relative_error(before, after) == pytest.approx(1.25**0.5 / 5)
    assert block_errors(before, after, "row").tolist() == [0.1, np.inf]
    assert largest_error(before, after) == 1
    assert snr_db(before, before * np.float32(1.5)) == pytest.approx(6.0206, abs=1e-4)
    assert (relative_error(before, before), snr_db(before, before)) == (0, np.inf)
    with pytest.raises(CourseError, match=r"shape \(2, 2\) cannot be compared with \(4,\)"):
        relative_error(before, after.ravel())


# -- bad input


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e38])
def test_weights_that_no_scale_holds_are_refused(name, bad):
    original = np.ones((2, 64))
    original[1, 3] = bad
    with pytest.raises(CourseError, match="1 of 128 weights are NaN, infinite or above 1e\\+38"):
        FORMATS[name].roundtrip(original)


@pytest.mark.parametrize(
    "bad", [[], np.zeros((0, 64)), 1.0, ["a"], [1j], [[1], [1, 2]], None, torch.ones(64).bfloat16()]
)
def test_what_holds_no_numbers_is_refused(bad):
    for fmt in FORMATS.values():
        with pytest.raises(CourseError, match="weights"):
            fmt.roundtrip(bad)


def test_a_block_that_does_not_divide_is_refused_with_both_numbers():
    for name in ("q8_0", "q4_0", "int4-block"):
        with pytest.raises(CourseError, match="48 weights in a row cannot be cut into blocks of 32"):
            FORMATS[name].roundtrip(np.ones((2, 48)))
    FORMATS["nf4"].roundtrip(np.ones((4, 48)))  # as in bitsandbytes, a block runs on into the next row
    with pytest.raises(CourseError, match="96 weights in a row cannot be cut into blocks of 64"):
        FORMATS["nf4"].roundtrip(np.ones((2, 48)))


def test_the_fix_for_a_block_that_does_not_divide_is_one_that_the_caller_can_paste():
    original, values = matrix(2, 48, 0, 0, 0), q.NF4

    def fix(call):
        with pytest.raises(CourseError, match="weights in a row cannot be cut into blocks") as raised:
            call()
        return raised.value.fix

    assert fix(lambda: q.quantize_absmax(original, per=64)) == "per=48"
    assert fix(lambda: block_errors(original, original)) == "per=24"
    for call in (q.quantize_q8_0, q.quantize_q4_0):
        other = eval(fix(lambda call=call: call(original)), {"format_of": format_of})
        assert relative_error(original, other.roundtrip(original)) < 0.2
    pasted = fix(lambda: q.quantize_nearest(original, values, 64))
    names = {"quantize_nearest": q.quantize_nearest, "weights": original, "values": values}
    assert eval(pasted, names)[1].size == 2, "two blocks of 48"


def test_a_weight_beside_zero_has_the_code_of_bitsandbytes():
    """FP4 has two zeros, of which the oracle takes the second one for weights above 0."""
    nearest = [0.0, -0.0, 1e-3, -1e-3, 1e-30, -1e-30, 1e-45, -1e-45, 1 / 384, -1 / 384, 0.0026, -0.0026]
    for name in ("nf4", "fp4"):
        for largest in (1.0, -1.0, 1e-30, 1e-38, 1e-42, 1e37):
            original = np.zeros((1, 64), np.float32)
            original[0, : len(nearest)] = np.array(nearest) * largest
            original[0, -1] = largest
            packed, absmax_ = FORMATS[name].store(original)
            theirs, state = bnb.quantize_4bit(torch.from_numpy(original), quant_type=name)
            assert np.array_equal(packed, theirs.numpy()[:, 0]), (name, largest)
            assert np.array_equal(absmax_, state.absmax.numpy())


def test_what_is_not_there_is_refused_with_what_is():
    with pytest.raises(CourseError, match=r"no format 'q5_1'(.|\n)*q8_0(.|\n)*nf4-double"):
        format_of("q5_1")
    with pytest.raises(CourseError, match="bits=9"):
        absmax(9, "row").roundtrip(np.ones(8))
    for per in ("column", 0, -8, 2.5):
        with pytest.raises(CourseError, match='it must be "tensor"'):
            q.quantize_absmax(np.ones(8), per=per)


# -- in a model


@pytest.fixture(scope="module")
def engine():
    return load(NAME)


@pytest.fixture(scope="module")
def texts():
    return [p.text for p in data.load_passages().values()][::60]


def snapshot(model):
    return {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}


def same(model, before):
    return all(
        p.data_ptr() == before[n][0] and torch.equal(p, before[n][1]) for n, p in model.named_parameters()
    )


def test_a_model_is_rounded_for_a_while_and_gets_its_own_weights_back(engine, texts):
    before, whole = snapshot(engine.model), engine.perplexity(texts)
    with quantized(engine.model, "int4-tensor") as model:
        assert model is engine.model and engine.perplexity(texts) > whole * 1.01
    assert same(engine.model, before) and engine.perplexity(texts) == whole
    with pytest.raises(ZeroDivisionError), quantized(engine.model, "q4_0"):
        1 / 0  # noqa: B018
    with quantized(engine.model, "q8_0", "*.q_proj"), quantized(engine.model, "q4_0", "*.q_proj"):
        pass
    assert same(engine.model, before)


def test_only_the_chosen_layers_are_rounded(engine):
    before = snapshot(engine.model)
    with quantized(engine.model, "q4_0", ["model.layers.1.*", "model.layers.0.mlp.up_proj"]):
        changed = {n for n, p in engine.model.named_parameters() if not torch.equal(p, before[n][1])}
    assert changed == {
        n
        for n in before
        if ("layers.1." in n or n == "model.layers.0.mlp.up_proj.weight") and "norm" not in n
    }


def test_tied_embeddings_are_one_originaland_left_whole_unless_asked_for(engine):
    linear, every = matrices(engine.model), matrices(engine.model, embeddings=True)
    assert len(linear) == 7 * engine.model.config.num_hidden_layers and {p.ndim for p in every.values()} == {
        2
    }
    assert every.keys() - linear.keys() == {"model.embed_tokens"}
    with quantized(engine.model, "q4_0", "model.embed_tokens", embeddings=True) as model:
        assert model.lm_head.weight is model.get_input_embeddings().weight
        assert np.array_equal(
            model.lm_head.weight.detach().numpy(),
            FORMATS["q4_0"].roundtrip(snapshot_of(NAME)["model.embed_tokens.weight"]),
        )
    with (
        pytest.raises(CourseError, match=r"no layer fits 'model\.embed_tokens'"),
        quantized(engine.model, "q4_0", "model.embed_tokens"),
    ):
        pass


def snapshot_of(name):
    from safetensors.torch import load_file

    return {n: t.float().numpy() for n, t in load_file(MODELS / name / "model.safetensors").items()}


def test_an_output_layer_of_its_own_is_an_embedding_too():
    from transformers import LlamaConfig, LlamaForCausalLM

    small = LlamaConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=64,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(small)
    assert matrices(model, embeddings=True).keys() - matrices(model).keys() == {
        "model.embed_tokens",
        "lm_head",
    }


@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
def test_a_model_rounded_here_holds_what_its_gguf_file_holds(engine, tmp_path, name):
    tensors = {t.name: t for t in GGUFReader(export(MODELS / NAME, tmp_path / "m.gguf", name)).tensors}
    theirs = {n: gguf_quants.dequantize(t.data, t.tensor_type) for n, t in tensors.items()}
    with quantized(engine.model, name, embeddings=True) as model:
        assert np.array_equal(
            model.get_input_embeddings().weight.detach().numpy(), theirs["token_embd.weight"]
        )
        for i, layer in enumerate(model.model.layers):
            assert np.array_equal(
                layer.mlp.down_proj.weight.detach().numpy(), theirs[f"blk.{i}.ffn_down.weight"]
            )


@pytest.mark.parametrize(("name", "double"), [("nf4", False), ("nf4", True), ("fp4", False)])
def test_a_model_rounded_here_says_what_bitsandbytes_says(engine, texts, name, double):
    theirs = load(NAME, quantization=name, double_quantization=double, compute_dtype="float32")
    within = (
        0.05 if double else 1e-3
    )  # doubly quantized, an absmax of theirs can be a neighbour of ours, as near by their grid
    with quantized(engine.model, f"{name}-double" if double else name):
        np.testing.assert_allclose(
            engine.log_probabilities(texts[0]), theirs.log_probabilities(texts[0]), atol=within
        )
    assert (
        np.abs(np.subtract(engine.log_probabilities(texts[0]), theirs.log_probabilities(texts[0]))).max()
        > 0.3
    )


def test_what_cannot_be_rounded_leaves_the_model_as_it_was(engine):
    before = snapshot(engine.model)
    with pytest.raises(CourseError, match="no format 'q9'"), quantized(engine.model, "q9"):
        pass
    with (
        pytest.raises(CourseError, match=r"no layer fits '\*\.banana'(.|\n)*layers\.0\.self_attn\.q_proj"),
        quantized(engine.model, "q4_0", "*.banana"),
    ):
        pass
    bad = absmax(4, 96, "thirds")
    with (
        pytest.raises(
            CourseError, match=r"q_proj as thirds: 64 weights in a row cannot be cut into blocks of 96"
        ),
        quantized(engine.model, bad),
    ):
        pass
    with (
        pytest.raises(CourseError, match="HuggingFace is not a transformers model"),
        quantized(engine, "q4_0"),
    ):
        pass
    with pytest.raises(
        CourseError, match=r"14 layers, the first model\.layers\.0\.self_attn\.q_proj, are quantized already"
    ):
        matrices(load(NAME, quantization="nf4").model)
    assert same(engine.model, before)
