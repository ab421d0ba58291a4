"""The certificate shows what the learner did, and writes text that is no HTML as text."""

from course_lib.learn import state
from course_lib.learn.certificate import certificate
from course_lib.learn.predictions import predict, reveal


def test_exercises_predictions_and_scores_are_on_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))
    with state.change() as progress:
        progress.exercises["09.1"] = state.ExerciseRecord(attempts=2, verdict="right", passed=True)
    predict("speed <of> it", unit="ms", low=1, high=1000).field.value = "50"
    reveal("speed <of> it", 100.0)
    text = certificate(tmp_path / "page.html", {"best": "81% (76% to 86%)"})
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "09-exam" in text and "1 of 8" in text and "speed <of> it: 0.50" in text and "best: 81%" in text
    assert "speed &lt;of&gt; it: 0.50" in page and "<of>" not in page and "best: 81%" in page


def test_without_anything_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))
    text = certificate(tmp_path / "page.html", {})
    assert "no predictions yet" in text and "no exam yet" in text
