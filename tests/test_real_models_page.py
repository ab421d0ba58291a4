"""docs/real-models.md states what benchmarks/real_models.json holds."""

import json
import runpy

from course_lib.data import ROOT


def test_the_page_has_the_recorded_results():
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "real_models.py"))
    results = json.loads(benchmark["RESULTS"].read_text("utf-8"))
    text = benchmark["PAGE"].read_text("utf-8")
    measured = text.partition(benchmark["START"])[2].partition(benchmark["END"])[0]
    assert measured.strip() == benchmark["page"](results)
    for name, answers in results["answers"].items():
        assert len({question for question, *_ in answers}) == len(answers) >= 20, name
