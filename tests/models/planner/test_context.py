"""How many tokens a model reads where nobody said: as its memory allows, and it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.models.planner import choose_context, plan
from course_lib.models.planner.buffers import CACHE_STEP
from course_lib.models.planner.context import MOST_TOKENS, SHARE
from course_lib.models.planner.estimate import format_bytes

MIB = 2**20


@given(st.integers(100 * MIB, 20_000 * MIB), st.integers(1, 8), st.sampled_from(["q8_0", "float16"]))
def test_what_is_chosen_fits_and_twice_as_much_does_not(free, slots, weight_format):
    name, driver = "SmolLM2-360M", "llamacpp"

    def beside_weights(tokens):
        planned = plan(name, weight_format, tokens, slots, driver=driver)
        needed = planned.kv + planned.overhead
        return needed, SHARE * (free - planned.total + needed)

    try:
        chosen = choose_context(name, free, slots, weight_format=weight_format, driver=driver)
    except CourseError as error:
        needed, limit = beside_weights(CACHE_STEP)
        assert needed > limit and f"{slots} x {CACHE_STEP} tokens" in error.what
        assert ("batch_size" in error.fix) == (slots > 1)
        return
    needed, limit = beside_weights(chosen.tokens)
    assert chosen.bytes == needed <= limit and chosen.trained == 8192
    assert chosen.tokens == MOST_TOKENS or beside_weights(2 * chosen.tokens)[0] > limit


def test_the_length_of_the_training_is_never_taken_in_silence():
    chosen = choose_context("Llama-3.1-8B", 64 * 2**30)
    assert (chosen.tokens, chosen.trained) == (MOST_TOKENS, 131_072)
    assert str(chosen).startswith(
        "Llama-3.1-8B reads 4,096 tokens of the 131,072 that it was trained for; set context_length"
    )
    short = choose_context("haneul-1m", 2**30, driver="llamacpp")
    assert short.tokens == short.trained == 2048 and "trained" not in str(short)


def test_an_encoder_reads_all_that_it_was_trained_for_if_there_is_memory():
    planned = plan("all-MiniLM-L6-v2", context=512)
    assert choose_context("all-MiniLM-L6-v2", 2**30)[1:] == (512, 512, planned.overhead)
    weights = planned.total - planned.overhead
    assert choose_context("all-MiniLM-L6-v2", weights + planned.overhead)[1:3] == (256, 512)


def test_by_default_it_is_chosen_for_this_machine():
    import psutil

    assert choose_context("haneul-1m") == choose_context("haneul-1m", psutil.virtual_memory().available)
    planned = plan("Llama-3.3-70B", None, CACHE_STEP)
    weights = planned.total - planned.kv - planned.overhead
    told = rf"{format_bytes(weights)} for its weights and .* for 1 x 256 tokens.*; 1\.00 GiB are free"
    with pytest.raises(CourseError, match=told):
        choose_context("Llama-3.3-70B", 2**30)
