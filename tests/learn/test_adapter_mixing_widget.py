"""Chapter 05's widget over a real model and random adapters: it shows what `load` gives."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model

from course_lib.learn.widgets.adapter_mixing import adapter_mixing, describe, describe_style, formula
from course_lib.models import load
from course_lib.models.drivers.reply import Reply
from course_lib.models.schema import ModelSpec
from course_lib.rag.prompt import Source, question_prompt

BASE = "haneul-300k"
QUESTIONS = {
    "fee <b>": question_prompt("What is the fee for a card?"),
    "hours": question_prompt("When does it open?", [Source("Hours", "The branch opens at 09:00.")]),
}


def made(folder, seed, **changes):
    """A random adapter of the base, strong enough that its answers differ."""
    torch.manual_seed(seed)
    lora = LoraConfig(
        r=1, lora_alpha=8, init_lora_weights=False, target_modules=["q_proj", "up_proj"], **changes
    )
    get_peft_model(load(BASE).model, lora).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return {name: made(folder / name, seed) for seed, name in enumerate(("knowledge", "style"), 1)}


@pytest.fixture
def explorer(adapters, manager):
    return adapter_mixing(BASE, adapters, QUESTIONS, manager)


@pytest.fixture
def written(monkeypatch):
    """Every call of an engine's generate."""
    from course_lib.models.drivers.engine import Engine

    calls, generate = [], Engine.generate
    monkeypatch.setattr(
        Engine, "generate", lambda self, *a, **k: calls.append(self.name) or generate(self, *a, **k)
    )
    return calls


def expected(adapters, question, **weights):
    """What the model writes that is loaded by itself with these adapters."""
    some = [{"source": adapters[name], "weight": weight} for name, weight in weights.items()]
    return load(BASE, adapters=some).generate([QUESTIONS[question]], max_output_length=48)[0]


def lines_of(explorer, **values):
    """The text after the prompt: what the base writes, what the mix writes, and what is said of the style."""
    shown = explorer.output_for(**values)
    asked = values.get("question", "fee <b>")
    head = f"Question: {asked}\nPrompt: {QUESTIONS[asked]}\n"
    assert shown.text.startswith(head) and shown.picture is None
    return shown.text.removeprefix(head)


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() == 2 + 1 + 3 + 3
    assert {k: c.label for k, c in explorer.controls.items()} == {
        "question": "question",
        "knowledge": "weight of knowledge",
        "style": "weight of style",
    }
    field = explorer.fields["style"]
    assert (field.min, field.max, field.value, field.step, field.description) == (
        -1,
        2,
        1,
        0.25,
        "weight of style",
    )


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    ("knowledge", "style"), [(1, 1), (-1, 1), (2, 1), (1, -1), (1, 2), (0.5, 0), (0, 0.25)]
)
def test_answers_are_those_of_the_model_loaded_by_itself(explorer, adapters, question, knowledge, style):
    base, mix = expected(adapters, question), expected(adapters, question, knowledge=knowledge, style=style)
    shares = formula({"knowledge": knowledge, "style": style})
    assert lines_of(explorer, question=question, knowledge=knowledge, style=style) == (
        f"The base, W, writes: {describe(base)}\nThe mix, {shares}, writes: {describe(mix)}\n"
        f"JSON of the style? The base: {describe_style(base)}.\n"
        f"JSON of the style? The mix: {describe_style(mix)}."
    )


def test_each_adapter_changes_the_answer(adapters):
    """Else the test above would show nothing."""
    mixes = [
        {},
        {"knowledge": 1},
        {"style": 1},
        {"knowledge": 1, "style": 1},
        {"knowledge": 2, "style": 1},
        {"knowledge": 1, "style": -1},
    ]
    for question in QUESTIONS:
        assert len({expected(adapters, question, **mix) for mix in mixes}) == len(mixes)


@pytest.mark.parametrize("question", QUESTIONS)
def test_nothing_of_all_adapters_is_the_base(explorer, adapters, question, written, manager):
    text = lines_of(explorer, question=question, knowledge=0, style=-0.0)
    assert written == [BASE], "the base is asked once"
    base = expected(adapters, question)
    assert base == expected(adapters, question, knowledge=0, style=0)
    assert text.startswith(
        f"The base, W, writes: {describe(base)}\nThe mix, W + 0 x knowledge + 0 x style, writes: "
        f"{describe(base)}\n"
    )


def test_an_answer_is_written_once(explorer, written):
    for _ in range(2):
        explorer.drive()
        assert (
            len(written) == 2 + 2 + 4
        )  # the base and the mix for two questions, and a mix at each of four ends
        assert written.count(BASE) == 2


def test_models_are_given_back(explorer, manager, adapters):
    explorer.drive()
    assert [(held.name, held.users, held.expires_in > 0) for held in manager.loaded_models()] == [
        (BASE, 0, True)
    ]
    with manager.use(BASE, adapters=[{"source": adapters["style"]}]):
        explorer.output_for(knowledge=0.75)
        assert sorted((held.name, held.users) for held in manager.loaded_models()) == [
            (BASE, 1),
            (f"{BASE}+style", 1),
        ]


