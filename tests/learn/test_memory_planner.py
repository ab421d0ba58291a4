"""The memory planner's explorer: every control acts, its text says what fits, its picture draws the same."""

import pytest

from course_lib.errors import CourseError
from course_lib.learn.widgets.memory_planner import MODELS, describe, memory_planner
from course_lib.models.planner.estimate import FORMATS, GIB, plan
from course_lib.models.planner.gpus import GPUS, fits, gpu_bytes, largest_context

GPU = "GeForce RTX 3090, 24 GB"


@pytest.fixture(scope="module")
def explorer():
    return memory_planner()


def lines_of(explorer, **values):
    return explorer.output_for(**values).text.splitlines()


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() == len(GPUS) + 1 + len(MODELS) + 1 + len(FORMATS) + 1 + 3 + 3


def test_the_parts_are_said_with_their_bytes(explorer):
    lines = lines_of(explorer)
    assert lines[0] == "Llama-3.1-8B in q4_0 with llama.cpp, 1 x 8,192 tokens: 5.46 GiB (5.87 GB)."
    assert lines[1:6] == [
        "- weights: 3.66 GiB, 67%",
        "- embeddings: 0.68 GiB, 12%",
        "- norms: 1.02 MiB, 0%",
        "- KV cache: 1.00 GiB, 18%",
        "- overhead: 0.13 GiB, 2%",
    ]
    assert f"{GPU} holds 24.00 GiB, of which 10% stay free: it fits, 16.14 GiB are left." in lines
    assert "The longest context that fits: 131,072 tokens, all that it supports." in lines
    assert "The largest known model that fits with these settings: Qwen2.5-32B." in lines


def test_it_says_how_much_is_missing(explorer):
    lines = lines_of(explorer, model="Llama-3.3-70B")
    missing = plan("Llama-3.3-70B", "q4_0", 8192).total - 0.9 * gpu_bytes(GPU)
    assert f"it does not fit, {missing / GIB:.2f} GiB are missing" in lines[6]
    assert lines[7] == "The longest context that fits: none."
    longest = largest_context(GPU, "Qwen2.5-32B")
    assert f"{longest:,} tokens, of the 32,768 that it supports" in lines_of(explorer, model="Qwen2.5-32B")[7]


@pytest.mark.parametrize("weight_format", FORMATS)
def test_what_is_said_to_fit_fits(weight_format):
    for model in MODELS:
        text = describe(plan(model, weight_format, 4096, 2), GPU)
        assert ("it fits," in text) == fits(GPU, model, weight_format, 4096, 2)


def test_a_context_that_a_model_does_not_read_is_refused_in_words(explorer):
    shown = explorer.output_for(model="gemma-2-9b", context=16384)
    assert shown.text.startswith("1 x 16,384 tokens; gemma-2-9b reads 1 to 8,192\n  Fix: ")
    assert shown.picture is None


def test_a_mixture_of_experts_is_explained(explorer):
    text = explorer.output_for(model="Qwen3-30B-A3B", weight_format="q4_k_m").text
    assert "one token uses 1.55 GiB of the weights, and the memory holds all" in text
    assert "experts" not in explorer.output_for().text


def test_what_stays_whole_and_what_else_needs_memory_is_said(explorer):
    assert "Only the matrices of the layers are quantized" in explorer.output_for(weight_format="nf4").text
    assert "own programs need memory" in explorer.output_for(gpu="laptop, 16 GB of RAM").text
    assert "own programs" not in explorer.output_for().text


@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Llama-3.3-70B"])
def test_the_bar_ends_before_the_limit_where_it_fits(explorer, model):
    axes = explorer.output_for(model=model).picture.axes[0]
    parts = plan(model, "q4_0", 8192).parts
    widths = [bar.get_width() * GIB for bar in axes.patches]
    assert widths == pytest.approx([*parts.values(), 0.1 * gpu_bytes(GPU)], abs=1)
    end = axes.patches[-1].get_x() + axes.patches[-1].get_width()
    assert list(axes.lines[0].get_xdata()) == [24, 24] and axes.lines[0].get_linestyle() == "--"
    assert (end <= 24) == fits(GPU, model, "q4_0", 8192) and axes.get_xlim()[1] > max(end, 24)


def test_own_models_can_be_planned_for_and_unknown_ones_are_refused():
    assert "haneul-4m in q4_0" in memory_planner(["haneul-4m"]).output_for(context=2048).text
    with pytest.raises(CourseError, match="not know a model 'llama3:13b'"):
        memory_planner(["llama3:13b"])
    with pytest.raises(ValueError, match="no models"):
        memory_planner([])
