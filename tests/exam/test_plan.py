"""The plan of an exam: more work is never faster, what fits is monotone, limits are exact, faults named."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.exam.cards import Card, Range, Run, card, cards
from course_lib.exam.here import calibrated, this_machine, timed_here
from course_lib.exam.plan import Exam, best, choices, compared, limits, plan_exam
from course_lib.measure import EngineMeasurement, Round
from course_lib.models import load
from course_lib.models.planner import architecture
from course_lib.models.planner.gpus import GPUS

RTX = card("RTX 4090")
MODEL = architecture("EXAONE-3.5-7.8B")
SMALL = st.integers(1, 600)


def minutes(exam, batch=1, on=RTX, weight_format="q4_k_m"):
    return plan_exam(MODEL, on, exam, weight_format, batch).minutes


@given(SMALL, st.integers(0, 20), st.integers(1, 40), SMALL, st.integers(1, 40), st.integers(0, 30))
@settings(deadline=None, max_examples=40)
def test_more_is_never_faster(questions, passages, batch, answer, more, longer):
    exam = Exam(questions, passages=passages, answer_tokens=answer)
    least = minutes(exam, batch)
    for change in (
        {"passages": passages + more},
        {"answer_tokens": answer + longer},
        {"questions": questions + more},
        {"search_seconds": exam.search_seconds + longer},
    ):
        after = minutes(replace(exam, **change), batch)
        assert all(b >= a for a, b in zip(least, after, strict=True)), change
    assert least.low <= least.value <= least.high


def test_questions_together_share_the_reading_of_weights_while_writing():
    alone, together = (plan_exam(MODEL, RTX, Exam(questions=512), "q4_k_m", b) for b in (1, 16))
    assert together.seconds["write"].value < alone.seconds["write"].value / 8
    assert together.seconds["read"].value == pytest.approx(alone.seconds["read"].value, rel=0.02)


def test_a_last_group_that_is_not_full_counts_as_it_is():
    exam = Exam(questions=33, search_seconds=0)
    parts = [plan_exam(MODEL, RTX, replace(exam, questions=n), "q4_k_m", 16).seconds for n in (33, 32, 1)]
    for part in ("read", "write"):
        all_, full, rest = (seconds[part].value for seconds in parts)
        assert all_ == pytest.approx(full + rest)


@given(st.sampled_from(["float16", "q8_0", "q4_k_m"]), st.integers(0, 30), st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_what_fits_with_more_fits_with_less(weight_format, passages, batch):
    bigger = plan_exam(MODEL, RTX, Exam(passages=passages), weight_format, batch)
    smaller = [
        plan_exam(MODEL, RTX, Exam(passages=passages // 2), weight_format, batch),
        plan_exam(MODEL, RTX, Exam(passages=passages), weight_format, max(1, batch // 2)),
        plan_exam(MODEL, RTX, Exam(passages=passages), "q4_k_m", batch),
    ]
    assert all(p.memory.total <= bigger.memory.total for p in smaller)
    assert not bigger.fits or all(p.fits for p in smaller)


@pytest.mark.parametrize(
    ("model", "weight_format", "batch", "ends"),
    [
        ("EXAONE-3.0-7.8B", "q4_k_m", 1, ["context", "context", "time"]),
        ("EXAONE-3.5-7.8B", "q4_k_m", 1, ["context", "time", "time"]),
        ("EXAONE-3.0-7.8B", "float16", 16, ["memory", "memory", "time"]),
        ("EXAONE-3.5-32B", "float16", 1, ["memory", "memory", "memory"]),
    ],
)
def test_limits_are_exact_and_name_what_ends_them(model, weight_format, batch, ends):
    planned = plan_exam(model, RTX, None, weight_format, batch)
    found = limits(planned)
    assert [limit.because for limit in found] == ends
    for limit in found:
        if limit.most < 0:
            assert not planned.fits
            continue
        most = plan_exam(model, RTX, replace(planned.exam, **{limit.name: limit.most}), weight_format, batch)
        assert most.fits and most.in_time
        more = replace(planned.exam, **{limit.name: limit.most + 1})
        if limit.because == "context":
            with pytest.raises(CourseError, match="together"):
                plan_exam(model, RTX, more, weight_format, batch)
        else:
            after = plan_exam(model, RTX, more, weight_format, batch)
            assert after.in_time if limit.because == "memory" else after.fits
            assert not (after.fits and after.in_time)


def test_what_nothing_ends_is_said_so():
    endless = replace(RTX, memory=2**70)
    model = replace(MODEL, context=10**10)
    found = limits(plan_exam(model, endless, Exam(minutes=1e12), "q4_k_m"))
    assert [limit.because for limit in found] == ["nothing"] * 3


def test_the_best_has_the_most_bits_that_fit_in_time_and_of_these_the_fastest():
    plans = choices(MODEL, RTX)
    assert [(p.memory.weight_format, p.memory.batch) for p in plans[:4]] == [
        ("float16", 1), ("float16", 4), ("float16", 16), ("q8_0", 1),
    ]  # fmt: skip
    chosen = best(plans)
    assert (chosen.memory.weight_format, chosen.memory.batch) == ("float16", 16)
    assert best(choices("Qwen2.5-32B", RTX)).memory.weight_format == "q4_k_m"
    assert best(choices("Llama-3.3-70B", RTX)) is None, "nothing fits"
    assert best(choices(MODEL, RTX, Exam(minutes=1))) is None, "nothing is in time"
    lines = compared(choices("Qwen2.5-32B", RTX)).splitlines()
    assert len(lines) == 10 and lines[1].split() == ["float16", "1", "61.4", "no", "-", "-", "-", "-"]


def test_a_plan_is_told_in_words():
    text = str(plan_exam("EXAONE-3.0-7.8B", RTX, None, "q4_k_m"))
    assert "it fits" in text and "270 minutes: in time, at the lowest efficiency too." in text
    assert "not on this card" in str(plan_exam("Llama-3.3-70B", RTX, None, "q4_k_m"))
    assert "So small a model takes longer" in str(plan_exam("haneul-4m", RTX)) and "small" not in text
    planned = plan_exam(MODEL, RTX, Exam(), "q4_k_m")
    between = replace(planned.exam, minutes=planned.minutes.value + 0.01)
    assert "at the median efficiency, not at the lowest" in str(replace(planned, exam=between))
    assert "too slow" in str(replace(planned, exam=replace(planned.exam, minutes=1)))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"questions": 0}, "questions=0: at least 1"),
        ({"answer_tokens": 0}, "answer_tokens=0: at least 1"),
        ({"passages": -1}, "passages=-1: at least 0"),
        ({"search_seconds": float("nan")}, "search_seconds=nan: at least 0"),
        ({"minutes": 0}, "minutes=0: above 0"),
        ({"minutes": float("inf")}, "minutes=inf"),
    ],
)
def test_impossible_exams(asked, told):
    with pytest.raises(CourseError, match=told):
        Exam(**asked)


@pytest.mark.parametrize(
    ("model", "asked", "told"),
    [
        ("EXAONE-9", {}, "the planner does not know a model 'EXAONE-9'"),
        ("multilingual-e5-small", {"exam": Exam(passages=1)}, "is an encoder"),
        ("EXAONE-3.0-7.8B", {"batch": 0}, "0 x 748 tokens"),
        ("EXAONE-3.0-7.8B", {"weight_format": "nf4"}, "the driver llamacpp has no format nf4"),
    ],
)
def test_impossible_plans(model, asked, told):
    with pytest.raises(CourseError, match=told):
        plan_exam(model, RTX, **asked)


def test_the_fix_for_too_long_a_prompt_is_the_most_passages_that_the_model_reads():
    with pytest.raises(CourseError, match="takes 4,096 together") as error:
        plan_exam("EXAONE-3.0-7.8B", RTX, Exam(passages=30))
    assert error.value.fix == "give at most 19 passages"
    plan_exam("EXAONE-3.0-7.8B", RTX, Exam(passages=19))
    with pytest.raises(CourseError):
        plan_exam("EXAONE-3.0-7.8B", RTX, Exam(passages=20))
    with pytest.raises(CourseError, match="give shorter answers"):
        plan_exam("EXAONE-3.0-7.8B", RTX, Exam(passages=1, answer_tokens=4000))


def test_cards_have_names_of_the_planner_and_runs_below_full_speed():
    for name, known in cards().items():
        assert name in GPUS and known.source and all(run.source for run in known.runs)
        assert all(0.2 < known.share(run) < 1 for run in known.runs), name


@pytest.mark.parametrize(
    ("name", "told"),
    [("H100", "no data sheet of a card 'H100'"), ("RTX", "3 cards have 'RTX'"), (" ", "no data")],
)
def test_unknown_cards(name, told):
    with pytest.raises(CourseError, match=told):
        card(name)


def test_efficiency_is_that_of_the_runs_most_alike():
    runs = [
        Run(MODEL, "q4_0", "write", 100, 20.0),
        Run(MODEL, "q4_0", "write", 100, 30.0),
        Run(MODEL, "q4_0", "write", 100, 100.0, batch=8),
        Run(MODEL, "float16", "write", 100, 10.0),
    ]
    own = Card("own", 2**34, 3e11, 1e14, "", tuple(runs))
    shares = [own.share(run) for run in runs]
    assert own.efficiency("write", "q4_k_m") == Range(shares[0], sum(shares[:2]) / 2, shares[1])
    assert own.efficiency("write", "q8_0", batch=4) == Range(*[shares[2]] * 3)
    assert own.efficiency("write", "float16", batch=4) == Range(*[shares[3]] * 3)
    with pytest.raises(CourseError, match="nobody has timed a model that reads on own"):
        plan_exam(MODEL, own)


def test_a_calibrated_card_predicts_the_run_that_it_was_calibrated_with():
    machine = Card("machine", 2**34, 2e10, 1e11, "")
    rounds = (Round(0, 0.4, 0.9, 700, 47), Round(0, 0.5, 1.1, 700, 47), Round(0, 0.6, 0.5, 700, 47))
    row = EngineMeasurement("haneul-4m", "huggingface", 1, 48, rounds, None, None, None, ())
    options = {"weight_format": "float32", "driver": "huggingface"}
    on = calibrated(machine, "haneul-4m", row, **options)
    assert len(on.runs) == 5, "a round in which noise was longer than the answer has no time of writing"
    exam = Exam(1, answer_tokens=47, search_seconds=0)
    seconds = plan_exam("haneul-4m", on, exam, **options).seconds
    assert seconds["read"] == pytest.approx((0.4, 0.5, 0.6), rel=1e-6)
    assert seconds["write"].low == pytest.approx(0.5, rel=0.01)
    assert seconds["write"].high == pytest.approx(0.6, rel=0.01)


def test_this_machine_is_measured():
    machine = this_machine()
    assert machine.memory > 2**30 and machine.bandwidth > 1e8 and machine.flops > 1e8 and not machine.runs


def test_an_engine_whose_weights_are_elsewhere_is_not_timed():
    with pytest.raises(CourseError, match="far runs with ollama, which does not tell"):
        timed_here(SimpleNamespace(name="far", driver="ollama"), MODEL, Exam())
    with pytest.raises(CourseError, match="near runs on cuda:0; only this machine's processor"):
        timed_here(SimpleNamespace(name="near", driver="huggingface", device="cuda:0"), MODEL, Exam())


@pytest.mark.parametrize(
    ("options", "weight_format"),
    [
        ({"driver": "huggingface"}, "float32"),
        ({"driver": "huggingface", "precision": "bfloat16"}, "bfloat16"),
        ({"driver": "huggingface", "precision": "float16"}, "float16"),
        ({"driver": "llamacpp", "quantization": "q8_0"}, "q8_0"),
    ],
)
def test_a_model_is_planned_with_the_weights_that_it_computes_with(options, weight_format):
    exam = Exam(3, passages=0, question_tokens=40, answer_tokens=4, search_seconds=0)
    with load("haneul-300k", **options) as engine:
        on, planned_format, driver = timed_here(engine, "haneul-300k", exam)
        assert (planned_format, driver) == (weight_format, options["driver"])
        memory = plan_exam("haneul-300k", on, exam, planned_format, driver=driver).memory
        held = memory.weights + memory.embeddings + memory.norms
        assert held == pytest.approx(engine.weight_bytes, rel=0.02)
