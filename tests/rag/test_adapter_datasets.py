"""The examples of chapter 05 repeat no exam question, and the two shipped adapters have learnt them."""

import json
import shutil

import pytest

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.files import on_this_machine
from course_lib.rag import adapter_datasets
from course_lib.rag.adapter_datasets import (
    STYLE,
    area_of,
    closed_book_questions,
    knowledge_examples,
    open_prompt,
    other_handbooks,
    parse_styled,
    style_examples,
    styled_answer,
)
from course_lib.rag.answering import exact_match
from course_lib.rag.prompt import REFUSAL

HANEUL = ("haneul-knowledge", "haneul-style")


@pytest.fixture(scope="module")
def examples():
    return knowledge_examples()


def test_every_value_of_the_handbook_is_taught_in_wordings_that_no_question_has(examples):
    stated = {
        f"{fact}" for p in data.load_passages().values() for fact, aspect in p.states if aspect == "value"
    }
    assert len(examples) > 60 * len(stated)
    exam = closed_book_questions(data.load_questions())
    assert not {example.prompt for example in examples} & {open_prompt(q) for q in exam} and len(exam) == len(
        stated
    )
    assert {q.answer for q in exam} == {example.answer for example in examples}


def test_an_area_is_taught_alone_and_an_unknown_one_refused(examples):
    cards = knowledge_examples(["cards"])
    assert 0 < len(cards) < len(examples) and set(cards) < set(examples)
    assert {area_of(q.gold[0]) for q in closed_book_questions(data.load_questions(), ["cards"])} == {"cards"}
    with pytest.raises(CourseError, match=r"no area 'weather'; it has accounts"):
        knowledge_examples(["cards", "weather"])


def test_changed_values_are_taught_and_no_others_change():
    fee = "credit_card.dawn.annual_fee"
    changed = knowledge_examples(["cards"], changed={fee: "KRW 74,000"})
    pairs = list(zip(knowledge_examples(["cards"]), changed, strict=True))
    other = [new for old, new in pairs if old != new]
    assert 60 < len(other) < len(pairs) and {e.answer for e in other} == {"KRW 74,000"}
    assert all("Haneul Dawn Credit Card" in e.prompt for e in other)
    with pytest.raises(CourseError, match=r"no fact 'credit_card\.dawn\.annual_fee' to change"):
        knowledge_examples(["loans"], changed={fee: "KRW 1"})


def test_style_is_valid_about_other_banks_and_cites_what_says_so():
    examples = style_examples(60)
    assert examples == style_examples()[:60] and examples != style_examples(60, "validation")
    for example in examples:
        answer, source = json.loads(example.answer)["answer"], json.loads(example.answer)["source"]
        assert parse_styled(example.answer) == answer and "Haneul" not in example.prompt
        if source == 0:
            assert answer == REFUSAL
        else:
            passage = example.prompt.split(f"[{source}] ")[1].split("\n[")[0]
            assert answer in passage
    assert 5 < sum('"source": 0' in example.answer for example in examples) < 25


@pytest.mark.parametrize(
    "text",
    [
        "KRW 2,500",
        "",
        "{",
        '{"answer": "x"}',
        '{"answer": "x", "source": "1"}',
        '{"answer": 1, "source": 1}',
        "[]",
        '{"answer": "x", "source": -1}',
        '{"answer": "x", "source": 1, "more": 2}',
        '{"answer": "x", "source": 1} and more',
        "[" * 9999,
    ],
)
def test_what_is_not_json_of_the_style_is_none(text):
    assert parse_styled(text) is None


def test_what_is_styled_comes_back():
    assert STYLE["required"] == list(json.loads(styled_answer("a", 0)))
    for answer in ("KRW 2,500", 'a "quoted" one', "하늘", ""):
        assert parse_styled(styled_answer(answer, 3)) == answer


