"""The rules of an exam, read from a YAML file, and a check of which models they allow."""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from course_lib.errors import CourseError
from course_lib.models import catalog

# The rules by default: those of the contest that chapter 09 follows.
CONTEST = Path(__file__).with_name("rules.yaml")


class Rules(BaseModel):
    """The rules of an exam; `rules.yaml` explains each field. None means that there is no such rule."""

    model_config = ConfigDict(extra="forbid")

    questions: int | None = Field(None, gt=0)
    minutes: float = Field(gt=0)
    network: bool = False
    use: Literal["research", "commercial"] = "research"
    published_before: date | None = None
    memory_gib: float | None = Field(None, gt=0)
    by_api: list[str] = Field(default_factory=list)
    words: dict[str, str] = Field(default_factory=dict)

    def broken(self, model: str, bits: float | None = None) -> list[str]:
        """Return a reason, with the rule's text, for each rule that a model breaks.

        The list is empty if the model is allowed. bits: bits per weight; by default those of the files that
        the catalogue would download. A model outside the catalogue is not allowed, because its licence and
        its date are unknown.
        """
        if any(model.lower().startswith(name.lower()) for name in self.by_api):
            return [self._quote("by_api", f"{model} is offered by an API only")]
        entry = catalog.find(model) or catalog.parts().get(model)
        if entry is None:
            return [f"{model} is not in the catalogue: nobody here knows its licence and date"]
        against = []
        if self.use == "commercial" and entry.terms.commercial == "no":
            against.append(self._quote("use", f"{entry.model}: {entry.licence}: {entry.terms.note}"))
        if self.published_before and entry.tier != "tiny":  # tiny: models that come with the course
            against += self._too_late(entry)
        gib = entry.weight_bytes(bits or entry.download_bits) / 2**30
        if self.memory_gib and gib > self.memory_gib:
            what = f"{entry.model}: its weights alone take {gib:.1f} GiB of {self.memory_gib:g}"
            against.append(self._quote("memory_gib", what))
        return against

    def _too_late(self, entry: catalog.Entry) -> list[str]:
        """Return the reason if a model may be too new. A month counts as its last day; [] means allowed."""
        assert self.published_before is not None
        if not entry.published:
            return [self._quote("published_before", f"{entry.model}: its month of publication is unknown")]
        year, month = map(int, entry.published.split("-"))
        if date(year, month, monthrange(year, month)[1]) < self.published_before:
            return []
        what = f"{entry.model} was published in {entry.published}, not before {self.published_before}"
        return [self._quote("published_before", what)]

    def _quote(self, rule: str, what: str) -> str:
        return f"{what} (rule {rule}: {self.words[rule]})" if rule in self.words else f"{what} (rule {rule})"


def read_rules(path: Path = CONTEST) -> Rules:
    """Read rules from a YAML file. Raises CourseError if the file is invalid or has unknown fields."""
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
        return Rules.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        what = f"{path} has no rules of an exam: {error}"
        raise CourseError(what, f"cp {CONTEST} my-rules.yaml") from error
