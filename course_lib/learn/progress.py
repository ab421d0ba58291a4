"""The command `course progress`: chapters done, exercises passed, and how accurate the predictions were."""

from __future__ import annotations

from course_lib.chapters import all_chapters
from course_lib.learn import state
from course_lib.learn.exercises.engine import chapter_exercises
from course_lib.tables import table


def summary(progress: state.State) -> str:
    """Return a table of the chapters and a sentence about the predictions."""
    rows = []
    for path in all_chapters():
        exercises = chapter_exercises(path.name[:2])
        passed = sum(progress.exercises.get(e.id, state.ExerciseRecord()).passed for e in exercises)
        done = "done" if exercises and passed == len(exercises) else ""
        rows.append((path.stem, f"{passed} of {len(exercises)}", done))
    lines = [table(["chapter", "exercises passed", ""], rows), "", _describe_predictions(progress)]
    return "\n".join(lines)


def ratios(progress: state.State) -> dict[str, float]:
    """Return prediction name -> guess / measurement, for predictions in which both are positive."""
    pairs = {name: (p.guess, p.measured) for name, p in progress.predictions.items()}
    return {name: g / m for name, (g, m) in pairs.items() if g and m and g > 0 and m > 0}


def _describe_predictions(progress: state.State) -> str:
    answered = [p for p in progress.predictions.values() if p.guess is not None and p.measured is not None]
    if not answered:
        return "No predictions yet: guess before you run a cell that measures."
    near = sum(0.5 <= ratio <= 2 for ratio in ratios(progress).values())
    near += sum(p.guess == p.measured == 0 for p in answered)
    noun = "prediction" if len(answered) == 1 else "predictions"
    return f"{len(answered)} {noun}; {near} of them within a factor of two."


def show_progress() -> None:
    """Print the current progress, and plot the predictions if there are any. For notebooks."""
    if state.path() is None:
        print("Your progress is recorded in your own copies of the chapters alone: course start makes them.")
    progress = state.current()
    print(summary(progress))
    if guesses := ratios(progress):
        from IPython.display import display

        from course_lib.plots import calibration

        display(calibration(guesses))


def report() -> int:
    """Print the progress in the student's file, whatever the current folder is. Returns 0."""
    print(summary(state.load(state.path() or state.default_path())))
    return 0