def test_the_shared_manager_is_used_where_none_is_named(adapters, monkeypatch, manager):
    monkeypatch.setattr("course_lib.models.manager.manager._shared", manager)
    adapter_mixing(BASE, adapters, QUESTIONS).output_for()
    assert [held.name for held in manager.loaded_models()] == [BASE]


def test_a_base_with_adapters_of_its_own_keeps_them(adapters, manager):
    spec = ModelSpec.parse(
        BASE, adapters=[{"source": adapters["style"], "weight": 0.5}], generation={"temperature": 9.0}
    )
    text = lines_of(adapter_mixing(spec, {"more": adapters["knowledge"]}, QUESTIONS, manager), more=2)
    base, mix = (expected(adapters, "fee <b>", style=0.5, knowledge=weight) for weight in (0, 2))
    assert text.startswith(
        f"The base, W, writes: {describe(base)}\nThe mix, W + 2 x more, writes: {describe(mix)}\n"
    )


# -- words


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"knowledge": 1, "style": 0.5}, "W + 1 x knowledge + 0.5 x style"),
        ({"a": -1, "b": -0.25}, "W - 1 x a - 0.25 x b"),
        ({"a": 0}, "W + 0 x a"),
        ({"a": -0.0}, "W + 0 x a"),
        ({"a": 1.75, "b": 2, "c": 0}, "W + 1.75 x a + 2 x b + 0 x c"),
    ],
)
def test_the_mix_is_a_formula(weights, said):
    assert formula(weights) == said


def test_an_answer_says_whether_it_was_cut():
    assert (
        describe(Reply("KRW 5", 9, 3, "stop")) == "KRW 5"
        and describe(Reply("", 9, 1, "stop")) == "(no words)"
    )
    assert describe(Reply("and so", 9, 48, "length")) == "and so (cut after 48 tokens)"


def test_the_style_is_its_schema():
    assert describe_style(json.dumps({"answer": "KRW 5", "source": 1})) == "yes, and its answer is: KRW 5"
    assert describe_style(json.dumps({"answer": "", "source": 0})) == "yes, and its answer is: (no words)"
    for other in (
        "KRW 5",
        '{"answer": "KRW 5"}',
        '{"answer": "KRW 5", "source": 1',
        '{"answer": "a", "source": -1}',
        "",
    ):
        assert describe_style(other) == "no"


def test_a_styled_answer_is_seen_in_the_text(explorer, monkeypatch):
    reply = Reply('{"answer": "KRW 5", "source": 1}', 9, 12, "stop")
    other = Reply("5", 9, 1, "stop")
    monkeypatch.setattr(
        "course_lib.models.drivers.engine.Engine.generate",
        lambda self, *_: [other if self.name == BASE else reply],
    )
    said = "JSON of the style? The base: no.\nJSON of the style? The mix: yes, and its answer is: KRW 5."
    assert explorer.output_for().text.endswith(said)


def test_what_is_written_stands_as_text_and_not_as_markup(explorer):
    explorer.box  # noqa: B018
    assert "fee &lt;b&gt;" in explorer.text.value and "<b>" not in explorer.text.value


# -- what is refused


def test_an_adapter_that_is_missing_is_said_and_is_asked_for_again(adapters, manager, tmp_path):
    explorer = adapter_mixing(BASE, {"late": tmp_path / "late"}, QUESTIONS, manager)
    assert "The mix, W + 0 x late, writes: " in lines_of(explorer, late=0), "what counts nothing is not read"
    output = explorer.output_for()
    assert (
        "late is not a LoRA adapter" in output.text and "\n  Fix: " in output.text and output.picture is None
    )
    made(tmp_path / "late", 3)
    assert "The mix, W + 1 x late, writes: " in lines_of(explorer)


def test_a_weight_that_cannot_be_is_said(explorer):
    text = explorer.output_for(style=11).text
    assert "weight" in text and "11" in text and "\n  Fix: " in text
    with pytest.raises((ValueError, TypeError)):
        explorer.output_for(stile=1)


@pytest.mark.parametrize(
    ("labels", "questions"),
    [([], QUESTIONS), (list("abcd"), QUESTIONS), (["a"], {}), (["question"], QUESTIONS)],
)
def test_questions_and_one_to_three_adapters_are_needed(labels, questions):
    with pytest.raises(
        ValueError, match=rf"{len(questions)} questions and the adapters {', '.join(labels) or 'none'};"
    ):
        adapter_mixing(BASE, dict.fromkeys(labels, "x"), questions)


def test_three_adapters_have_three_weights(adapters, manager):
    explorer = adapter_mixing(BASE, {**adapters, "third": adapters["style"]}, QUESTIONS, manager)
    assert list(explorer.controls) == ["question", "knowledge", "style", "third"]
    doubled = lines_of(explorer, style=0.5, third=0.5).splitlines()[1].partition("writes: ")[2]
    assert doubled == describe(expected(adapters, "fee <b>", knowledge=1, style=1))
