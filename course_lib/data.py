"""Load the Haneul Bank data set, verify checksums, and define the paths of the course's folders.

Haneul Bank is the course's fictional bank. The data are passages of its handbook, exam questions about them
and customers' messages, in English and Korean. All were generated from facts, such as a product's fee.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from PIL.Image import Image

# In a wheel, the chapters, data and models are here; see setup.py.
SHARE = Path(__file__).resolve().parent / "share"
ROOT = SHARE if SHARE.is_dir() else SHARE.parents[1]
HANEUL = ROOT / "datasets" / "haneul"
FACES = HANEUL / "faces"
MODELS = ROOT / "models"
CHAPTERS = ROOT / "chapters"


def find_workspace() -> Path:
    """Return the folder of the student's copies of the chapters and of their progress.

    It is COURSE_WORKSPACE if that is set, else `workspace/` in the course's folder. Where that folder cannot
    be written to, as when a class shares it, or was installed from a wheel, it is `local-ai-measured` in the
    home folder.
    """
    if named := os.environ.get("COURSE_WORKSPACE"):
        return Path(named).expanduser().resolve()
    in_course = ROOT / "workspace"
    writable = os.access(in_course if in_course.is_dir() else ROOT, os.W_OK)
    return in_course if writable and ROOT != SHARE else Path.home().resolve() / "local-ai-measured"


WORKSPACE = find_workspace()
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")  # to learn from, to choose by, to measure with
Language = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = ("en", "ko")
PICTURES = ("card", "sign", "ticket", "chart")
FACE_PIXELS = 64  # side of a picture
# Kinds of questions: in the words of the passage, in other words, about two passages, for what is not so, and
# without an answer in the handbook.
KINDS = ("lexical", "paraphrase", "two-passage", "negated", "unanswerable")
T = TypeVar("T")


@dataclass(frozen=True)
class Passage:
    """A handbook passage.

    about: ids of the products, or other things of the bank, that it describes. states: the facts that it
    states, as pairs of a fact's id and what is said of the fact: "value", "old", "since", "exception" or
    "group" (the customers for whom the exception is made).
    """

    id: str
    title: str
    text: str
    about: tuple[str, ...]
    states: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Question:
    """An exam question.

    kind: one of KINDS. about: what it asks of the facts: "value", "old" (value), "since" (date), "exception",
    "negated", "untrue", "pair" or "compare". format: "choice" or "short". options: five answers to choose
    from, or none for a short answer. facts: ids of the facts that the answer needs. gold: ids of the passages
    that answer it, empty if it is unanswerable.
    """

    id: str
    split: Split
    kind: str
    about: str
    format: str
    question: str
    options: tuple[str, ...]
    answer: str
    facts: tuple[str, ...]
    gold: tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """A customer's message. intent: the label of what the customer wants."""

    id: str
    split: Split
    intent: str
    message: str


@dataclass(frozen=True)
class Face:
    """A drawing of an invented person's face. person: the person's number within the split.

    dark_lenses: whether the glasses hide the eyes. light: from which side it comes, or "dim".
    """

    split: Split
    person: int
    glasses: bool
    dark_lenses: bool
    light: Literal["even", "left", "right", "dim"]
    picture: Image


@dataclass(frozen=True)
class Picture:
    """A drawing of something in the bank, such as a card; the course's models did not see it in training.

    path: a PNG file, 128 x 128 pixels. kind: card, sign, ticket or chart. facts: what it shows, such as
    {"product": ..., "number": ...}. template: its caption, with a field for each fact, for `str.format`.
    """

    path: Path
    kind: str
    facts: dict[str, str]
    template: str

    @property
    def caption(self) -> str:
        """The sentence that states the facts."""
        return self.template.format(**self.facts)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, fix: str) -> None:
    """Check the files listed in `folder/manifest.json` against their SHA-256.

    Raises CourseError, with the file's name and `fix`, if one is missing or altered.
    """
    try:
        expected = json.loads((folder / "manifest.json").read_text("utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(f"{folder.name}/manifest.json cannot be read: {error}", fix) from error
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise CourseError(f"{folder.name}/{name} is missing", fix)
        actual = sha256(path)
        if actual != digest:
            raise CourseError(
                f"{folder.name}/{name} is not the published file: {path.stat().st_size} bytes with "
                f"SHA-256 {actual[:12]}..., expected {digest[:12]}...",
                fix,
            )


def need_repository(what: str) -> None:
    """Raise CourseError if the course was installed from a wheel, which lacks the files that are needed.

    what: the missing files, with the verb of the message, such as "the tests are".
    """
    if ROOT == SHARE:
        raise CourseError(
            f"{what} in the course's repository, and this is an installed course",
            "clone the repository and run there: python3 course.py " + " ".join(sys.argv[1:]),
        )


def restore(name: str) -> str:
    """Return the `fix` of an error about a damaged file or folder: how the user restores the original.

    name: its path in the repository.
    """
    if ROOT == SHARE:
        return "install the course's wheel again, with --force-reinstall --no-deps"
    return f"git checkout -- {name}"


@functools.cache
def _verified(folder: Path) -> Path:
    verify(folder, restore("datasets/haneul"))
    return folder


def _rows(name: str, folder: Path, language: str = "en") -> Iterator[dict[str, Any]]:
    """Yield the rows of one JSON Lines file. Raises CourseError for an altered file or unknown language."""
    if language not in LANGUAGES:
        raise CourseError(
            f"unknown language={language!r}; Haneul Bank's data are in en and ko",
            'load_passages(language="en")',
        )
    path = _verified(folder) / ("" if language == "en" else language) / f"{name}.jsonl"
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(v) for v in value) if isinstance(value, list) else value


def _make(record_type: type[T], row: dict[str, Any]) -> T:
    return record_type(**{f.name: _as_tuples(row[f.name]) for f in fields(record_type)})  # type: ignore[arg-type]


def _check_choice(value: str | None, allowed: tuple[str, ...], name: str) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(allowed)}")


