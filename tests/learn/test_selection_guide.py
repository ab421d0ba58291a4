"""The selection guide: its table and its explorer describe what fits, what does not, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.learn.widgets.selection_guide import BITS, guide_table, selection_guide
from course_lib.models.catalog import PURPOSES, entries, entry, rank_models


@pytest.fixture(scope="module")
def explorer():
    return selection_guide()


def lines_of(explorer, **values):
    lines = explorer.output_for(**values).text.splitlines()
    return {line.split(":")[0]: line for line in lines}


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() == len(PURPOSES) + 1 + 3 + 3 + len(BITS) + 1 + 3


def test_it_says_which_fit_and_why_not_the_others(explorer):
    said = lines_of(explorer, memory=24)
    assert "4.2 GiB" in said["Llama-3.1-8B-Instruct"]
    assert said["Not Llama-3.3-70B-Instruct"].endswith("37.0 GiB; its weights do not fit.")
    assert (
        "knows Korean" in said["Qwen2.5-7B-Instruct"]
        and "knows Korean" not in said["Mistral-7B-Instruct-v0.3"]
    )
    assert "MiB" in said["haneul-4m"] and "only from the passages" in said["haneul-4m"]


def test_exaone_is_never_for_commercial_use_and_its_licence_is_told(explorer):
    for purpose in PURPOSES:
        assert not [
            name
            for name in lines_of(explorer, purpose=purpose, memory=192, commercial="yes")
            if name.startswith("EXAONE-")
        ]
    said = lines_of(explorer, purpose="korean", commercial="yes")
    assert "no commercial use" in said["Not EXAONE-3.5-2.4B-Instruct"]
    assert "research only" in said["EXAONE AI Model License Agreement 1.1 - NC"]
    assert "no commercial use" in lines_of(explorer, purpose="korean")["EXAONE-3.5-2.4B-Instruct"], (
        "said even where it is allowed"
    )


def test_room_for_context_and_program_is_taken_off(explorer):
    with_room, without = (
        explorer.output_for(memory=8, room=1).text,
        explorer.output_for(memory=8, room=0).text,
    )
    assert "With 7 GiB" in with_room and "Not phi-4:" in with_room
    assert "With 8 GiB" in without and "Not phi-4:" not in without
    chat = sum("chat" in e.purposes for e in entries())
    assert f"0 of {chat} models are left; give more memory" in explorer.output_for(memory=4, room=4).text


@given(
    st.sampled_from(PURPOSES),
    st.floats(0, 192),
    st.sampled_from(sorted(BITS)),
    st.sampled_from(["no", "yes"]),
)
def test_every_model_of_a_purpose_is_named_once(purpose, memory, bits, commercial):
    from course_lib.learn.widgets.selection_guide import describe

    fits = rank_models(purpose, memory, BITS[bits], commercial=commercial == "yes")
    names = [line.split(":")[0].removeprefix("Not ") for line in describe(fits, memory, {}).splitlines()]
    assert [names.count(e.model) for e in entries() if purpose in e.purposes] == [1] * len(fits)


def test_measured_speeds_stand_beside_their_models():
    said = lines_of(selection_guide({"haneul-4m": 231.4}))
    assert "231 tokens/s here" in said["haneul-4m"] and "tokens/s" not in said["haneul-1m"]
    with pytest.raises(CourseError, match="choose haneul"):
        selection_guide({"haneul-5m": 1.0})


def test_the_picture_fills_what_fits_and_draws_the_limit(explorer):
    axes = explorer.output_for(memory=24, purpose="rerank", bits="32 (float32)").picture.axes[0]
    assert list(axes.lines[0].get_xdata()) == [23, 23]
    assert [p.get_fill() for p in axes.patches] == [True] * 4
    axes = explorer.output_for(memory=3, purpose="rerank", bits="32 (float32)").picture.axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert dict(zip(names, [p.get_fill() for p in axes.patches], strict=True)) == {
        "haneul-cross-encoder": True,
        "haneul-late-interaction": True,
        "ms-marco-MiniLM-L6-v2": True,
        "bge-reranker-v2-m3": False,
    }
    explorer.output_for(memory=0)._replace(text="").picture.png()


def test_the_table_names_the_largest_that_fits():
    lines = guide_table((8, 48)).splitlines()
    assert [line.split()[0] for line in lines] == ["purpose", *PURPOSES]
    cells = {line.split()[0]: line for line in lines}
    assert "gemma-2-9b-it" in cells["chat"] and "Llama-3.3-70B-Instruct" in cells["chat"]
    assert "Qwen3-8B *" in cells["korean"] and "*" in cells["embed"]
    assert "EXAONE-3.5-7.8B-Instruct *, not for business" in guide_table((5.2,))
    assert "not for business" not in cells["chat"]
    assert "EXAONE" not in guide_table((5.2, 48), commercial=True)
    assert guide_table((1,)).splitlines()[1].split() == ["chat", "-"]
    assert guide_table((8,), room=0).splitlines()[1].split()[1] == "Qwen2.5-14B-Instruct"
    assert entry("Qwen2.5-14B-Instruct").weight_bytes(4.5) < 8 * 2**30