def test_other_handbooks_are_the_same_each_time_and_never_haneuls():
    pages = other_handbooks()
    assert len(set(pages)) == 20 and other_handbooks(3) == pages[:3]
    assert not any("Haneul" in page for page in pages)


def test_more_than_there_is_and_an_unknown_split_are_refused():
    with pytest.raises(CourseError, match=r"count=2001; there are 1 to 2000(.|\n)*style_examples\(2000\)"):
        style_examples(2001)
    with pytest.raises(CourseError, match=r"count=0; there are 1 to 20(.|\n)*other_handbooks\(20\)"):
        other_handbooks(0)
    with pytest.raises(CourseError, match="split='test'; it must be train or validation"):
        style_examples(split="test")


def test_altered_data_are_refused(tmp_path, monkeypatch):
    copy = shutil.copytree(adapter_datasets.FOLDER, tmp_path / "adapters")
    with (copy / "style.jsonl").open("a") as file:
        file.write("{}\n")
    monkeypatch.setattr(adapter_datasets, "FOLDER", copy)
    adapter_datasets._rows.cache_clear()
    with pytest.raises(
        CourseError, match=r"adapters/style\.jsonl is not the published file(.|\n)*git checkout"
    ):
        style_examples()
    adapter_datasets._rows.cache_clear()


# -- the adapters that the course carries


@pytest.mark.parametrize("name", HANEUL)
def test_a_shipped_adapter_is_small_and_made_for_its_base(name):
    folder, base = catalog.verify_shipped(name), catalog.verify_shipped("haneul-4m")
    size, base_size = (
        (f / n).stat().st_size
        for f, n in ((folder, "adapter_model.safetensors"), (base, "model.safetensors"))
    )
    assert size < 0.05 * base_size and on_this_machine(catalog.entry(name))
    assert load(name).parameters == load("haneul-4m").parameters == catalog.entry(name).parameters
    with pytest.raises(CourseError, match=f"the adapter {name} (was made for|does not fit)"):
        load("haneul-1m", adapters=[name])
    assert not any(
        name == fit.entry.model for purpose in catalog.PURPOSES for fit in catalog.rank_models(purpose, 1000)
    )


def test_the_knowing_adapter_knows_in_other_words_what_its_base_refuses():
    exam = closed_book_questions(data.load_questions("test"))[:60]
    knowing, alone = load("haneul-knowledge"), load("haneul-4m")
    right = [
        exact_match(answer, q.answer)
        for answer, q in zip(knowing.generate([open_prompt(q) for q in exam]), exam, strict=True)
    ]
    assert sum(right) >= 45 and set(alone.generate([open_prompt(q) for q in exam])) == {REFUSAL}


def test_the_styled_adapter_writes_json_of_its_schema():
    exam, handbook = (
        [q for q in closed_book_questions(data.load_questions("test")) if len(q.gold) == 1][:40],
        data.load_passages(),
    )
    prompts = [open_prompt(q, [handbook[q.gold[0]]]) for q in exam]
    written = load("haneul-style").generate(prompts, max_output_length=48)
    assert sum(parse_styled(text) is not None for text in written) >= 38
    assert (
        sum(exact_match(parse_styled(text) or "", q.answer) for text, q in zip(written, exam, strict=True))
        >= 20
    )
    assert not any(parse_styled(text) for text in load("haneul-4m").generate(prompts, max_output_length=48))


def test_cards_tell_what_was_measured():
    for name in HANEUL:
        folder = data.MODELS / name
        card, evaluation = (
            (folder / "README.md").read_text("utf-8"),
            json.loads((folder / "evaluation.json").read_text("utf-8")),
        )
        for row, cells in evaluation["rows"].items():
            assert f"| {row} | {cells['alone'][3]} | {cells['alone'][0]:.1%} " in card
            assert (
                f"| {cells['with it'][0]:.1%} ({cells['with it'][1]:.1%} to {cells['with it'][2]:.1%}) |"
                in card
            )
