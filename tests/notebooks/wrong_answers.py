"""Load the wrong answers that the tests give to each exercise, from `wrong_answers/chapter_NN.yaml`."""

import functools
from pathlib import Path
from typing import NamedTuple

import yaml

from course_lib.learn.exercises import all_exercises

FOLDER = Path(__file__).with_suffix("")
MIN_ANSWERS = 3  # wrong answers per exercise


class Wrong(NamedTuple):
    """A typical mistake. code: replaces the solution. feedback: words that the feedback must contain."""

    code: str
    feedback: str


def problems(exercise_id: str, answers: dict[str, Wrong]) -> list[str]:
    """Return the formal problems of one exercise's wrong answers: too few, or two with the same feedback."""
    messages = []
    if len(answers) < MIN_ANSWERS:
        messages.append(f"{exercise_id}: {len(answers)} wrong answers; at least {MIN_ANSWERS} are needed")
    feedbacks = [wrong.feedback for wrong in answers.values()]
    for feedback in sorted({f for f in feedbacks if feedbacks.count(f) > 1}):
        messages.append(f"{exercise_id}: two wrong answers expect the same feedback {feedback!r}")
    return messages


@functools.cache
def load(path: Path) -> dict[str, dict[str, Wrong]]:
    """Return exercise id -> name -> wrong answer for one chapter. Raises ValueError listing all problems."""
    content = yaml.safe_load(path.read_text("utf-8"))
    answers = {id_: {str(name): Wrong(**w) for name, w in named.items()} for id_, named in content.items()}
    expected = {id_ for id_ in all_exercises() if id_[:2] == path.stem[-2:]}
    messages = [f"{path.name}: unknown exercise {id_}" for id_ in sorted(answers.keys() - expected)]
    for id_ in sorted(expected):
        messages += problems(id_, answers.get(id_, {}))
    if messages:
        raise ValueError("\n".join(messages))
    return answers


def wrong_answers(exercise_id: str) -> dict[str, Wrong]:
    """Return name -> wrong answer for one exercise. Raises ValueError if the chapter's file is not valid."""
    path = FOLDER / f"chapter_{exercise_id[:2]}.yaml"
    return load(path).get(exercise_id, {}) if path.is_file() else {}
