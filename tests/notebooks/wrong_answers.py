"""The wrong answers that the gate gives to each exercise, from `wrong_answers/chapter_NN.yaml`."""

import functools
from pathlib import Path
from typing import NamedTuple

import yaml

from course_lib.learn.exercises import all_exercises

FOLDER = Path(__file__).with_suffix("")
FEWEST = 3  # wrong answers of an exercise


class Wrong(NamedTuple):
    """A mistake that people make: code in place of the solution, and words of the feedback it must get."""

    code: str
    feedback: str


def problems(exercise_id: str, answers: dict[str, Wrong]) -> list[str]:
    """What is wrong with the wrong answers of one exercise."""
    found = []
    if len(answers) < FEWEST:
        found.append(f"{exercise_id}: {len(answers)} wrong answers; at least {FEWEST} are needed")
    feedbacks = [wrong.feedback for wrong in answers.values()]
    for feedback in sorted({f for f in feedbacks if feedbacks.count(f) > 1}):
        found.append(f"{exercise_id}: two wrong answers expect the same feedback {feedback!r}")
    return found


@functools.cache
def load(path: Path) -> dict[str, dict[str, Wrong]]:
    """The wrong answers of one chapter, by exercise id and name. Raises ValueError, naming every problem."""
    content = yaml.safe_load(path.read_text("utf-8"))
    answers = {id_: {str(name): Wrong(**w) for name, w in named.items()} for id_, named in content.items()}
    expected = {id_ for id_ in all_exercises() if id_[:2] == path.stem[-2:]}
    found = [f"{path.name}: unknown exercise {id_}" for id_ in sorted(answers.keys() - expected)]
    for id_ in sorted(expected):
        found += problems(id_, answers.get(id_, {}))
    if found:
        raise ValueError("\n".join(found))
    return answers


def wrong_answers(exercise_id: str) -> dict[str, Wrong]:
    """The wrong answers of one exercise by name. Raises ValueError where the chapter's file is not valid."""
    path = FOLDER / f"chapter_{exercise_id[:2]}.yaml"
    return load(path).get(exercise_id, {}) if path.is_file() else {}
