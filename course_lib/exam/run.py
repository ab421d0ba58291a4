"""Ask a system every question of an exam within the time, with a checkpoint after each.

A run that was killed goes on from the file. The exam's clock goes on while nothing runs, as it does in a
contest.
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

PATIENCE = 4.0  # a question may take so many times its share of the time that is left
REMEMBERED = 20  # answers by which the speed of a system is estimated
MAX_CHARACTERS = 500  # of a written answer
_COMMAND = "course exam run --out exam-run"


@dataclass
class System:
    """A way to answer: a function from a question to the answer's text."""

    name: str
    answer: Callable[[ExamQuestion], str]
    _seconds: list[float] = field(default_factory=list, repr=False)
    _late: threading.Thread | None = field(default=None, repr=False)

    @property
    def expected(self) -> float:
        """The median seconds of its last answers; 0 before the second, since the first may load a model."""
        return median_low(self._seconds[-REMEMBERED:]) if len(self._seconds) > 1 else 0.0

    @property
    def busy(self) -> bool:
        """Whether it is still at work on a question whose time was over. Nobody can stop a thread."""
        return self._late is not None and self._late.is_alive()

    def ask(self, question: ExamQuestion, seconds: float) -> str:
        """Return its answer. Raises TimeoutError if it takes longer, TypeError if its answer is not a text,
        and whatever it raises.
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
    """The answer to a question. system: whose it is, "guess" if none had one. failed: why others had none.

    seconds: that this question took. used: seconds of the exam that had gone when it was answered. time: of
    day, in seconds since 1970.
    """

    id: str
    answer: str
    system: str
    failed: tuple[str, ...]
    seconds: float
    used: float
    time: float


def guess(question: ExamQuestion) -> str:
    """Return the first option, or the refusal: an answer that is never empty."""
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
    """Answer all questions, and return the answers in the order of the questions.

    systems: the best one first, the fastest last. Each question goes to the first one that, at its speed so
    far, leaves every later question its share of the time; where it fails or is late, to the next one; and
    where none has an answer, `guess` has one. An answer to a question with options must be one of them.
    output: the checkpoint, a line of JSON for each answer. minutes: of the exam, pauses included. clock: the
    time of day; where it goes backwards, the pause counts 0. Raises CourseError for the checkpoint of another
    exam and for one that cannot be written (no answer is lost).
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
    """Return an answer, the name of its system, and what went wrong before.

    left: seconds of the exam. to_answer: the questions left, this one included.
    """
    failed = []
    shown = replace(
        question, answer=None, kind=""
    )  # the kind of some questions says that they have no answer
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
                text = system.ask(shown, min(PATIENCE * share, end - time.monotonic()))
                return _acceptable(question, text), system.name, tuple(failed)
            except (Exception, SystemExit) as error:  # whatever it is, the exam goes on
                failed.append(f"{system.name}: {type(error).__name__}: {error}"[:300])
    return guess(question), "guess", tuple(failed)


def _acceptable(question: ExamQuestion, text: str) -> str:
    """Return the answer as the exam takes it.

    Raises ValueError for no answer, one that is too long, and one that is none of the options.
    """
    text = text.strip()
    if question.options:
        for plain in (
            normalise(text),
            normalise(without_letter(text)),
        ):  # an option may end in a letter itself
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
    """Return the answers in a checkpoint, which may still be written to. Raises CourseError if it is none."""
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
    """Return the answers in the checkpoint, and cut off a line that was not finished."""
    what = f"{output} belongs to another exam, to other systems or to another time limit"
    foreign = CourseError(what, "give the run a file or folder of its own, or repeat the earlier run exactly")
    with _disk_errors(output):
        lines = checkpoint.resume(output, header, foreign, batch_size=1, total=header["questions"])
    return [_given(line) for line in lines]


def _append(output: Path, row: dict[str, Any]) -> None:
    line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()  # half surrogates
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