def load_passages(folder: Path = HANEUL, language: Language = "en") -> dict[str, Passage]:
    """Return the handbook's passages by id. The ids are the same in both languages.

    Raises CourseError for an altered file or an unknown language.
    """
    return {row["id"]: _make(Passage, row) for row in _rows("passages", folder, language)}


def load_questions(
    split: Split | None = None,
    kind: str | None = None,
    folder: Path = HANEUL,
    language: Language = "en",
    english_names: bool = False,
) -> list[Question]:
    """Return the exam questions of one split and one kind; None means all.

    Ids and gold passages are the same in both languages. english_names: with `language="ko"`, return the
    Korean questions in which the products have their English names.
    Raises ValueError for an unknown split or kind, CourseError for an altered file or an unknown language.
    """
    _check_choice(split, SPLITS, "split")
    _check_choice(kind, KINDS, "kind")
    name = "questions_english_names" if english_names and language == "ko" else "questions"
    rows = (_make(Question, row) for row in _rows(name, folder, language))
    return [q for q in rows if split in (None, q.split) and kind in (None, q.kind)]


def load_messages(
    split: Split | None = None, folder: Path = HANEUL, language: Language = "en"
) -> list[Message]:
    """Return the customers' messages of one split; None means all.

    Ids, splits and intents are the same in both languages, the contents are not.
    Raises ValueError for an unknown split, CourseError for an altered file or an unknown language.
    """
    _check_choice(split, SPLITS, "split")
    rows = (_make(Message, row) for row in _rows("messages", folder, language))
    return [m for m in rows if split in (None, m.split)]


def load_relevance(folder: Path = HANEUL) -> dict[str, dict[str, int]]:
    """Return question id -> passage id -> how well it answers, 1 to 3; absent pairs have 0."""
    grades: dict[str, dict[str, int]] = {}
    for row in _rows("relevance", folder):
        grades.setdefault(row["question"], {})[row["passage"]] = row["grade"]
    return grades


def load_faces(split: Split | None = None, folder: Path = FACES) -> list[Face]:
    """Return drawn faces, 64x64 RGB, that haneul-faces, the face model, did not train on; None: both splits.

    Each split has 40 persons with six pictures each. Raises ValueError for an unknown split, CourseError for
    an altered file.
    """
    import PIL.Image

    _check_choice(split, SPLITS[1:], "split")
    rows, faces = list(_rows("faces", folder)), []
    sheets = {name: PIL.Image.open(folder / f"{name}.jpg").convert("RGB") for name in SPLITS[1:]}
    for row in rows:
        x, y = row.pop("view") * FACE_PIXELS, row["person"] * FACE_PIXELS
        picture = sheets[row["split"]].crop((x, y, x + FACE_PIXELS, y + FACE_PIXELS))
        faces.append(Face(picture=picture, **row))
    return [face for face in faces if split in (None, face.split)]


def load_pictures(kind: str | None = None, folder: Path = HANEUL) -> list[Picture]:
    """Return the drawn pictures of one kind; None means all.

    Raises ValueError for an unknown kind, CourseError for an altered file.
    """
    _check_choice(kind, PICTURES, "kind")
    folder = folder / "pictures"
    rows = _rows("pictures", folder)
    pictures = [Picture(folder / r["file"], r["kind"], r["facts"], r["template"]) for r in rows]
    return [picture for picture in pictures if kind in (None, picture.kind)]
