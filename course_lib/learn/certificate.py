"""Write a page for the learner to keep: exercises passed, predictions, and scores in chapter 09's exam."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from html import escape
from pathlib import Path

from course_lib.atomic import atomic_write_text
from course_lib.learn import state
from course_lib.learn.progress import ratios, summary

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Local AI, Measured</title></head>
<body><h1>Local AI, Measured</h1><p>{day}</p>
<h2>Exercises and predictions</h2><pre>{summary}</pre>
<h2>Guess divided by measurement</h2><pre>{ratios}</pre>
<h2>The exam</h2><pre>{scores}</pre>
</body></html>
"""


def certificate(path: Path, scores: Mapping[str, str]) -> str:
    """Write the page as HTML and return its text. Nothing leaves this machine.

    scores: name of a system (a way to answer the exam) -> its score in words. In the solved chapters no
    progress is recorded, so there the page shows none.
    """
    progress = state.current()
    guesses = "\n".join(f"{name}: {ratio:.2f}" for name, ratio in sorted(ratios(progress).items()))
    parts = {
        "summary": summary(progress),
        "ratios": guesses or "no predictions yet",
        "scores": "\n".join(f"{name}: {score}" for name, score in scores.items()) or "no exam yet",
    }
    page = PAGE.format(day=date.today(), **{name: escape(text) for name, text in parts.items()})
    atomic_write_text(path, page)
    return "\n\n".join(parts.values())
