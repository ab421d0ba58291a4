"""Engines measured side by side: the calls to real ones; numbers and pictures of known rounds."""

import json
import math

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.measure import EngineMeasurement, Memory, Results, Round, compare, measure_engine
from course_lib.models.drivers import load
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.schema import ModelSpec

PROMPTS = [
    "Passage: The Blue account costs 4 euros a month.\n\nQuestion: What does the Blue account cost?",
    "What is a fee?",
]


class Recorded:
    """An engine that writes down what it is asked, and does it."""

    def __init__(self, engine, name, log, **other):
        self.engine, self.name, self.log, self.other = engine, name, log, other

    def __getattr__(self, attribute):
        return self.other[attribute] if attribute in self.other else getattr(self.engine, attribute)

    def generate(self, prompts, **changes):
        self.log.append((self.name, "generate", prompts, changes))
        return self.engine.generate(prompts, **changes)

    def stream(self, prompt, **changes):
        self.log.append((self.name, "stream", [prompt], changes))
        yield from self.engine.stream(prompt, **changes)
        self.log.append((self.name, "streamed to its end", [], {}))


@pytest.fixture(scope="module")
def llama_cpp():
    return load("haneul-300k", driver="llamacpp")


@pytest.fixture(scope="module")
def transformers():
    return load("haneul-300k")


def test_two_engines_take_turns_and_write_what_they_are_told_to(llama_cpp, transformers):
    log = []
    engines = {"a": Recorded(llama_cpp, "a", log), "b": Recorded(transformers, "b", log)}
    results = compare(engines, PROMPTS, new_tokens=8, repeats=3, warm_up=2, timed=2, load_seconds={"a": 0.5})
    turns = [name for i, (name, *_) in enumerate(log) if i == 0 or log[i - 1][0] != name]
    assert turns == ["a", "b"] * 5
    per_prompt = [
        (what, options.get("max_output_length"), options.get("min_output_length"))
        for _, what, _, options in log[:4]
    ]
    assert per_prompt == [
        ("stream", 8, 8),
        ("streamed to its end", None, None),
        ("generate", 1, 1),
        ("generate", 8, 8),
    ]
    for name, engine in engines.items():
        row = results[name]
        assert len(row.rounds) == 3 and {r.written for r in row.rounds} == {2 * 7}
        read = sum(map(engine.count_tokens, PROMPTS))
        assert all(read < r.read <= read + 2 * 7 for r in row.rounds)  # six digits and a space before each
        assert all(r.first > 0 and r.short > 0 for r in row.rounds)
        assert row.weights == engine.weight_bytes and row.driver == engine.driver
        assert row.memory.before <= row.memory.peak and row.quality is None
    assert results["a"].load == 0.5 and results["b"].load is None
    frame = results.to_frame()
    assert list(frame.index) == ["a", "b"] and frame.attrs["machine"] == results.machine
    assert "llamacpp" in set(frame["driver"]) and "quality" not in str(results)


def test_no_two_runs_begin_alike_and_every_prompt_is_marked_as_it_is(llama_cpp):
    log = []
    marked = []

    def quality(answers):
        marked.extend(answers)
        return [1, 0]

    row = measure_engine(Recorded(llama_cpp, "a", log), PROMPTS, new_tokens=2, repeats=2, quality=quality)
    timed = [prompts[0] for _, _, prompts, options in log if options]
    assert (
        all(p[6:] == " " + PROMPTS[0] for p in timed) and len({p[:6] for p in timed}) == len(timed) == 3 * 3
    )
    assert [prompts for _, what, prompts, options in log if what == "generate" and not options] == [PROMPTS]
    assert marked == llama_cpp.generate(PROMPTS) and row.scores == (1, 0) and row.quality.value == 0.5


def test_each_engine_may_have_its_own_prompts_and_no_stop_text_ends_a_timed_answer(llama_cpp):
    log = []
    stopping = load("haneul-300k", generation={"stop": [" ", "."]})
    engines = {"a": Recorded(llama_cpp, "a", log), "b": Recorded(stopping, "b", log)}
    results = compare(engines, {"a": PROMPTS, "b": [PROMPTS[1]]}, new_tokens=12, repeats=1)
    assert {(name, prompts[0][7:]) for name, what, prompts, _ in log if what == "generate"} == {
        ("a", PROMPTS[0]),
        ("b", PROMPTS[1]),
    }
    assert {r.written for name in engines for r in results[name].rounds} == {11}


def test_turns_of_a_conversation_are_measured_too(llama_cpp):
    log = []
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a fee?"}]
    measure_engine(Recorded(llama_cpp, "a", log), [turns], new_tokens=2, repeats=1)
    system, user = log[0][2][0]
    assert system["role"] == "system" and system["content"].endswith(" Be brief.") and user == turns[1]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "is no turn, which has a role"),
        ([], "a conversation without turns"),
        (3, "a prompt is a text or a list of turns"),
    ],
)
def test_the_engine_says_what_is_wrong_with_a_prompt(prompt, message, llama_cpp):
    with pytest.raises(CourseError, match=message):
        compare({"a": llama_cpp}, [prompt], new_tokens=4, repeats=1)


