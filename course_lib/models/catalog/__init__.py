"""The catalogue of models: what each needs and allows, which plays which role, where the shipped ones lie."""

from course_lib.models.catalog.catalogue import (
    Entry,
    Licence,
    entries,
    entry,
    find,
    folder_of,
    is_adapter,
    prefixes,
    pull_command,
    similar_names,
)
from course_lib.models.catalog.selection import PURPOSES, Fit, guide, largest
from course_lib.models.catalog.shipped_models import (
    MINILM,
    model_name,
    shipped,
    shipped_folder,
    verified_folder,
)
from course_lib.models.catalog.tiers import TIERS, chat_models, role, roles, tier

__all__ = [
    "MINILM",
    "PURPOSES",
    "TIERS",
    "Entry",
    "Fit",
    "Licence",
    "chat_models",
    "entries",
    "entry",
    "find",
    "folder_of",
    "guide",
    "is_adapter",
    "largest",
    "model_name",
    "prefixes",
    "pull_command",
    "role",
    "roles",
    "shipped",
    "shipped_folder",
    "similar_names",
    "tier",
    "verified_folder",
]
