"""Put every question of an exam to a system within a time limit, and write a checkpoint after each answer.

An interrupted run continues from the checkpoint. As in a contest, the clock does not stop in the meantime.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from statistics import median_low
from typing import Any

from course_lib import checkpoint
from course_lib.errors import CourseError
from course_lib.exam.questions import ExamQuestion
from course_lib.rag.answering import normalise, without_letter
from course_lib.rag.prompt import REFUSAL

MAX_SHARES = 4.0  # the time limit of a question, in shares: the time left divided by the questions left
RECENT_ANSWERS = 20  # the number of answers from which the speed of a system is estimated
MAX_CHARACTERS = 500  # of a written answer
_COMMAND = "course exam run --out exam-run"  # the fix that an error proposes


@dataclass
class System:
    """A system that takes the exam. answer: a function from a question to the answer's text."""

    name: str
    answer: Callable[[ExamQuestion], str]
    _seconds: list[float] = field(default_factory=list, repr=False)
    _late: threading.Thread | None = field(default=None, repr=False)

    @property
    def expected(self) -> float:
        """The median seconds of recent answers; 0 before the second one (the first may load a model)."""
        return median_low(self._seconds[-RECENT_ANSWERS:]) if len(self._seconds) > 1 else 0.0

    @property
    def busy(self) -> bool:
        """Whether a thread still works on a question whose time is over. Python cannot stop a thread."""
        return self._late is not None and self._late.is_alive()

    def ask(self, question: ExamQuestion, seconds: float) -> str:
        """Return the system's answer to a question.

        Raises TimeoutError if it takes longer than `seconds`, TypeError if the answer is not a text, and any
        error of the system.
        """
        result: list[Any] = []

        def call() -> None:
            try:
                result.append((self.answer(question), None))
            except BaseException as error:  # raised again in the thread that waits
                result.append((None, error))

        begun = time.monotonic()
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(max(seconds, 0.0))
        self._seconds.append(time.monotonic() - begun)
        if not result:
            self._late = thread
            raise TimeoutError(f"no answer in {seconds:.1f} s")
        text, error = result[0]
        if error is not None:
            raise error
        if not isinstance(text, str):
            raise TypeError(f"the system returned {text!r:.80}, which is no text")
        return text


@dataclass(frozen=True)
class Given:
    """The recorded answer to a question.

    system: the name of the system that gave it, or "guess" if all failed. failed: why each earlier system
    failed. seconds: the time for this question. used: the time of the exam up to this answer, in seconds.
    time: the time of day, in seconds since 1970.
    """

    id: str
    answer: str
    system: str
    failed: tuple[str, ...]
    seconds: float
    used: float
    time: float


def guess(question: ExamQuestion) -> str:
    """Return the first option, or a refusal if there are no options."""
    return question.options[0] if question.options else REFUSAL


def run_exam(
    questions: Sequence[ExamQuestion],
    systems: Sequence[System],
    output: Path,
    *,
    minutes: float,
    clock: Callable[[], float] = time.time,
    progress: bool = True,
) -> list[Given]:
    """Answer all questions; return the answers in the order of the questions.

    systems: the best one first, the fastest last. A question goes to the first system whose usual time is not
    above the question's share of the time left. If that system fails or is too slow, the next one is asked;
    if all fail, `guess` answers. If a question has options, the answer must be one of them. output: the
    checkpoint, with one line of JSON per answer. minutes: the time limit, including interruptions. clock:
    returns the time of day; if it goes backwards, an interruption counts as 0. Raises CourseError for the
    checkpoint of another exam, and if the checkpoint cannot be written; answers that are already in it are
    kept.
    """
    from tqdm.auto import tqdm

    if not systems or not questions or not 0 < minutes < math.inf:
        what = f"{len(questions)} questions, {len(systems)} systems, {minutes} minutes"
        raise CourseError(what, "run_exam(questions, [System('guess', guess)], output, minutes=270)")
    header = _header(questions, systems, minutes)
    given = _resume(output, header)
    used = given[-1].used + max(0.0, clock() - given[-1].time) if given else 0.0
    begun = time.monotonic() - used
    with tqdm(total=len(questions), initial=len(given), unit="question", disable=not progress) as bar:
        for number in range(len(given), len(questions)):
            left = 60 * minutes - (time.monotonic() - begun)
            start = time.monotonic()
            answer, system, failed = _answer(questions[number], systems, left, len(questions) - number)
            now = time.monotonic()
            given.append(
                Given(questions[number].id, answer, system, failed, now - start, now - begun, clock())
            )
            _append(output, asdict(given[-1]))
            bar.update()
    return given


