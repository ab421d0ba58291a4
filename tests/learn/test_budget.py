"""Budgets: scaled to the machine, broken by memory or by three times the minutes."""

import re
import subprocess
import sys

import nbformat
import pytest
from pydantic import ValidationError

from course_lib.chapters import all_chapters, execute, read_notebook
from course_lib.errors import CourseError
from course_lib.learn import budget
from course_lib.learn.budget import (
    Budget,
    budget_violations,
    calibrate,
    declared_budget,
    fewer,
    first_further_cell,
    report,
    sample,
    show_budget,
)

BUDGET = Budget(minutes=2, memory_gib=1, disk_gb=0, download_mb=0, speed=100)


@pytest.mark.parametrize("path", all_chapters(), ids=lambda p: p.stem)
def test_every_chapter_declares_a_budget(path):
    assert declared_budget(read_notebook(path), path.name).minutes > 0


def test_a_machine_half_as_fast_gets_twice_the_minutes():
    assert BUDGET.minutes_at(50) == 4 and BUDGET.minutes_at(100) == 2


@pytest.mark.parametrize(
    ("seconds", "peak", "speed", "broken"),
    [
        (350, 2**30, 100, []),
        (370, 2**29, 100, ["6.2 min"]),
        (370, 2**29, 50, []),
        (1, 1.01 * 2**30, 100, ["1.01 GiB"]),
        (999, 2**31, 100, ["2.00 GiB", "min"]),
    ],
)
def test_what_breaks_a_budget(seconds, peak, speed, broken):
    found = budget_violations(BUDGET, seconds, int(peak), speed)
    assert len(found) == len(broken) and all(b in f for b, f in zip(broken, found, strict=True))


def test_the_optional_part_has_minutes_of_its_own():
    declared = BUDGET.model_copy(update={"further_minutes": 1})
    assert budget_violations(declared, 350, 0, 100, 170) == []
    assert budget_violations(declared, 350, 0, 100, 190)[0].startswith("optional part: 3.2 min, allowed 3.0")
    assert budget_violations(BUDGET, 350, 0, 100, 1)[0].startswith("optional part: 0.0 min, allowed 0.0")


def test_the_optional_part_begins_at_its_heading():
    new = nbformat.v4
    cells = [new.new_markdown_cell("# A"), new.new_code_cell("1", id="one")]
    assert first_further_cell(new.new_notebook(cells=cells)) == ""
    cells += [new.new_markdown_cell("b\n\n## Further: more"), new.new_code_cell("2", id="two")]
    assert first_further_cell(new.new_notebook(cells=cells)) == "two"


def test_a_notebook_without_a_budget_is_named():
    with pytest.raises(CourseError, match="n declares no budget for tier tiny"):
        declared_budget(nbformat.v4.new_notebook(), "n")


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"minutes": "long"}, {"memory_gib": -1}, {"gpu": 1}])
def test_a_budget_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Budget.model_validate(BUDGET.model_dump() | wrong)


def test_a_tier_for_which_nothing_was_measured_is_told_and_stops_nobody(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_TIER", "laptop")
    monkeypatch.setattr(budget, "require", lambda entries: None)  # as if the models were there
    assert show_budget("00") > 0
    out = capsys.readouterr().out
    assert re.search(r"\(tier tiny\)\nNothing was measured in tier laptop: .* need more", out)
    assert re.search(r"^chat +Qwen2\.5-0\.5B-Instruct$", out, re.M)


def test_all_missing_models_of_a_tier_are_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_TIER", "laptop")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CourseError, match="tier laptop: not on this machine: Qwen") as error:
        show_budget("00")
    pulls = [command.split()[:3] for command in error.value.fix.split(" && ")]
    assert len(pulls) == 5 and all(words == ["course", "models", "pull"] for words in pulls)


def test_a_model_chosen_by_hand_is_shown(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_CHAT", "haneul-1m")
    assert show_budget("00") > 0
    assert re.search(r"^chat +haneul-1m$", capsys.readouterr().out, re.M)


def test_where_models_are_slow_a_sample_is_taken_and_told(monkeypatch, capsys):
    assert sample(range(100), 80) == list(range(80)) and capsys.readouterr().out == ""
    monkeypatch.setenv("COURSE_TIER", "real")
    assert sample(range(100), 80) == list(range(8)) and "8 of 80" in capsys.readouterr().out
    assert sample(range(100), 12) == list(range(4)) and sample(range(100), 3) == list(range(3))
    assert (fewer(7), fewer(64, least=16), fewer(3)) == (4, 16, 3)
    monkeypatch.setenv("COURSE_SHARE", "0.5")
    assert len(sample(range(100), 80)) == 40
    for wrong in ("0", "1.5", "half", "nan"):
        monkeypatch.setenv("COURSE_SHARE", wrong)
        with pytest.raises(CourseError, match="COURSE_SHARE="):
            sample(range(100), 80)


def test_the_first_cell_shows_it_for_this_machine(capsys):
    assert show_budget("00") == declared_budget(read_notebook(all_chapters()[0]), "00").memory_gib
    assert " GiB of memory, " in capsys.readouterr().out


FIRST_CELL = """import sys
from course_lib.learn.budget import show_budget
from course_lib.learn.claims import claim
from course_lib.learn.exercises import check
from course_lib.learn.predictions import predict
show_budget("00")
print("nbformat" in sys.modules, "lark" in sys.modules)"""


def test_the_first_cell_of_a_chapter_compiles_no_grammar():
    """jsonschema, which nbformat uses, would compile one with lark for a second."""
    out = subprocess.run([sys.executable, "-c", FIRST_CELL], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "True False"


def test_calibration_is_a_positive_speed():
    assert calibrate(0.05) > 0


def test_a_run_measures_the_kernels_memory_and_stops_at_a_failure(tmp_path):
    cells = [
        nbformat.v4.new_code_cell(c)
        for c in ("block = bytearray(300_000_000)", "import time; time.sleep(0.3)", "1 / 0", "print('never')")
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    run = execute(notebook, tmp_path)
    assert run.peak_bytes > 300e6 and run.seconds > 0.3
    assert "ZeroDivisionError" in run.error and notebook.cells[3].outputs == []
    small = execute(nbformat.v4.new_notebook(cells=[cells[1]]), tmp_path)
    assert small.error == "" and small.peak_bytes < run.peak_bytes


def test_a_kernel_that_is_killed_is_a_failure_and_no_traceback(tmp_path):
    killed = nbformat.v4.new_code_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    run = execute(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('before')"), killed]), tmp_path
    )
    assert "DeadKernel" in run.error


def test_a_machine_that_seems_very_slow_gets_no_more_than_four_times_the_minutes():
    assert budget_violations(BUDGET, 60 * 2 * 3 * 4 - 1, 0, 1) == [] and budget_violations(
        BUDGET, 60 * 2 * 3 * 4 + 1, 0, 1
    )


def test_the_command_prints_declared_beside_measured(capsys):
    assert report("00") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("speed of this machine: ") and lines[2].startswith("00-start-here ")
    assert len([float(x) for x in lines[2].split()[1:]]) == 4
