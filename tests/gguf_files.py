"""The shipped models as GGUF files, written once and kept in the course's cache."""

import tempfile
from pathlib import Path

from course_lib.models import catalog
from course_lib.models.gguf import cached_export
from course_lib.models.gguf.writer import TYPES


def export_shipped_models():
    """Write every shipped model in every type, unless the cache holds it.

    `pull` starts a process for each file that is missing, and each imports torch and transformers anew.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for model in catalog.shipped():
            for weight_type in TYPES:
                cached_export(catalog.verify_shipped(model), weight_type, Path(scratch))
