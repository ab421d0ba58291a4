"""The simulation of batching, against the formula of a queue and against what must hold for any load."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.measure.load import poisson_arrivals
from course_lib.serve.batching import Server, continuously, in_batches

ONE = Server(lambda batch: 0.001, 0.002, 1)  # 0.01 s for an answer of 8 tokens
FOUR = Server(lambda batch: 0.001 * (1 + 0.1 * batch), 0.002, 4)
loads = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 20)), min_size=1, max_size=30)


def latencies(ends, arrivals):
    return [end - arrival for end, arrival in zip(ends, arrivals, strict=True)]


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("simulate", [continuously, in_batches])
def test_one_slot_is_a_queue_whose_mean_wait_is_known(simulate, load):
    """M/D/1 (Pollaczek-Khinchine): the mean wait is load * service / (2 * (1 - load))."""
    service, count = 0.01, 30_000
    arrivals = poisson_arrivals(load / service, count, seed=3)
    waits = [t - service for t in latencies(simulate(ONE, arrivals, [8] * count), arrivals)]
    assert statistics.fmean(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.1)


@given(loads)
def test_what_holds_for_every_load(requests):
    arrivals, tokens = sorted(a for a, _ in requests), [t for _, t in requests]
    alone = [FOUR.read_seconds + FOUR.step_seconds(1) * t for t in tokens]
    for ends in (
        continuously(FOUR, arrivals, tokens),
        in_batches(FOUR, arrivals, tokens),
        in_batches(FOUR, arrivals, tokens, wait=0.01),
    ):
        found = latencies(ends, arrivals)
        assert all(t >= least - 1e-9 for t, least in zip(found, alone, strict=True))
        busiest = sum(tokens) * FOUR.step_seconds(4) / 4 + FOUR.read_seconds * len(tokens)
        assert max(ends) >= arrivals[0] + busiest - 1e-9


@pytest.mark.parametrize("simulate", [continuously, in_batches])
@pytest.mark.parametrize(("arrivals", "tokens"), [([0, 0], [0, 3]), ([1, 0], [1, 1]), ([0, 1], [1])])
def test_requests_that_no_server_gets_are_refused(simulate, arrivals, tokens):
    with pytest.raises(CourseError, match=f"{len(arrivals)} arrivals, {len(tokens)} answers"):
        simulate(FOUR, arrivals, tokens)
    assert simulate(FOUR, [], []) == []


def test_a_server_has_a_slot():
    with pytest.raises(CourseError, match="slots=0; a server needs at least 1"):
        Server(lambda batch: 0.001, 0.002, 0)


def test_a_batch_waits_for_its_longest_answer_and_static_for_a_full_batch():
    arrivals, tokens = [0.0, 0.0, 1.0], [2, 10, 2]
    both = 2 * FOUR.read_seconds + 10 * FOUR.step_seconds(2)
    alone = FOUR.read_seconds + 2 * FOUR.step_seconds(1)
    assert in_batches(FOUR, arrivals, tokens, wait=0) == pytest.approx([both, both, 1 + alone])
    all_three = 1 + 3 * FOUR.read_seconds + 10 * FOUR.step_seconds(3)
    assert in_batches(FOUR, arrivals, tokens, wait=math.inf) == pytest.approx([all_three] * 3)
    short = 2 * FOUR.read_seconds + 2 * FOUR.step_seconds(2)
    assert continuously(FOUR, arrivals, tokens)[0] == pytest.approx(short)
