"""`course progress`: chapters done, exercises passed, and how good the predictions were."""

from __future__ import annotations

from course_lib.chapters import all_chapters
from course_lib.learn import state
from course_lib.learn.exercises.engine import chapter_exercises
from course_lib.tables import table


def summary(progress: state.State) -> str:
    """A table of the chapters, and a sentence on the predictions."""
    rows = []
    for path in all_chapters():
        exercises = chapter_exercises(path.name[:2])
        passed = sum(progress.exercises.get(e.id, state.Tried()).passed for e in exercises)
        done = "done" if exercises and passed == len(exercises) else ""
        rows.append((path.stem, f"{passed} of {len(exercises)}", done))
    lines = [table(["chapter", "exercises passed", ""], rows), "", _describe_predictions(progress)]
    return "\n".join(lines)


def ratios(progress: state.State) -> dict[str, float]:
    """Prediction -> guess / measurement, for those that have both, positive."""
    pairs = {name: (p.guess, p.measured) for name, p in progress.predictions.items()}
    return {name: g / m for name, (g, m) in pairs.items() if g and m and g > 0 and m > 0}


def _describe_predictions(progress: state.State) -> str:
    answered = [p for p in progress.predictions.values() if p.guess is not None and p.measured is not None]
    if not answered:
        return "No predictions yet: guess before you run a cell that measures."
    near = sum(0.5 <= ratio <= 2 for ratio in ratios(progress).values())
    near += sum(p.guess == p.measured == 0 for p in answered)
    return f"{len(answered)} predictions; {near} of them within a factor of two."


def show_progress() -> None:
    """Print the progress as this session knows it, and draw the predictions if there are any."""
    if state.path() is None:
        print("You are in the solved chapters: nothing is kept here.", end=" ")
        print("Your own copies lie in workspace/ (course start).")
    progress = state.current()
    print(summary(progress))
    if guesses := ratios(progress):
        from IPython.display import display

        from course_lib.plots import calibration

        display(calibration(guesses))


def report() -> int:
    """Print the progress in the student's file, whatever folder the command is typed in; returns 0."""
    print(summary(state.load(state.path() or state.default_path())))
    return 0
