"""Explorers without a browser: moved to every end, their text says all, and a static form stands in."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.learn.widgets import Choice, Explorer, Output, Range, Text
from course_lib.learn.widgets.choose_model import Candidate, choose, describe, model_chooser

CANDIDATES = (
    Candidate("small", 1.4, 90, 0.1),
    Candidate("middle", 5.5, 60, 0.7),
    Candidate("large", 17.8, 40, 0.7),
)


def explorer(show=lambda n, word: Output(f"{word} {n:g} <b>")):
    return Explorer(
        "test", "A & B", show, {"n": Range("how many", 0, 5, 1), "word": Choice("which", ("a", "b"))}
    )


def test_every_control_is_driven_to_its_ends():
    seen = []
    assert explorer(lambda n, word: seen.append((n, word)) or Output(f"{n} {word}")).drive() == 6
    assert {(0, "a"), (5, "a"), (1, "b")} <= set(seen)


@pytest.mark.parametrize(
    "show", [lambda n, word: Output(f"{n}"), lambda n, word: Output(word), lambda n, word: Output("")]
)
def test_a_control_that_changes_nothing_or_shows_nothing_is_found(show):
    with pytest.raises(AssertionError, match=r"changes nothing|shows no text"):
        explorer(show).drive()


def test_an_exception_at_an_end_is_found():
    with pytest.raises(ZeroDivisionError):
        explorer(lambda n, word: Output(f"{1 / n} {word}")).drive()


def test_hooks_names_and_escapes():
    e = explorer()
    assert "course-test" in e.box._dom_classes
    assert (
        'role="status"' in e.text.value
        and 'aria-label="A &amp; B"' in e.text.value
        and "a 1 &lt;b&gt;" in e.text.value
    )
    assert [f.description for f in e.fields.values()] == ["how many", "which"]


def test_words_are_typed_and_taken_when_the_field_is_left():
    typed = Explorer(
        "test", "T", lambda own: Output(f"<{own}>"), {"own": Text("your own", "", ("a & b", "c"))}
    )
    assert typed.drive() == 3 and typed.output_for().text == "<>"
    field = typed.fields["own"]
    assert (field.value, field.description, field.continuous_update) == ("", "your own", False)
    field.value = "a & b"
    assert "&lt;a &amp; b&gt;" in typed.text.value
    with pytest.raises(AssertionError, match="own changes nothing"):
        Explorer("test", "T", lambda own: Output("x"), {"own": Text("", "", ("a",))}).drive()


def test_a_field_is_as_wide_as_what_it_holds():
    words = {"short": Choice("", ("a", "b")), "long": Choice("", ("a" * 60,)), "typed": Text("", "", ())}
    e = Explorer("test", "T", lambda **_: Output("x"), words)
    e.box  # noqa: B018
    assert [e.fields[key].layout.width for key in words] == ["32em", "56em", "56em"]


def test_a_static_form_stands_in_where_nothing_runs():
    chooser = model_chooser(CANDIDATES)
    bundle, metadata = chooser._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Choose a model\nChoose middle")
    assert bundle["image/png"].startswith("iVBOR") and "application/vnd.jupyter.widget-view+json" in bundle
    assert metadata["image/png"]["alt"] == " ".join(bundle["text/plain"].split())
    assert f'<img alt="{html.escape(chooser.output.picture.alt)}"' in chooser.picture.value


def test_a_start_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="lies outside"):
        Explorer("x", "X", lambda n: Output("x"), {"n": Range("n", 0, 1, 2)})


@pytest.mark.parametrize(
    ("megabytes", "speed", "chosen"),
    [
        (20, 0, "middle"),
        (5.4, 0, "small"),
        (5.5, 60, "middle"),
        (20, 61, "small"),
        (1, 0, None),
        (20, 91, None),
    ],
)
def test_the_best_that_fits_is_chosen_and_a_tie_goes_to_the_smaller(megabytes, speed, chosen):
    got = choose(CANDIDATES, megabytes, speed)
    assert (got and got.name) == chosen
    text = describe(CANDIDATES, megabytes, speed)
    assert text.startswith(f"Choose {chosen}:" if chosen else "None fits")
    assert text.count("\n") == len(CANDIDATES) - bool(chosen), (
        "every other model is named with the reason against it"
    )


limits = st.floats(0, 100)


@given(
    st.lists(st.builds(Candidate, st.text(min_size=1), limits, limits, st.floats(0, 1)), min_size=1),
    limits,
    limits,
)
def test_no_better_model_fits_than_the_chosen(candidates, megabytes, speed):
    chosen = choose(candidates, megabytes, speed)
    fitting = [c for c in candidates if c.megabytes <= megabytes and c.speed >= speed]
    assert (chosen is None) == (not fitting)
    assert chosen is None or all(
        (c.right, -c.megabytes) <= (chosen.right, -chosen.megabytes) for c in fitting
    )


def test_the_picture_fills_the_choice_alone_and_draws_the_limit():
    axes = model_chooser(CANDIDATES).output_for(megabytes=6).picture.axes[0]
    assert [line.get_fillstyle() for line in axes.lines[:3]] == ["none", "full", "none"]
    assert list(axes.lines[3].get_xdata()) == [6, 6]
    assert [t.get_text() for t in axes.texts] == ["small", "middle", "large"]


def test_the_chooser_moves_and_needs_candidates():
    assert model_chooser(CANDIDATES).drive() == 6
    with pytest.raises(ValueError, match="no candidates"):
        model_chooser([])
