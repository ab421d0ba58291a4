"""Choose the model for each role, by the tier in COURSE_TIER or by hand.

A tier is a set of models for one class of machine; a role is what a chapter uses a model for, such as `chat`
or `embed`. A role such as chat-small is set by hand by the environment variable COURSE_CHAT_SMALL, or by a
line in roles.yaml, in the course's folder; the variable has priority. Its value is a name of the catalogue or
a path; in the file it may also be a mapping with `model` and other fields of Entry, such as `query_prefix`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.environment import check_variables, role_variable
from course_lib.errors import CourseError
from course_lib.models.catalog.catalogue import Entry, entry, find, roles_by_tier, similar_names
from course_lib.names import existing_path

TIERS = ("tiny", "real", "laptop", "gpu")
# A library installed by pip keeps this file in the student's workspace, not in its own folder.
ROLES_FILE = (data.WORKSPACE if data.ROOT == data.SHARE else data.ROOT) / "roles.yaml"


def tier() -> str:
    """Return the tier in COURSE_TIER, by default `tiny`.

    Raises CourseError for an unknown tier, and for a variable whose name is misspelled.
    """
    check_environment()
    name = os.environ.get("COURSE_TIER", "tiny")
    if name not in TIERS:
        what = f"COURSE_TIER={name!r} is not a tier; the tiers are {', '.join(TIERS)}"
        raise CourseError(what, "export COURSE_TIER=tiny")
    return name


def check_environment() -> None:
    """Raise CourseError for an environment variable that looks like a misspelled one of the course."""
    check_variables(roles_by_tier()["tiny"])


def roles() -> list[str]:
    """Return the names of all roles in the current tier."""
    return list(roles_by_tier()[tier()])


def role(name: str) -> Entry:
    """Return the model for a role: the one set by hand, or else that of the current tier.

    Raises ValueError for an unknown role, CourseError if the model set by hand does not exist.
    """
    if name not in roles():
        raise ValueError(f"no role {name!r} in tier {tier()}; the roles are {', '.join(roles())}")
    usual = entry(roles_by_tier()[tier()][name])
    by_hand = roles_by_hand().get(name)
    return replace(_entry_by_hand(name, by_hand, usual) if by_hand else usual, role=name)


def roles_by_hand() -> dict[str, dict[str, Any]]:
    """Return role -> fields of the roles set by hand. Raises CourseError for a faulty roles.yaml."""
    by_hand = _roles_file()
    for name in roles():
        if value := os.environ.get(role_variable(name)):
            by_hand[name] = {"model": value}
    return by_hand


def chat_models() -> list[Entry]:
    """Return the models for the chat roles of the current tier, smallest first."""
    return sorted((role(r) for r in roles() if r.startswith("chat")), key=_size)


def _roles_file() -> dict[str, dict[str, Any]]:
    if not ROLES_FILE.is_file():
        return {}
    import yaml

    try:
        document = yaml.safe_load(ROLES_FILE.read_text("utf-8")) or {}
        fields = {name: {"model": v} if isinstance(v, str) else dict(v) for name, v in document.items()}
        unknown = fields.keys() - roles()
        if unknown or not all(isinstance(f.get("model"), str) for f in fields.values()):
            raise ValueError(f"{', '.join(sorted(unknown)) or 'model'}: roles are {', '.join(roles())}")
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        what = f"roles.yaml does not map roles to models: {error}"
        raise CourseError(what, "write one line for each role, such as   chat: haneul-4m") from error
    return fields


def _entry_by_hand(role: str, fields: dict[str, Any], usual: Entry) -> Entry:
    """Return the model with these fields. usual: the tier's own model for the role, whose task is needed."""
    name, others = fields["model"], {k: v for k, v in fields.items() if k != "model"}
    chosen, variable = find(name) or _local(name, usual), role_variable(role)
    if chosen is None:
        what = f"the role {role} is set to {name!r}: no model of the catalogue, .gguf file or model folder"
        raise CourseError(what, f"export {variable}={(similar_names(name) or [usual.model])[0]}")
    if chosen.task != usual.task:
        what = f"the role {role} needs a model for {usual.task}; {chosen.model} is for {chosen.task}"
        raise CourseError(what, f"export {variable}={usual.model}")
    try:
        return replace(chosen, **others)
    except TypeError as error:
        raise CourseError(f"roles.yaml, {role}: {error}", "remove that field") from error


def _local(name: str, usual: Entry) -> Entry | None:
    """Return an entry for a .gguf file or a model folder; None if there is neither at this path."""
    path = existing_path(name).absolute()
    if path.suffix == ".gguf" and path.is_file():
        unknown = Entry(path.stem, tier(), 0, "", 0, (), driver="llamacpp")
    elif (path / "config.json").is_file():
        unknown = Entry(path.name, tier(), 0, "", 0, ())
    else:
        return None
    return replace(unknown, task=usual.task, path=str(path))


def _size(entry: Entry) -> int:
    """Return the size by which models are ordered: parameters, or the bytes of a local file or folder."""
    if entry.parameters:
        return entry.parameters
    path = Path(entry.path)
    files = [path] if path.is_file() else path.glob("*.safetensors")
    return sum(file.stat().st_size for file in files)
