"""Chapter 07's widget: its numbers are those of the simulation, measured points stand where they belong."""

import pytest

from course_lib.learn.widgets.serving import answer_lengths, capacity, serving_explorer, simulate
from course_lib.measure.load import poisson_arrivals
from course_lib.serve.batching import Server, continuously

SERVER = Server(lambda k: 0.001 + 0.0005 * k, 0.004, 4)
MEASURED = {5.0: 0.062, 12.0: 0.081}


@pytest.fixture(scope="module")
def explorer():
    return serving_explorer(SERVER, MEASURED, 24)


def test_every_control_changes_what_is_said(explorer):
    assert explorer.drive() == 12


def test_one_replica_is_the_simulation_of_the_chapter():
    arrivals, lengths = poisson_arrivals(9, 200), answer_lengths(24, 200)
    ends = continuously(SERVER, arrivals, lengths)
    mean = sum(end - due for end, due in zip(ends, arrivals, strict=True)) / 200
    assert simulate(SERVER, 9, 24).mean == pytest.approx(mean)


def test_a_load_above_the_capacity_is_called_so_and_replicas_end_the_queue(explorer):
    most = capacity(SERVER, 24)
    assert capacity(SERVER, 24, 3) == pytest.approx(3 * most)
    above = round(1.3 * most, 1)
    assert "the queue grows" in explorer.output_for(rate=above).text
    assert "the queue grows" not in explorer.output_for(rate=above, replicas=2).text
    assert simulate(SERVER, above, 24).mean > 2 * simulate(SERVER, above, 24, replicas=2).mean


def test_measured_points_are_shown_only_for_what_was_measured(explorer):
    text, picture = explorer.output_for(rate=5)
    assert "62 ms at 5/s, 81 ms at 12/s" in text
    measured = next(line for line in picture.axes[0].lines if line.get_label() == "measured")
    assert [list(measured.get_xdata()), list(measured.get_ydata())] == [[5, 12], [62, 81]]
    for other in ({"replicas": 2}, {"slots": 8}, {"length": 30}):
        text, picture = explorer.output_for(rate=5, **other)
        assert "Measured" not in text and len(picture.axes[0].lines) == 1


@pytest.mark.parametrize("rates", [(1000, 2000), (0.1, 0.2)])
def test_a_machine_whose_capacity_lies_outside_the_offered_rates_still_gets_a_widget(rates):
    widget = serving_explorer(SERVER, MEASURED, 24, rates=rates)
    assert rates[0] <= widget.controls["rate"].start <= rates[1]
