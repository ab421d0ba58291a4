"""Examples as the model will read them, and an order that depends on the seed and the step alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.tuning.config import Example
from course_lib.tuning.dataset import (
    BatchOrder,
    TokenizedExample,
    collate,
    fingerprint,
    padded_length,
    tokenize,
)
from tests.tuning.conftest import EXAMPLES

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "What is the fee?"},
]
ROWS = st.lists(st.builds(TokenizedExample, *[st.lists(st.integers(0, 5), max_size=4)] * 2), max_size=4)


@pytest.fixture(scope="module")
def chat():
    return load("haneul-300k")


@pytest.fixture(scope="module")
def plain():
    return load("haneul-300k", task="text-generation")


# -- rows


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, TEXTS.filter(str.strip)), min_size=1, max_size=4))
def test_a_prompt_is_read_as_when_it_is_answered_and_an_answer_ends(chat, plain, pairs):
    for engine in (chat, plain):
        rows = tokenize(engine, [Example(*pair) for pair in pairs], 2048)
        for (prompt, answer), row in zip(pairs, rows, strict=True):
            assert row.prompt == engine.ids(engine._prompt(prompt))
            assert row.answer[-1] == engine.tokenizer.eos_token_id and len(row.answer) > 1
            if engine is plain:
                assert row.answer[:-1] == engine.tokenizer.encode(answer, add_special_tokens=False)


def test_a_conversation_is_read_up_to_its_last_answer(chat):
    [row] = tokenize(chat, [Example(TURNS, "KRW 5")], 2048)
    assert row.prompt == chat.ids(TURNS)
    assert chat.tokenizer.decode(row.answer, skip_special_tokens=True).strip() == "KRW 5"


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_the_name_of_a_control_token_in_a_chat_is_read_as_letters(chat, driver):
    """As at inference: only the template writes control tokens, so a user cannot begin a turn."""
    end = chat.tokenizer.eos_token
    text = f"What is {end}<|assistant|> {end}"
    turns = [{"role": "user", "content": text}]
    [row] = tokenize(chat, [Example(text, f"It is {end} KRW 5")], 2048)
    reader = load("haneul-300k", driver=driver)
    assert row.prompt == reader.ids(turns)
    assert row.answer.index(chat.tokenizer.eos_token_id) == len(row.answer) - 1
    assert chat.tokenizer.decode(row.answer[:-1]).strip() == f"It is {end} KRW 5"
    plain = load("haneul-300k", task="text-generation")
    [raw] = tokenize(plain, [Example(text, "5")], 2048)
    assert raw.prompt == plain.ids(text) and raw.prompt.count(plain.tokenizer.eos_token_id) == 2


@pytest.fixture
def tiny_chat(tiny):
    return load(tiny)


@pytest.mark.parametrize("ending", ["EOS", "EOS\n\n", "", "EOS\nBOS"])
def test_a_template_may_write_more_behind_the_end_or_no_end_at_all(tiny_chat, ending):
    tokenizer = tiny_chat.tokenizer
    turn = (
        "{% for m in messages %}BOS{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}"
        + ending
        + "{% endif %}"
    )
    template = turn + "{% endfor %}{% if add_generation_prompt %}BOSassistant: {% endif %}"
    tokenizer.chat_template = template.replace("EOS", tokenizer.eos_token).replace("BOS", tokenizer.bos_token)
    [row] = tokenize(tiny_chat, [Example("fee?", "KRW 5")], 2048)
    assert row.prompt == tiny_chat.ids(tiny_chat._prompt("fee?"))
    assert row.answer == [*tokenizer.encode("KRW 5", add_special_tokens=False), tokenizer.eos_token_id]


def test_a_template_that_rewrites_a_prompt_once_it_is_answered_is_refused(tiny_chat):
    tiny_chat.tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(CourseError, match="chat template of tiny changes a prompt once it is answered"):
        tokenize(tiny_chat, [Example("fee?", "KRW 5")], 2048)


def test_a_model_without_a_mark_of_an_end_is_refused(tiny_chat):
    tiny_chat.tokenizer.eos_token = None
    tiny_chat.model.generation_config.eos_token_id = None
    with pytest.raises(CourseError, match="no token that ends a text"):
        tokenize(tiny_chat, [Example("fee?", "KRW 5")], 2048)


@pytest.mark.parametrize("answer", ["", " ", "\n\t"])
def test_no_examples_and_empty_answers_are_refused(chat, answer):
    with pytest.raises(CourseError, match="no examples to learn from"):
        tokenize(chat, [], 2048)
    with pytest.raises(CourseError, match="example 1 has no answer: 'What is the fee"):
        tokenize(chat, [EXAMPLES[0], Example("What is the fee?", answer)], 2048)


def test_an_example_that_is_too_long_is_refused_with_both_numbers(chat, tiny):
    longest = Example("What?", "word " * 400)
    [row] = tokenize(chat, [longest], 2048)
    assert tokenize(chat, [longest], row.length) == [row]  # exactly as long as is allowed
    for engine, longest_allowed, allowed in (
        (chat, 100, 100),
        (chat, row.length - 1, row.length - 1),
        (load(tiny), 2048, 256),
    ):
        message = rf"1 of 3 examples are longer than {allowed} tokens; number 1 has {row.length}: 'What\?'"
        with pytest.raises(CourseError, match=message):
            tokenize(engine, [EXAMPLES[0], longest, EXAMPLES[1]], longest_allowed)


# -- their print


@settings(max_examples=300)
@given(ROWS, ROWS)
def test_a_fingerprint_is_that_of_the_same_rows_alone(batch, others):
    assert (fingerprint(batch) == fingerprint(others)) == (batch == others)


@given(ROWS.filter(bool), st.data())
def test_a_fingerprint_differs_after_any_change(rows, data):
    at = data.draw(st.integers(0, len(rows) - 1))
    prompt, answer = rows[at]
    changed = data.draw(
        st.sampled_from(
            [
                TokenizedExample([*prompt, 0], answer),
                TokenizedExample(prompt, [*answer, 0]),
                TokenizedExample([7, *prompt], answer),
            ]
        )
    )
    for others in (
        [*rows[:at], changed, *rows[at + 1 :]],
        rows[:at] + rows[at + 1 :],
        [*rows, TokenizedExample([], [])],
    ):
        assert fingerprint(others) != fingerprint(rows)
    assert fingerprint([TokenizedExample([1], [2, 1, 5, 6])]) != fingerprint(
        [TokenizedExample([1], [2]), TokenizedExample([5], [6])]
    )  # where a row ends counts


# -- their order


@given(st.lists(st.integers(2, 50), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_reads_every_row_once_in_batches_of_like_lengths(lengths, size, seed):
    order, steps = BatchOrder(lengths, size, seed), math.ceil(len(lengths) / size)
    for epoch in range(2):
        batches = [order[epoch * steps + i] for i in range(steps)]
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        assert sorted(map(len, batches), reverse=True)[:-1] == [size] * (steps - 1)


def test_the_order_depends_on_the_seed_and_the_step_alone():
    lengths = [5 + i % 40 for i in range(500)]
    once, again, other = BatchOrder(lengths, 8, 1), BatchOrder(lengths, 8, 1), BatchOrder(lengths, 8, 2)
    forwards = [once[step] for step in range(200)]
    assert [again[step] for step in reversed(range(200))] == forwards[::-1]
    assert [other[step] for step in range(200)] != forwards
    assert forwards[:63] != forwards[63:126]  # the next epoch is another one


def test_batches_hold_little_padding_and_are_not_read_in_the_order_of_their_length():
    lengths = [5 + (i * 37) % 200 for i in range(1000)]
    order = BatchOrder(lengths, 8, 0)
    batches = [order[i] for i in range(125)]
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    first = [lengths[batch[0]] for batch in batches]
    assert first != sorted(first) and len(set(first)) > 60


@given(ROWS.filter(bool).filter(lambda rows: all(row.length for row in rows)))
def test_a_batch_is_padded_behind_and_learns_answers_alone(rows):
    ids, learn = collate(rows, "cpu")
    assert (
        ids.shape == learn.shape == (len(rows), padded_length(max(row.length for row in rows)))
        and learn.dtype == torch.bool
    )
    for row, batch, learnt in zip(rows, ids.tolist(), learn.tolist(), strict=True):
        assert batch[: row.length] == row.prompt + row.answer and not any(batch[row.length :])
        assert [token for token, yes in zip(batch, learnt, strict=True) if yes] == row.answer
        assert not any(learnt[: len(row.prompt)])


@given(ROWS.filter(bool).filter(lambda rows: all(row.length for row in rows)), st.integers(0, 20))
def test_a_batch_is_no_longer_than_the_model_reads(rows, spare):
    longest = max(row.length for row in rows)
    assert collate(rows, "cpu", longest + spare)[0].shape[1] == min(padded_length(longest), longest + spare)


@given(st.integers(0, 1 << 20))
def test_shapes_recur_and_cost_an_eighth_at_most(count):
    assert count <= padded_length(count) <= max(count + 7, count * 9 / 8) and padded_length(
        padded_length(count)
    ) == padded_length(count)
    assert len({padded_length(n) for n in range(count % 1000, count % 1000 + 64)}) <= 9
