"""Choose the model for each role, according to the environment variable COURSE_TIER.

A tier is a set of models for one class of machine (tiny, laptop, gpu); a role is what a chapter uses a model
for, such as `chat` or `embed`.
"""

from __future__ import annotations

import os
from dataclasses import replace

from course_lib.errors import CourseError
from course_lib.models.catalog.catalogue import Entry, entry, roles_by_tier

TIERS = ("tiny", "laptop", "gpu")


def tier() -> str:
    """Return the tier in COURSE_TIER, by default `tiny`. Raises CourseError for an unknown tier."""
    name = os.environ.get("COURSE_TIER", "tiny")
    if name not in TIERS:
        what = f"COURSE_TIER={name!r} is not a tier; the tiers are {', '.join(TIERS)}"
        raise CourseError(what, "export COURSE_TIER=tiny")
    return name


def roles() -> list[str]:
    """Return the names of all roles in the current tier."""
    return list(roles_by_tier()[tier()])


def role(name: str) -> Entry:
    """Return the model for a role in the current tier. Raises ValueError for an unknown role."""
    if name not in roles():
        raise ValueError(f"no role {name!r} in tier {tier()}; the roles are {', '.join(roles())}")
    return replace(entry(roles_by_tier()[tier()][name]), role=name)


def chat_models() -> list[Entry]:
    """Return the models for the chat roles of the current tier, smallest first."""
    return sorted((role(r) for r in roles() if r.startswith("chat")), key=lambda e: e.parameters)
