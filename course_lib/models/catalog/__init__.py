"""The catalogue of models: sizes, licences, the models for each role, and the files shipped with the course.

A role is what the chapters use a model for (chat, embed, rerank); a tier is the set of models that the
environment variable COURSE_TIER selects (tiny, real, laptop or gpu), or you set by hand.
"""

# ruff: noqa: F401  (these imports are the package's public names)
from course_lib.models.catalog.catalogue import (
    Entry,
    Licence,
    entries,
    entry,
    find,
    is_adapter,
    parts,
    pull_command,
    pulled_entry,
    related,
    similar_names,
    verify_pulled,
    verify_shipped,
)
from course_lib.models.catalog.packages import Package, Wheel, pulled_models
from course_lib.models.catalog.selection import PURPOSES, Fit, largest_fitting, rank_models
from course_lib.models.catalog.shipped_models import (
    MINILM,
    MINILM_SHA256,
    is_shipped,
    model_name,
    shipped,
    shipped_folder,
    shipped_picture_models,
    verified_folder,
)
from course_lib.models.catalog.tiers import (
    TIERS,
    chat_models,
    check_environment,
    role,
    roles,
    roles_by_hand,
    tier,
)
