"""Bytes and operations of reading and writing: torch's count; what batches, windows and experts change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.exam.roofline import reading, writing
from course_lib.models.planner import architecture, kv_bytes, plan

LLAMA = architecture("Llama-3.1-8B")
FORMATS = st.sampled_from(["float16", "q8_0", "q4_k_m"])


def counted(run):
    """Operations by torch.utils.flop_counter: of the model's matrices, and of products of two activations."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    of = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    return of.pop("aten.mm"), of.pop("aten.bmm"), of


@pytest.mark.parametrize("name", ["haneul-300k", "haneul-4m"])
def test_operations_are_those_that_torch_counts(name):
    import torch
    from transformers import AutoModelForCausalLM

    model, n = AutoModelForCausalLM.from_pretrained(MODELS / name, attn_implementation="eager"), 60
    ids, sizes = torch.zeros((1, n), dtype=torch.long), architecture(name)
    with torch.inference_mode():
        matrices, products, others = counted(lambda: model(ids, logits_to_keep=1, use_cache=False))
        past = model(ids).past_key_values
        step, step_products, _ = counted(lambda: model(ids[:, :1], past_key_values=past))
    pairs = 4 * sizes.layers * sizes.heads * sizes.head_dim
    assert (products, others) == (pairs * n * n, {})
    # torch multiplies all n x n pairs of tokens, of which those with a later token are thrown away.
    assert reading(name, n, "float32", driver="huggingface").flops == matrices + pairs * n * (n + 1) // 2
    assert writing(name, n + 1, "float32", driver="huggingface").flops == step + step_products


def test_a_token_needs_the_weights_once_the_output_matrix_and_its_cache():
    needed = plan(LLAMA, "float16", 1024, driver="llamacpp")
    one = writing(LLAMA, 1024, "float16", driver="llamacpp").bytes
    assert one == needed.weights + needed.norms + needed.embeddings / 2 + kv_bytes(LLAMA, 1024)
    tied = architecture("Llama-3.2-1B")
    whole = plan(tied, "float16", 256, driver="llamacpp")
    assert writing(tied, 256, "float16", driver="llamacpp").bytes == whole.total - whole.overhead


@given(FORMATS, st.integers(1, 4000), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_texts_that_are_written_together_share_the_weights(weight_format, context, batch):
    one, more = (writing(LLAMA, context, weight_format, b) for b in (1, batch))
    assert more.flops == batch * one.flops
    cache = kv_bytes(LLAMA, context, driver=plan(LLAMA, weight_format).driver)
    assert more.bytes == pytest.approx(one.bytes + (batch - 1) * cache)


@given(FORMATS, st.integers(1, 4000), st.integers(0, 500))
@settings(deadline=None, max_examples=30)
def test_longer_texts_are_never_less_work(weight_format, tokens, longer):
    for work in (reading, writing):
        less, more = work(LLAMA, tokens, weight_format), work(LLAMA, tokens + longer, weight_format)
        assert more.bytes >= less.bytes and more.flops >= less.flops


def test_llamacpp_reads_the_weights_again_for_each_512_tokens():
    once, twice = (reading(LLAMA, n, "q8_0").bytes for n in (512, 513))
    cache = kv_bytes(LLAMA, 513) - kv_bytes(LLAMA, 512)
    assert twice - cache == pytest.approx(2 * (once - kv_bytes(LLAMA, 512)) + kv_bytes(LLAMA, 512))
    whole = [reading(LLAMA, n, "float16", driver="huggingface") for n in (512, 513)]
    assert whole[1].bytes - whole[0].bytes == kv_bytes(LLAMA, 1, driver="huggingface")


def test_a_window_saves_operations_where_the_text_is_longer():
    gemma = architecture("gemma-3-1b")
    layer = 4 * gemma.heads * gemma.head_dim
    steps = [writing(gemma, n, "q8_0").flops for n in (gemma.window, gemma.window + 100)]
    assert steps[1] - steps[0] == layer * (gemma.layers - gemma.windowed) * 100
    read = [reading(gemma, n, "q8_0").flops for n in (gemma.window + 99, gemma.window + 100)]
    # Where the whole text is seen, the last token adds its own step; only the logits are computed once.
    assert read[1] - read[0] == steps[1] - 2 * gemma.vocabulary * gemma.hidden


def test_one_token_reads_its_experts_and_many_read_all():
    model = architecture("Qwen3-30B-A3B")
    needed = plan(model, "q4_k_m", 256)
    bytes_of = [writing(model, 256, "q4_k_m", batch).bytes - batch * needed.kv for batch in (1, 2, 400)]
    always = needed.norms + needed.embeddings / 2
    assert bytes_of[0] == pytest.approx(needed.weights - needed.idle + always)
    assert bytes_of[0] < bytes_of[1] < 2 * bytes_of[0] and bytes_of[1] < bytes_of[2]
    assert bytes_of[2] == pytest.approx(needed.weights + always, rel=1e-6)


def test_the_longer_of_the_two_times_counts():
    work = writing(LLAMA, 512, "q4_0")
    assert work.seconds(1e9, 1e18) == work.bytes / 1e9 and work.seconds(1e18, 1e9) == work.flops / 1e9


def test_an_encoder_writes_nothing():
    with pytest.raises(CourseError, match="multilingual-e5-small is an encoder"):
        reading("multilingual-e5-small", 100)
