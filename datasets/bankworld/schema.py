"""Load and validate the YAML files from which the banks' facts and English texts are made.

An area is a part of a bank's business, such as cards. It has kinds of entities, such as credit cards, and
these have attributes, such as the annual fee.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from bankworld.values import Choice, Spec

HERE = Path(__file__).parent
HANEUL = HERE.parent / "haneul" / "source"
AREAS = tuple(
    [
        "accounts",
        "cards",
        "transfers",
        "loans",
        "mortgages",
        "deposits",
        "foreign_exchange",
        "fees",
        "security",
        "complaints",
        "branches",
        "digital",
    ]
)
SLOT = re.compile(r"\{([a-z0-9_.]+)\}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Held(_Strict):
    """Wordings of questions that are not used in training.

    lexical: with the words of the passages. paraphrase: with other words.
    """

    lexical: list[str] = Field(min_length=1)
    paraphrase: list[str] = Field(min_length=1)


class AttributeText(_Strict):
    """The English wordings of one attribute.

    says: sentences that state the value. asks: questions for it, for training. held: questions for the exam.
    choices: key of a choice -> its words.
    """

    label: str
    says: list[str] = Field(min_length=4)
    asks: list[str] = Field(min_length=10)
    held: Held
    choices: dict[str, str] = {}


class KindText(_Strict):
    """The English wordings of one kind of entity. names: patterns for the names of its products."""

    noun: str
    names: list[str] = Field(min_length=3)
    attributes: dict[str, AttributeText]


class PassageTemplate(_Strict):
    """A written passage with slots such as {card.annual_fee}.

    about: the name of an entity in the slots -> its kind, or "kind.key" for one entity of Haneul Bank.
    """

    about: dict[str, str]
    title: str
    text: str

    @property
    def slots(self) -> set[tuple[str, str]]:
        """The facts that the passage states, as (name in `about`, attribute) pairs."""
        paths = (slot.split(".") for slot in SLOT.findall(self.text))
        return {(s[0], s[1]) for s in paths if len(s) > 1 and s[1] != "name"}


def read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error


def _load(path: Path, kind: Any) -> Any:
    return TypeAdapter(kind).validate_python(read_yaml(path))


@functools.cache
def facts_of(area: str) -> dict[str, dict[str, Spec]]:
    """Return kind of entity -> attribute -> how its value is drawn."""
    return _load(HERE / "facts" / f"{area}.yaml", dict[str, dict[str, Spec]])


@functools.cache
def text_of(area: str) -> dict[str, KindText]:
    return _load(HERE / "en" / f"{area}.yaml", dict[str, KindText])


@functools.cache
def passages_of(area: str, *, haneul: bool) -> list[PassageTemplate]:
    folder = HANEUL / "en" / "passages" if haneul else HERE / "en" / "passages"
    return _load(folder / f"{area}.yaml", list[PassageTemplate])


@functools.cache
def haneul_entities(area: str) -> dict[str, dict[str, str]]:
    """Return kind of entity -> key -> name, for the entities of Haneul Bank."""
    return _load(HANEUL / "en" / "entities" / f"{area}.yaml", dict[str, dict[str, str]])


@functools.cache
def specs() -> dict[str, dict[str, Spec]]:
    return {kind: attrs for area in AREAS for kind, attrs in facts_of(area).items()}


@functools.cache
def texts() -> dict[str, KindText]:
    return {kind: text for area in AREAS for kind, text in text_of(area).items()}


@functools.cache
def area_of() -> dict[str, str]:
    return {kind: area for area in AREAS for kind in facts_of(area)}


@functools.cache
def common() -> dict[str, Any]:
    return read_yaml(HERE / "en" / "common.yaml")


def wording_problems(area: str) -> list[str]:
    """Return what breaks the rules of AUTHORING.md in the files of one area in facts/ and en/."""
    issues: list[str] = []
    facts, text = facts_of(area), text_of(area)
    if set(facts) != set(text):
        issues.append(f"{area}: kinds differ: facts {sorted(facts)}, text {sorted(text)}")
    for kind in facts.keys() & text.keys():
        if set(facts[kind]) != set(text[kind].attributes):
            issues.append(
                f"{kind}: attributes differ: {sorted(set(facts[kind]) ^ set(text[kind].attributes))}"
            )
        issues += [
            f"{kind} name {n!r}: needs one {{word}}" for n in text[kind].names if n.count("{word}") != 1
        ]
        for attr, words in text[kind].attributes.items():
            issues += [f"{kind}.{attr}: {p}" for p in _attribute_problems(facts[kind].get(attr), words)]
    return issues


def _attribute_problems(spec: Spec | None, words: AttributeText) -> list[str]:
    issues = []
    if isinstance(spec, Choice) and set(spec.of) != set(words.choices):
        issues.append(f"choices differ: {sorted(set(spec.of) ^ set(words.choices))}")
    if len(words.says) < 8 or len(words.asks) < 20:
        issues.append(f"{len(words.says)} says (8 wanted), {len(words.asks)} asks (20 wanted)")
    held = words.held.lexical + words.held.paraphrase
    issues += [f"in asks and held: {q!r}" for q in held if q in words.asks]
    issues += [f"says needs {{value}} once: {s!r}" for s in words.says if s.count("{value}") != 1]
    issues += [
        f"question needs {{name}} once and no value: {q!r}"
        for q in words.asks + held
        if q.count("{name}") != 1 or "{value}" in q
    ]
    for line in words.says + words.asks + held:
        unknown = set(SLOT.findall(line)) - {"name", "value", "bank"}
        issues += [f"unknown slot {sorted(unknown)}: {line!r}"] if unknown else []
    return issues
