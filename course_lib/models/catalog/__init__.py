"""The catalogue of models: what each needs and allows, which plays which role, where the shipped ones lie."""

# ruff: noqa: F401  (what this package offers)
from course_lib.models.catalog.catalogue import (
    Entry,
    Licence,
    entries,
    entry,
    find,
    is_adapter,
    prefixes,
    pull_command,
    similar_names,
    verify_shipped,
)
from course_lib.models.catalog.selection import PURPOSES, Fit, largest_fitting, rank_models
from course_lib.models.catalog.shipped_models import (
    MINILM,
    model_name,
    shipped,
    shipped_folder,
    verified_folder,
)
from course_lib.models.catalog.tiers import TIERS, chat_models, role, roles, tier