def _answer(
    question: ExamQuestion, systems: Sequence[System], left: float, to_answer: int
) -> tuple[str, str, tuple[str, ...]]:
    """Return an answer, the name of the system that gave it, and the failures before it.

    left: the seconds left. to_answer: the number of questions left, including this one.
    """
    failed = []
    # The kind is hidden too: "refuse" would reveal that there is no answer.
    shown = replace(question, answer=None, kind="")
    end = time.monotonic() + left
    for system in systems:
        share = (end - time.monotonic()) / to_answer
        if share <= 0:
            failed.append(f"{system.name}: the time is over")
        elif system.busy:
            failed.append(f"{system.name}: still at work on an earlier question")
        elif system.expected > share and system is not systems[-1]:
            slow = f"takes {system.expected:.2g} s, {share:.2g} s are left for each question"
            failed.append(f"{system.name}: {slow}")
        else:
            try:
                text = system.ask(shown, min(MAX_SHARES * share, end - time.monotonic()))
                return _acceptable(question, text), system.name, tuple(failed)
            except (Exception, SystemExit) as error:  # one failing system must not end the exam
                failed.append(f"{system.name}: {type(error).__name__}: {error}"[:300])
    return guess(question), "guess", tuple(failed)


def _acceptable(question: ExamQuestion, text: str) -> str:
    """Return the answer; for a question with options, the option that it matches.

    Raises ValueError for an empty or too long answer, and for one that matches no option.
    """
    text = text.strip()
    if question.options:
        # With and without a final letter such as (C), because an option itself may end in a letter.
        for plain in (normalise(text), normalise(without_letter(text))):
            for option in question.options:
                if normalise(option) == plain:
                    return option
        raise ValueError(f"{text!r:.80} is none of the {len(question.options)} options")
    if not text or len(text) > MAX_CHARACTERS:
        raise ValueError(f"an answer of {len(text)} characters; from 1 to {MAX_CHARACTERS} are allowed")
    return text


def _header(questions: Sequence[ExamQuestion], systems: Sequence[System], minutes: float) -> dict[str, Any]:
    digest = sha256(repr(list(questions)).encode("utf-8", "surrogatepass")).hexdigest()
    names = [system.name for system in systems]
    return {"exam": digest, "questions": len(questions), "minutes": float(minutes), "systems": names}


def read_given(output: Path) -> list[Given]:
    """Return the answers in a checkpoint, even while a run still writes to it.

    Raises CourseError if the file is not a checkpoint.
    """
    try:
        header, *lines = output.read_bytes().split(b"\n")[:-1]  # without an unfinished line
        if "exam" not in json.loads(header):
            raise ValueError("its first line does not describe an exam")
        return [_given(line) for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CourseError(f"{output} is no checkpoint of an exam: {error}", _COMMAND) from error


def _given(line: bytes | str) -> Given:
    row = json.loads(line)
    return Given(**row | {"failed": tuple(row["failed"])})


def _resume(output: Path, header: dict[str, Any]) -> list[Given]:
    """Return the answers in the checkpoint, and remove an incomplete last line."""
    what = f"{output} belongs to another exam, to other systems or to another time limit"
    foreign = CourseError(what, "give the run a file or folder of its own, or repeat the earlier run exactly")
    with _disk_errors(output):
        lines = checkpoint.resume(output, header, foreign, batch_size=1, total=header["questions"])
    return [_given(line) for line in lines]


def _append(output: Path, row: dict[str, Any]) -> None:
    # Escapes half of a surrogate pair, which UTF-8 cannot hold.
    line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    with _disk_errors(output):
        checkpoint.append(output, [line])


@contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    """Turn an error of the disk into a CourseError."""
    try:
        yield
    except OSError as error:
        what = f"the checkpoint {output} cannot be written: {error}; the answers before this one are in it"
        raise CourseError(what, "free some disk space, and run the same command again") from error
