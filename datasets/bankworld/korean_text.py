"""Load and validate the Korean wordings: the YAML files in ko/ and ../haneul/source/ko/."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from bankworld import schema

HERE = Path(__file__).parent / "ko"
HANEUL = schema.HANEUL / "ko"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Attribute(_Strict):
    """The wording of one fact type.

    `unit`: the counter of a count; `more`: what replaces "higher, lower" in comparisons.
    """

    label: str
    unit: str | None = None
    more: tuple[str, str] | None = None
    choices: dict[str, str] = {}
    lexical: list[str] = Field(min_length=2)
    paraphrase: list[str] = Field(min_length=2)


class Passage(_Strict):
    title: str
    text: str


class Messages(_Strict):
    """Customers' messages of one intent: complete ones, and situations and requests that can be joined."""

    whole: list[str] = Field(min_length=20)
    situations: list[str] = Field(min_length=16)
    requests: list[str] = Field(min_length=13)


def _load(path: Path, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(schema.read_yaml(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@functools.cache
def text_of(area: str) -> dict[str, dict[str, Attribute]]:
    """Entity kind -> attribute -> its wording, of one area."""
    return _load(HERE / f"{area}.yaml", dict[str, dict[str, Attribute]])


@functools.cache
def texts() -> dict[str, dict[str, Attribute]]:
    return {kind: attributes for area in schema.AREAS for kind, attributes in text_of(area).items()}


@functools.cache
def asks() -> dict[str, dict[str, list[str]]]:
    """Entity kind -> attribute -> questions for training, without the product's name."""
    return _load(HERE / "asks.yaml", dict[str, dict[str, list[str]]])


@functools.cache
def common() -> dict[str, Any]:
    return schema.read_yaml(HERE / "common.yaml")


@functools.cache
def names() -> dict[str, str]:
    """Entity id -> Haneul's Korean name for it."""
    by_kind = _load(HANEUL / "entities.yaml", dict[str, dict[str, str]])
    return {f"{kind}.{key}": name for kind, by_key in by_kind.items() for key, name in by_key.items()}


@functools.cache
def passages_of(area: str) -> dict[str, Passage]:
    """Passage id -> title and text, with the slots of its English twin."""
    return _load(HANEUL / "passages" / f"{area}.yaml", dict[str, Passage])


@functools.cache
def messages_of(intent: str) -> Messages:
    return _load(HANEUL / "messages" / f"{intent}.yaml", Messages)
