"""`course test` and `course check`: which commands they run, and that a failure of any is theirs."""

import sys

import pytest

from course_lib import cli, testing
from course_lib.errors import CourseError


def python(code):
    return (sys.executable, "-c", code)


@pytest.fixture
def steps(monkeypatch):
    """Commands that pass in place of the real ones; what pytest is given is printed."""
    monkeypatch.setattr(testing, "STATIC", {"lint": [python("")], "types": [python("print('2 files')")]})
    monkeypatch.setattr(testing, "PYTEST", python("import sys; print('pytest', *sys.argv[1:])"))
    return monkeypatch


def test_everything_is_one_call_of_pytest_with_lint_and_types_beside_it(steps, capfd):
    assert cli.main(["test"]) == 0
    out = capfd.readouterr().out
    assert out.startswith(f"pytest tests {testing.CHAPTERS}\n")
    assert "== lint: passed\n== types: passed\n2 files\nEverything holds, after " in out


def test_a_handout_says_that_it_holds_no_tests(steps, tmp_path, capsys):
    steps.setattr(testing, "ROOT", tmp_path)
    assert cli.main(["test", "--chapter", "00"]) == 1
    assert "is a handout, which holds no tests" in capsys.readouterr().err


@pytest.mark.parametrize(("only", "expected"), [("tests", "pytest tests\n"), ("types", "== types: passed")])
def test_one_step(steps, capfd, only, expected):
    assert cli.main(["test", "--only", only]) == 0
    out = capfd.readouterr().out
    assert out.startswith(expected) and "lint" not in out


def test_one_chapter(steps, capfd):
    assert cli.main(["test", "--chapter", "3"]) == 0
    out = capfd.readouterr().out
    assert "03-hybrid-search.ipynb tests/notebooks tests/learn -k 03-hybrid-search or chapter_03\n" in out
    with pytest.raises(CourseError, match="no chapter '77'"):
        testing.run_chapter("77")


def test_the_chapters_in_another_tier(steps, capfd):
    steps.setattr(
        testing, "PYTEST", python("import os, sys; print(os.environ['COURSE_TIER'], *sys.argv[1:])")
    )
    assert cli.main(["test", "--tier", "real"]) == 0
    assert capfd.readouterr().out.startswith(
        f"real -n 0 --nbval-cell-timeout=900 {testing.CHAPTERS}\nEverything holds"
    )
    assert cli.main(["test", "--tier", "real", "--chapter", "3"]) == 0
    assert "03-hybrid-search.ipynb\n" in capfd.readouterr().out


def test_what_changed(steps, capfd):
    assert cli.main(["check"]) == 0
    assert capfd.readouterr().out.startswith("pytest --changed\n== lint: passed")


@pytest.mark.parametrize(("status", "result"), [(0, 0), (1, 1), (2, 1), (testing.NO_TESTS_COLLECTED, 0)])
def test_a_failure_of_pytest(steps, capfd, status, result):
    steps.setattr(testing, "PYTEST", python(f"raise SystemExit({status})"))
    assert testing.run_changed() == result
    assert ("Failed after" in (out := capfd.readouterr().out)) == bool(result) and ("pytest" in out) == bool(
        result
    )


def test_a_failure_of_a_static_step_is_printed_and_stops_nothing(steps, capfd):
    steps.setitem(testing.STATIC, "lint", [python("raise SystemExit('E501')"), python("print('format')")])
    assert testing.run_all() == 1
    out = capfd.readouterr().out
    assert "== lint: FAILED\nE501\nformat\n== types: passed" in out and out.endswith(": lint\n")
