"""Which model plays which role, such as `chat` or `embed`, in the tier that COURSE_TIER names."""

from __future__ import annotations

import os
from dataclasses import replace

from course_lib.errors import CourseError
from course_lib.models.catalog.catalogue import Entry, entry, roles_by_tier

TIERS = ("tiny", "laptop", "gpu")


def tier() -> str:
    """The tier named by COURSE_TIER, or `tiny`. Raises CourseError for a name that is no tier."""
    name = os.environ.get("COURSE_TIER", "tiny")
    if name not in TIERS:
        what = f"COURSE_TIER={name!r} is no tier; the tiers are {', '.join(TIERS)}"
        raise CourseError(what, "export COURSE_TIER=tiny")
    return name


def roles() -> list[str]:
    """The roles of the present tier."""
    return list(roles_by_tier()[tier()])


def role(name: str) -> Entry:
    """The model that plays a role in the present tier. Raises ValueError for an unknown role."""
    if name not in roles():
        raise ValueError(f"no role {name!r} in tier {tier()}; the roles are {', '.join(roles())}")
    return replace(entry(roles_by_tier()[tier()][name]), role=name)


def chat_models() -> list[Entry]:
    """The models in the chat roles of the present tier, the smallest first."""
    return sorted((role(r) for r in roles() if r.startswith("chat")), key=lambda e: e.parameters)
