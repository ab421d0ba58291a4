"""Read the questions of an exam from JSONL or CSV, and write the answers as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_write_text
from course_lib.errors import CourseError

FIELDS = ("id", "question", "options", "answer", "kind", "area", "language")
NUMBERED = re.compile(r"^\s*(\d{1,2})[ .)]\s*(.+)$")  # an option on a line of the question: "3. Seoul"


@dataclass(frozen=True)
class ExamQuestion:
    """A question.

    options: empty for a question with a written answer. answer: the right answer, or None if it is unknown.
    kind, area, language: groups for the report; "" if the file has none.
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    kind: str = ""
    area: str = ""
    language: str = ""


def read_questions(path: Path) -> list[ExamQuestion]:
    """Read questions from a .jsonl or .csv file in UTF-8, or in cp949, which many Korean contests use.

    Each row has an id and a question. It may have options: a list, columns option1, option2 and so on, or
    numbered lines at the end of the question. It may also have an answer (an option's text or its number) and
    the other FIELDS. Column names may be in capitals; other columns are ignored. Raises CourseError, with the
    line number, for an invalid row, a repeated id, a single option, and an answer that is not one of the
    options.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CourseError(
            f"{path} cannot be read: {error}", 'read_questions(Path("questions.jsonl"))'
        ) from error
    rows = {".jsonl": _json_rows, ".csv": _csv_rows}.get(path.suffix.lower())
    if rows is None:
        raise CourseError(
            f"{path.name} is neither .jsonl nor .csv", 'read_questions(Path("questions.jsonl"))'
        )
    questions: dict[str, ExamQuestion] = {}
    for line, row in rows(path.name, _decode(path.name, text)):
        question = _question(f"{path.name}, line {line}", row)
        if question.id in questions:
            what = f"{path.name}, line {line}: the id {question.id!r} came before"
            raise CourseError(what, "give each question its own id")
        questions[question.id] = question
    if not questions:
        raise CourseError(f"{path.name} has no questions", 'read_questions(Path("questions.jsonl"))')
    return list(questions.values())


def _decode(name: str, data: bytes) -> str:
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            position = error.start
    line = data[:position].count(b"\n") + 1
    raise CourseError(f"{name}, line {line}: neither UTF-8 nor cp949", f"iconv -t UTF-8 -o new.csv {name}")


def _json_rows(name: str, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                what = f"{name}, line {number}: {error}"
                raise CourseError(what, "write one JSON object a line") from error
            if not isinstance(row, dict):
                raise CourseError(f"{name}, line {number}: no JSON object", "write one JSON object a line")
            yield number, row


def _csv_rows(name: str, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                columns = len(reader.fieldnames or [])
                what = f"{name}, line {reader.line_num}: not {columns} columns, as in the first line"
                raise CourseError(what, 'quote a text that has commas: "a, b"')
            yield reader.line_num, row
    except csv.Error as error:
        what = f"{name}, line {reader.line_num}: {error}"
        raise CourseError(what, 'quote a text that has commas: "a, b"') from error


def _question(where: str, row: Mapping[str, Any]) -> ExamQuestion:
    fields = {str(name).strip().lower(): value for name, value in row.items()}
    for name in ("id", "question"):
        if not str(fields.get(name) or "").strip():
            raise CourseError(f"{where}: no {name}", f"fill the column {name}")
    text, options = str(fields["question"]).strip(), _options(where, fields)
    if not options:
        text, options = _numbered_options(text)
    if len(options) == 1 or not all(options):
        raise CourseError(f"{where}: {len(options)} options, or an empty one", "give two or more, or none")
    answer = str(fields.get("answer") or "").strip() or None
    if answer and options and answer not in options:
        if not (answer.isdigit() and 1 <= int(answer) <= len(options)):
            what = f"{where}: the answer {answer!r} is none of the {len(options)} options"
            raise CourseError(what, f"write its text, or its number from 1 to {len(options)}")
        answer = options[int(answer) - 1]
    groups = {name: str(fields.get(name) or "").strip() for name in ("kind", "area", "language")}
    return ExamQuestion(str(fields["id"]).strip(), text, options, answer, **groups)


def _options(where: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    given = fields.get("options")
    if isinstance(given, list):
        return tuple(str(option).strip() for option in given)
    if given:
        raise CourseError(f"{where}: options is no list", "use columns option1, option2, ... in a CSV file")
    columns = [name for name in fields if re.fullmatch(r"option\d+", name)]
    texts = [str(fields[name] or "").strip() for name in sorted(columns, key=lambda name: int(name[6:]))]
    while texts and not texts[-1]:  # a question with fewer options than the file has columns
        texts.pop()
    return tuple(texts)


def _numbered_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a question into its text and the options in its last lines, "1. ...", "2. ..." and so on."""
    lines = text.split("\n")
    for start in range(1, len(lines)):
        matches = [NUMBERED.match(line) for line in lines[start:] if line.strip()]
        if len(matches) > 1 and all(m and int(m[1]) == i for i, m in enumerate(matches, 1)):
            return "\n".join(lines[:start]).strip(), tuple(m[2].strip() for m in matches if m)
    return text, ()


def write_answers(path: Path, questions: Sequence[ExamQuestion], answers: Mapping[str, str]) -> None:
    """Write a CSV file with the columns ID and Answer: an option as its number, any other answer as text."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["ID", "Answer"])
    for question in questions:
        answer = answers[question.id]
        writer.writerow([question.id, question.options.index(answer) + 1 if question.options else answer])
    atomic_write_text(path, out.getvalue())
