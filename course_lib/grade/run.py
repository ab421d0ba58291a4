"""The command `course grade`: grade all submissions in a folder, with one process per core."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from course_lib import checkpoint
from course_lib.chapters import all_chapters
from course_lib.data import sha256
from course_lib.errors import CourseError
from course_lib.grade.answers import answers, course_chapters
from course_lib.grade.judge import Answer, Limits, Result, judge
from course_lib.grade.submission import Submission, find, read, versions
from course_lib.learn import exercises
from course_lib.shell import command_line

NOT_ANSWERED = Result("not answered", "")


@dataclass(frozen=True)
class Graded:
    """One graded submission. results: exercise id -> result, for the chapters that are graded."""

    submission: Submission
    results: dict[str, Result]

    def right(self, chapter: str) -> int | None:
        """Return how many exercises of a chapter are right, or None if its notebook cannot be read."""
        if {chapter, ""} & set(self.submission.unreadable) and chapter not in self.submission.cells:
            return None
        return sum(r.verdict == "right" for id_, r in self.results.items() if id_[:2] == chapter)

    def answered(self) -> dict[str, str]:
        """Return exercise id -> source of the cells that were answered."""
        cells = {id_: cell for chapter in self.submission.cells.values() for id_, cell in chapter.items()}
        return {id_: cells[id_] for id_, r in self.results.items() if r.verdict != "not answered"}


def grade_one(label: str, paths: Sequence[Path], only: Sequence[str], limits: Limits) -> Graded:
    """Grade one submission. only: numbers of chapters; () means all. Raises CourseError as `judge` does."""
    submission, results = read(label, paths), {}
    for number, chapter in course_chapters().items():
        if only and number not in only:
            continue
        for id_, answer in answers(submission.cells.get(number, {}), chapter):
            results[id_] = judge(answer, limits) if answer else NOT_ANSWERED
    return Graded(submission, results)


def grade(
    folder: Path, journal: Path, only: Sequence[str], limits: Limits, workers: int | None = None
) -> list[Graded]:
    """Grade all submissions of a folder, and return them in the order of their names; print each when done.

    journal: the file to which each graded submission is appended. A later run continues from it, and grades
    only submissions that are new or changed. workers: the number of processes; None means one per core.
    Raises CourseError for a chapter that has no exercises, for the journal of another run, and if this system
    cannot isolate the answers.
    """
    if unknown := sorted(set(only) - course_chapters().keys()):
        raise CourseError(
            f"chapter {', '.join(unknown)} has no exercises; {', '.join(course_chapters())} have some",
            f"course grade {command_line(folder)} --out grades.csv",
        )
    files = find(folder)
    keys = {
        label: _digest([label.encode(), *(sha256(p).encode() for p in paths)])
        for label, paths in files.items()
    }
    done = _resume(journal, only, limits)
    graded = {label: done[key] for label, key in keys.items() if key in done}
    print(
        f"{len(files)} submission{'s' * (len(files) != 1)}, {len(graded)} of them graded before.", flush=True
    )
    if len(graded) < len(files):
        _check_numpy(limits)
    with _pool(min(workers or os.cpu_count() or 1, max(1, len(files) - len(graded)))) as pool:
        running = {
            pool.submit(grade_one, label, paths, tuple(only), limits): label
            for label, paths in files.items()
            if label not in graded
        }
        for future in as_completed(running):
            label = running[future]
            graded[label] = future.result()
            checkpoint.append(journal, [json.dumps({"key": keys[label], **asdict(graded[label])})])
            print(f"  {len(graded):3} of {len(files)}  {describe(graded[label])}", flush=True)
    return [graded[label] for label in files]


def _check_numpy(limits: Limits) -> None:
    """Raise CourseError if an answer cannot import NumPy here, for example from a folder it may not read."""
    exercise = next(iter(exercises.all_exercises().values()))
    result = judge(Answer(exercise, "import numpy\nanswer = ...", "answer"), replace(limits, seconds=60))
    if result.verdict != "not answered":
        what = f"an answer that imports NumPy does not run here: {result.message}"
        raise CourseError(what, "use a Python whose libraries lie in its own folder or in /usr")


def describe(graded: Graded) -> str:
    """Return a line about one submission: the learner, and the number of answers with each verdict."""
    chapters = graded.submission.cells
    verdicts = [r.verdict for id_, r in graded.results.items() if id_[:2] in chapters]
    counts = {v: verdicts.count(v) for v in ("right", "not yet", "crashed", "timed out", "not answered")}
    parts = [f"{n} {verdict}" for verdict, n in counts.items() if n]
    parts += ["not readable"] if graded.submission.unreadable else []
    return f"{graded.submission.student}: {', '.join(parts) or 'no chapter of the course'}"


def _resume(journal: Path, only: Sequence[str], limits: Limits) -> dict[str, Graded]:
    """Return key -> graded submission, from the journal of an earlier run of the same course and options."""
    ours = [*all_chapters(), *sorted(Path(exercises.__file__).parent.glob("*.py"))]
    header = {
        "course": _digest([path.read_bytes() for path in ours]),
        "versions": versions(),
        "only": sorted(only),
        "seconds": limits.seconds,
    }
    foreign = CourseError(
        f"{journal.name} holds the grades of another version of the course, or of other options",
        f"remove {journal}, or choose another --out",
    )
    done = {}
    # With batch_size=1 each whole line counts; no total is known, as submissions may be added.
    for line in checkpoint.resume(journal, header, foreign, batch_size=1, total=-1):
        try:
            row = json.loads(line)
            results = {id_: Result(**result) for id_, result in row["results"].items()}
            done[row["key"]] = Graded(Submission(**row["submission"]), results)
        except (ValueError, KeyError, TypeError):  # somebody edited it: that submission is graded again
            continue
    return done


def _digest(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _start_judge() -> None:
    """Prepare a process of the pool: ignore Ctrl-C, which the main process handles, and hide warnings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of judging processes. If the block raises, they and their answers are ended at once."""
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_judge)
    try:
        yield pool
    except BrokenProcessPool as error:
        what = "a grading process was ended by the system, most likely for lack of memory"
        raise CourseError(what, "run the same command with --workers 1: it goes on where it was") from error
    except BaseException:
        processes: dict[int, Any] = getattr(pool, "_processes", None) or {}
        for process in list(processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
