"""`course progress`: chapters done, exercises passed, and how good the predictions were."""

from __future__ import annotations

from course_lib.chapters import all_chapters
from course_lib.learn import state
from course_lib.learn.exercises.engine import of_chapter
from course_lib.tables import table


def summary(known: state.State) -> str:
    """A table of the chapters, and a sentence on the predictions."""
    rows = []
    for path in all_chapters():
        exercises = of_chapter(path.name[:2])
        passed = sum(e.id in known.exercises and known.exercises[e.id].passed for e in exercises)
        done = "done" if exercises and passed == len(exercises) else ""
        rows.append((path.stem, f"{passed} of {len(exercises)}", done))
    lines = [table(["chapter", "exercises passed", ""], rows), "", _on_predictions(known)]
    return "\n".join(lines)


def ratios(known: state.State) -> dict[str, float]:
    """Prediction -> guess / measurement, for those that have both, positive."""
    pairs = {name: (p.guess, p.measured) for name, p in known.predictions.items()}
    return {name: g / m for name, (g, m) in pairs.items() if g and m and g > 0 and m > 0}


def _on_predictions(known: state.State) -> str:
    made = [p for p in known.predictions.values() if p.guess is not None and p.measured is not None]
    if not made:
        return "No predictions yet: guess before you run a cell that measures."
    near = sum(0.5 <= r <= 2 for r in ratios(known).values()) + sum(p.guess == p.measured == 0 for p in made)
    return f"{len(made)} predictions; {near} of them within a factor of two."


def show_progress() -> None:
    """Print the student's progress, as far as this session knows it, and draw the predictions once there are any."""
    if state.path() is None:
        print(
            "You are in the solved chapters: nothing is kept here. Your own copies lie in workspace/ (course start)."
        )
    known = state.current()
    print(summary(known))
    if guessed := ratios(known):
        from IPython.display import display

        from course_lib.plots import calibration

        display(calibration(guessed))


def report() -> int:
    """The student's file, whatever folder the command is typed in."""
    print(summary(state.load(state.path() or state.default_path())))
    return 0