def test_an_engine_with_a_prompt_cache_cannot_answer_out_of_it():
    """With llama.cpp's prompt cache on, a repeated prompt is hardly read, and a measured one is."""
    cached = []

    class Caching(LlamaCpp):
        def _request(self, prompt, options):
            return super()._request(prompt, options) | {"cache_prompt": True}

        def _reply(self, request):
            cached.append(self._completion(request)["timings"]["cache_n"] / len(request["prompt"]))
            return super()._reply(request)

    engine = Caching.load(ModelSpec.parse("haneul-300k", driver="llamacpp"))
    for _ in range(2):
        engine.generate(PROMPTS[:1], max_output_length=1)
    assert cached[-1] > 0.9
    cached.clear()
    measure_engine(engine, PROMPTS[:1], new_tokens=2, repeats=2)
    assert len(cached) == 6 and max(cached) < 0.3


def test_an_engine_that_cannot_be_made_to_go_on_is_timed_by_what_it_wrote(llama_cpp):
    log = []
    engine = Recorded(llama_cpp, "a", log, supported_fields=frozenset())
    row = measure_engine(engine, PROMPTS[:1], new_tokens=3, repeats=2)
    assert not any("min_output_length" in options for *_, options in log) and {
        r.written for r in row.rounds
    } <= {
        1,
        2,
    }


def test_an_answer_of_one_token_is_too_short_to_time_decode_by(llama_cpp):
    ended = Recorded(llama_cpp, "a", [], supported_fields=frozenset())
    ended.generate = lambda prompts, **_: llama_cpp.generate(prompts, max_output_length=1)
    with pytest.raises(CourseError, match="a stopped after 1 of 3 tokens, too few"):
        measure_engine(ended, PROMPTS, new_tokens=3, repeats=1)


def test_pieces_without_text_are_no_first_piece(llama_cpp):
    silent = Recorded(llama_cpp, "a", [])
    silent.stream = lambda prompt, **_: iter(["", ""])
    with pytest.raises(CourseError, match="a streamed an empty answer"):
        measure_engine(silent, PROMPTS, new_tokens=3, repeats=1)


def test_the_memory_of_llama_cpp_is_that_of_its_process(llama_cpp, transformers):
    results = compare({"a": llama_cpp, "b": transformers}, PROMPTS[:1], new_tokens=2, repeats=1)
    own = psutil.Process(llama_cpp.process_id).memory_info().rss
    assert results["a"].memory.after == pytest.approx(own, rel=0.05)
    assert results["b"].memory.after > 2 * own, "this process, with torch in it"


