"""Where things lie, loading Haneul Bank's data, and checking that files are what was published."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from course_lib.errors import CourseError

ROOT = Path(__file__).resolve().parents[1]
HANEUL = ROOT / "datasets" / "haneul"
MODELS = ROOT / "models"
CHAPTERS = ROOT / "chapters"
WORKSPACE = ROOT / "workspace"  # the student's own; git ignores it
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Language = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = ("en", "ko")
KINDS = ("lexical", "paraphrase", "two-passage", "negated", "unanswerable")
T = TypeVar("T")


@dataclass(frozen=True)
class Passage:
    """A handbook passage. `about`: entity ids; `states`: (fact id, aspect) pairs it states."""

    id: str
    title: str
    text: str
    about: tuple[str, ...]
    states: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Question:
    """An exam question. `gold`: ids of the passages that answer it, empty when none does; `options`: five or none."""

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
    """A customer's message and its intent."""

    id: str
    split: Split
    intent: str
    message: str


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hex digits, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def verify(folder: Path, fix: str) -> None:
    """Compare every file that `folder/manifest.json` names with its SHA-256.

    Raises CourseError, naming the file and `fix`, when one is missing, truncated or altered.
    """
    try:
        expected = json.loads((folder / "manifest.json").read_text("utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(f"{folder.name}/manifest.json cannot be read: {error}", fix) from error
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise CourseError(f"{folder.name}/{name} is missing", fix)
        found = sha256(path)
        if found != digest:
            raise CourseError(
                f"{folder.name}/{name} is not the published file: {path.stat().st_size} bytes with "
                f"SHA-256 {found[:12]}..., expected {digest[:12]}...",
                fix,
            )


@functools.cache
def _verified(folder: Path) -> Path:
    verify(folder, "git checkout -- datasets/haneul   (or: make data)")
    return folder


def _rows(name: str, folder: Path, language: str = "en") -> Iterator[dict[str, Any]]:
    """The rows of one file. Raises CourseError for an altered file and for a language that is not there."""
    if language not in LANGUAGES:
        raise CourseError(
            f"Haneul Bank is not written in language={language!r}", "choose 'en' (English) or 'ko' (Korean)"
        )
    name = name if language == "en" else f"{language}/{name}"
    with open(_verified(folder) / f"{name}.jsonl", encoding="utf-8") as f:
        yield from map(json.loads, f)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _as(kind: type[T], row: dict[str, Any]) -> T:
    return kind(**{f.name: _frozen(row[f.name]) for f in fields(kind)})  # type: ignore[arg-type]


def _in(value: str | None, allowed: tuple[str, ...], what: str) -> None:
    if value is not None and value not in allowed:
        raise ValueError(f"{what}={value!r}; one of {', '.join(allowed)}")


def load_passages(folder: Path = HANEUL, language: Language = "en") -> dict[str, Passage]:
    """Haneul's handbook, by passage id, which is the same in both languages.

    Raises CourseError for an altered file or an unknown language.
    """
    return {row["id"]: _as(Passage, row) for row in _rows("passages", folder, language)}


def load_questions(
    split: Split | None = None,
    kind: str | None = None,
    folder: Path = HANEUL,
    language: Language = "en",
    english_names: bool = False,
) -> list[Question]:
    """Haneul's questions, of one split and one kind or of all; ids and gold passages are the same in both languages.

    `english_names=True` with `language="ko"`: Korean questions that call the products by their English names.
    Raises ValueError for an unknown split or kind, CourseError for an altered file or an unknown language.
    """
    _in(split, SPLITS, "split")
    _in(kind, KINDS, "kind")
    name = "questions_english_names" if english_names and language == "ko" else "questions"
    rows = (_as(Question, row) for row in _rows(name, folder, language))
    return [q for q in rows if split in (None, q.split) and kind in (None, q.kind)]


def load_messages(
    split: Split | None = None, folder: Path = HANEUL, language: Language = "en"
) -> list[Message]:
    """Customers' messages of one split or of all. Ids, splits and intents are the same in both languages, contents are not.

    Raises ValueError for an unknown split, CourseError for an altered file or an unknown language.
    """
    _in(split, SPLITS, "split")
    rows = (_as(Message, row) for row in _rows("messages", folder, language))
    return [m for m in rows if split in (None, m.split)]


def load_relevance(folder: Path = HANEUL) -> dict[str, dict[str, int]]:
    """Question id -> passage id -> grade 1-3; a pair that is absent has grade 0."""
    out: dict[str, dict[str, int]] = {}
    for row in _rows("relevance", folder):
        out.setdefault(row["question"], {})[row["passage"]] = row["grade"]
    return out
