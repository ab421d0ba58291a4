"""Write grades: a table, files that Moodle and Canvas import, and a page of feedback for each learner."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.atomic import atomic_folder, atomic_write_text
from course_lib.errors import CourseError
from course_lib.grade.answers import course_chapters, exercise_ids
from course_lib.grade.run import Graded
from course_lib.grade.similar import matching_submissions, solutions
from course_lib.learn.exercises import find_exercise

Row = Sequence[object]
PAGE = re.compile(r"(index|\d+)\.html")  # the names of the pages of feedback
# Verdict -> its sign on a page of feedback.
SIGNS = {"right": "✓", "not yet": "✗", "not answered": "–", "crashed": "!", "timed out": "!"}


@dataclass(frozen=True)
class Grades:
    """All grades of a class.

    of: chapter -> number of its exercises, for the chapters that count. alike: submission -> other submission
    -> number of equal answers, for pairs that may be copies.
    """

    graded: Sequence[Graded]
    of: Mapping[str, int]
    alike: Mapping[str, Mapping[str, int]]

    def points(self, one: Graded) -> list[int | None]:
        """Return the right answers of each chapter that counts; None where the notebook cannot be read."""
        return [one.right(chapter) for chapter in self.of]

    def total(self, one: Graded) -> int | None:
        """Return the right answers of all chapters, or None if one cannot be read."""
        points = self.points(one)
        return None if None in points else sum(p for p in points if p is not None)

    def notes(self, one: Graded) -> list[str]:
        """Return what a teacher should know about a submission, such as equal answers in another one."""
        students = Counter((g.submission.login or g.submission.student) for g in self.graded)
        name, label = one.submission.login or one.submission.student, one.submission.source
        others = [f"{n} answers as in {other}" for other, n in self.alike.get(label, {}).items()]
        again = [f"{students[name]} submissions of this learner"] if students[name] > 1 else []
        return [*one.submission.notes, *again, *others]


def collect(graded: Sequence[Graded], only: Sequence[str]) -> Grades:
    """Return the grades of a class.

    only: the chapters that count; if it is empty, those of which anybody answered an exercise.
    """
    answered = {id_[:2] for one in graded for id_ in one.answered()}
    chapters = {
        number: len(exercise_ids(chapter))
        for number, chapter in course_chapters().items()
        if number in (only or answered)
    }
    sources = {one.submission.source: one.answered() for one in graded}
    return Grades(graded, chapters, matching_submissions(sources, solutions(frozenset(chapters))))


def write_tables(grades: Grades, out: Path) -> list[Path]:
    """Write the tables of a class, and return their paths.

    `out` has a row for each learner, OUT-exercises a row for each answer; OUT-moodle and OUT-canvas are for
    the learning platforms.
    """
    texts = {
        out: "\ufeff" + _csv(_rows(grades)),  # the byte order mark, by which Excel recognises UTF-8
        out.with_stem(f"{out.stem}-exercises"): "\ufeff" + _csv(_exercise_rows(grades)),
        out.with_stem(f"{out.stem}-moodle"): _csv(_moodle_rows(grades)),
        out.with_stem(f"{out.stem}-canvas"): _csv(_canvas_rows(grades)),
    }
    for path, text in texts.items():
        atomic_write_text(path, text)
    return list(texts)


def _csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV. A text that a spreadsheet would take for a formula is preceded by an apostrophe."""
    stream = io.StringIO()
    safe = [
        [
            f"'{cell}"
            if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            else cell
            for cell in row
        ]
        for row in rows
    ]
    csv.writer(stream, lineterminator="\n").writerows(safe)
    return stream.getvalue()


def _rows(grades: Grades) -> list[Row]:
    heads = [f"chapter {chapter} (of {count})" for chapter, count in grades.of.items()]
    rows: list[Row] = [("student", "id", *heads, f"right (of {sum(grades.of.values())})", "notes", "file")]
    for one in grades.graded:
        sub = one.submission
        rows.append(
            (
                sub.student,
                sub.login,
                *grades.points(one),
                grades.total(one),
                "; ".join(grades.notes(one)),
                sub.source,
            )
        )
    return rows


def _exercise_rows(grades: Grades) -> list[Row]:
    rows: list[Row] = [("student", "id", "exercise", "verdict", "message", "seconds", "file")]
    for one in grades.graded:
        sub = one.submission
        rows += [
            (sub.student, sub.login, id_, r.verdict, r.message, r.seconds, sub.source)
            for id_, r in one.results.items()
            if id_[:2] in grades.of
        ]
    return rows


def _moodle_rows(grades: Grades) -> list[Row]:
    heads = [f"Chapter {chapter}" for chapter in grades.of]
    rows = [(one.submission.login, one.submission.student, *grades.points(one)) for one in grades.graded]
    return [("ID", "Name", *heads), *rows]


def _canvas_rows(grades: Grades) -> list[Row]:
    """Canvas takes five columns that it knows, and a second row with the points of each assignment."""
    heads = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
    rows = [
        (one.submission.student, "", "", one.submission.login, "", *grades.points(one))
        for one in grades.graded
    ]
    points = ("    Points Possible", "", "", "", "", *grades.of.values())
    return [(*heads, *(f"Chapter {chapter}" for chapter in grades.of)), points, *rows]


def write_pages(grades: Grades, folder: Path) -> Path:
    """Write a page of feedback for each learner and a list of them. Returns the path of the list.

    Earlier pages in the folder are replaced. Raises CourseError if something else is in it.
    """
    import jinja2

    if folder.exists() and any(not PAGE.fullmatch(path.name) for path in folder.iterdir()):
        raise CourseError(f"{folder} holds other files than pages of feedback", "choose another --out")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("feedback.html").read_text("utf-8"))
    titles = {id_: find_exercise(id_).title for one in grades.graded for id_ in one.results}
    files = [f"{number:03}.html" for number in range(1, len(grades.graded) + 1)]
    with atomic_folder(folder, replace=True) as partial:
        for file, one in zip(files, grades.graded, strict=True):
            page = template.render(one=one, grades=grades, titles=titles, signs=SIGNS)
            (partial / file).write_text(page, encoding="utf-8")
        listed = [
            (file, one.submission.student, grades.total(one))
            for file, one in zip(files, grades.graded, strict=True)
        ]
        page = template.render(listed=listed, grades=grades)
        (partial / "index.html").write_text(page, encoding="utf-8")
    return folder / "index.html"


def summary(grades: Grades) -> str:
    """Return what was graded, and what a teacher should look at."""
    lines = [f"Chapters that count: {', '.join(grades.of) or 'none, since nobody answered anything'}."]
    noted = [(one.submission.student, grades.notes(one)) for one in grades.graded]
    lines += [f"  {student}: {'; '.join(notes)}" for student, notes in noted if notes]
    return "\n".join(lines)