def test_the_memory_of_a_server_is_not_the_memory_of_this_process(llama_cpp):
    results = compare(
        {"served": Recorded(llama_cpp, "served", [], weight_bytes=0)}, PROMPTS, new_tokens=2, repeats=1
    )
    assert results["served"].weights is results["served"].memory is results["served"].peak is None
    assert "MB" not in str(results) and math.isnan(results.to_frame()["weights_mb"].iloc[0])
    with pytest.raises(CourseError, match="weights of served was not measured"):
        results.plot("weights", "decode")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": "What?"}, "a list of at least one prompt"),
        ({"prompts": []}, "a list of at least one prompt"),
        ({"prompts": {"b": PROMPTS}}, "a list of at least one prompt"),
        ({"engines": {}}, "at least one engine"),
        ({"new_tokens": 1}, "new_tokens=1"),
        ({"repeats": 0}, "repeats=0"),
        ({"warm_up": 0}, "warm_up=0"),
        ({"timed": 3}, "timed=3 must be from 1 to the number of prompts, 2"),
        ({"load_seconds": {"b": 1}}, "load_seconds names b, but the engines are a"),
        ({"quality": lambda answers: [1]}, "1 scores for 2 answers"),
        ({"quality": lambda answers: [1, 2]}, "one from 0 to 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(llama_cpp, changes, message):
    with pytest.raises(ValueError, match=message):
        compare(
            **({"engines": {"a": llama_cpp}, "prompts": PROMPTS, "new_tokens": 2, "repeats": 1} | changes)
        )


# -- known rounds --


def row(*rounds, scores=(), **changes):
    known = {
        "model": "m",
        "driver": "d",
        "prompts": 2,
        "new_tokens": 11,
        "rounds": rounds,
        "weights": 4_000_000,
        "memory": Memory(10_000_000, 30_000_000, 20_000_000, True),
        "load": None,
        "scores": scores,
    }
    return EngineMeasurement(**(known | changes))


SLOW = row(
    *(Round(0.4 + i / 1000, 0.5 + i / 1000, 2.5 + i / 1000, 100, 20) for i in range(7)), scores=(1, 1, 1, 0)
)
FAST = row(*(Round(0.04, 0.05, 0.25, 100, 20) for _ in range(7)), scores=(1, 0, 0, 0))
RESULTS = Results({"slow": SLOW, "fast": FAST}, {"cores": 2})
seconds = st.floats(1e-3, 10)
rounds = st.builds(
    lambda f, s, d, n: Round(f, s, s + d, n, n), seconds, seconds, seconds, st.integers(1, 999)
)


def test_speeds_of_known_rounds():
    assert SLOW.ttft.value == pytest.approx(0.2015) and (SLOW.ttft.low, SLOW.ttft.high) == pytest.approx(
        (0.2, 0.203)
    )
    assert SLOW.prefill.value == pytest.approx(100 / 0.503) and SLOW.decode.value == pytest.approx(10)
    assert SLOW.prefill.low == pytest.approx(100 / 0.506) and SLOW.ttft.coverage == pytest.approx(
        1 - 2 / 2**7
    )
    assert (SLOW.added, SLOW.peak, SLOW.quality.value) == (20_000_000, 30_000_000, 0.75)
    ratio = RESULTS.speedup("fast", than="slow")
    assert (
        ratio.value == pytest.approx(10) and RESULTS.speedup("slow", than="fast", quantity="ttft").value < 0.1
    )


@given(st.lists(rounds, min_size=1, max_size=12))
def test_every_estimate_lies_in_its_interval(rounds):
    measured = row(*rounds, scores=(0, 1))
    for estimate in (measured.ttft, measured.prefill, measured.decode, measured.quality):
        assert 0 < estimate.low <= estimate.value <= estimate.high


def test_the_frame_has_numbers_with_units_in_their_names():
    frame = RESULTS.to_frame()
    assert frame.loc["slow", "ttft_ms"] == pytest.approx(201.5) and frame.loc[
        "fast", "decode_tokens_per_s"
    ] == pytest.approx(100)
    assert frame.loc["slow", "weights_mb"] == pytest.approx(4) and frame.loc[
        "slow", "process_peak_mb"
    ] == pytest.approx(30)
    assert frame.loc["slow", "quality_percent"] == 75 and frame.loc[
        "fast", "quality_percent_low"
    ] == pytest.approx(4.56, abs=0.01)
    assert (frame["prefill_tokens_per_s_low"] <= frame["prefill_tokens_per_s"]).all()
    assert math.isnan(frame.loc["slow", "load_s"]) and not frame["noisy"].any()
    assert json.loads(json.dumps(frame.attrs)) == {"machine": {"cores": 2}}


def test_the_text_says_all_with_intervals():
    assert (
        str(RESULTS).splitlines()
        == repr(RESULTS).splitlines()
        == [
            "engine  first piece (TTFT), ms  prefill, tokens/s    decode, tokens/s",
            "slow    202 (200-203)           199 (198-200)        10 (10-10)",
            "fast    20 (20-20)              2,000 (2,000-2,000)  100 (100-100)",
            "",
            "engine  weights, MB  first use adds, MB  process at its peak, MB  quality, %",
            "slow              4                  20                       30  75 (30.1-95.4)",
            "fast              4                  20                       30  25 (4.56-69.9)",
            "",
            "Times: medians of 7 rounds, 2 prompts of 50 tokens one at a time, up to 11 tokens written; in",
            "brackets 98% intervals.",
            "Quality: 4 answers; in brackets 95% intervals.",
        ]
    )


def test_a_busy_machine_is_named_and_not_drawn_as_if_it_were_quiet():
    disturbed = row(*SLOW.rounds[:4], *(r._replace(short=9.0) for r in SLOW.rounds[4:]))
    results = Results({"slow": disturbed, "fast": FAST}, {})
    assert (
        "The machine was busy, measure again: slow (prefill, decode)." in str(results)
        and results.to_frame()["noisy"]["slow"]
    )
    assert "inf)" in str(results)
    labels = {line.get_label() for line in results.plot("decode", "prefill").axes[0].lines}
    assert {"slow (disturbed)", "fast"} <= labels
    noisy = Results({"slow": row(*(r._replace(short=9.0) for r in SLOW.rounds)), "fast": FAST}, {})
    with pytest.raises(CourseError, match="decode of slow is infinite"):
        noisy.plot("decode", "prefill")
    with pytest.raises(CourseError, match="noise in one round was larger than the decode time"):
        results.speedup("fast", than="slow")


def test_the_picture_holds_both_quantities_of_every_engine():
    axes = RESULTS.plot(x="decode", y="quality").axes[0]
    drawn = {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_label()[0] != "_"
    }
    assert drawn == {"slow": pytest.approx((10, 75)), "fast": pytest.approx((100, 25))}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("decode, tokens/s", "quality, %")
    assert axes.get_title() == "Quality against decode"


def test_a_quantity_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="'speed' is not a quantity; choose one of ttft, prefill, decode"):
        RESULTS.plot(x="speed")
    with pytest.raises(ValueError, match="quantity='quality' must be one of ttft, prefill, decode"):
        RESULTS.speedup("slow", "fast", quantity="quality")
    with pytest.raises(CourseError, match="load of slow was not measured"):
        RESULTS.plot(x="load")
