"""Download the files that a model needs from the Hugging Face hub, and check each by its hash.

A source names a repository on the hub. A listing is the list of its files at one commit; a revision is a
branch, a tag or a commit. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from huggingface_hub import constants

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.files.headers import (
    gguf_models,
    missing_weights_error,
    only_gguf,
    picture_files,
    shards,
    weight_files,
)
from course_lib.models.files.hub_cache import SHA1, Cache, Listing
from course_lib.models.files.hub_download import fetch_files, is_unsafe, list_files
from course_lib.models.files.hub_errors import HubUnreachable, describe_size, pull_command, wrap_errors
from course_lib.models.schema.sources import HuggingFaceSource

SIDECAR_FILES = re.compile(  # files beside the weights: configuration, tokenizer, templates, pooling layers
    r"[^/]+\.(json|txt|jinja|model)|\d+_[^/]+/[^/]+\.(json|txt|safetensors)|additional_chat_templates/[^/]+\.jinja"
)
PICKLE_INDEX = re.compile(r".*\.(bin|h5|msgpack)\.index\.json")
CONFIGS = ("config.json", "adapter_config.json")  # in a complete model, in a LoRA adapter


def download(source: HuggingFaceSource, *, pull: bool = False) -> Path:
    """Return the model's folder in the hub's cache, or its .gguf file, with every file checked by its hash.

    Missing files are downloaded; an interrupted download is resumed. The hub is not contacted when offline
    (HF_HUB_OFFLINE or `local_files_only`), nor for a commit whose files are all in the cache.
    pull: Whether to show progress, and to raise rather than use cached files when the hub cannot be reached.

    Raises CourseError if files are missing (it names them and the download command), a repository has no
    safetensors or GGUF files, a hash is wrong, or the hub refuses a request.
    """
    cache = Cache(source.repository, source.cache_dir)
    revision = source.revision or constants.DEFAULT_REVISION
    if is_unsafe(revision):
        what = f"revision: {revision!r} is not a valid branch, tag or commit"
        raise CourseError(what, f'load("{source.repository}")')
    offline = source.local_files_only or is_offline()
    listing = cache.listing(revision)
    pinned = SHA1.fullmatch(revision) and listing and listing.complete
    if not offline and not (pinned and listing and not _missing_files(source, cache, listing)):
        constants.HF_HUB_OFFLINE = False  # huggingface_hub reads the variable only once, when it is imported
        listing = _download_missing(source, cache, revision, pull)
    if listing is None or _missing_files(source, cache, listing):
        raise _missing_error(source, cache, listing, pull)
    names, snapshot = _needed_files(source, listing), cache.snapshot(listing.commit)
    with wrap_errors(source):
        _link_snapshot(source, cache, listing, None if offline else revision)
    _check_sha256(source, cache, listing)
    return snapshot / names[0] if source.filename or names[0].endswith(".gguf") else snapshot


def snapshot_commit(path: Path) -> str:
    """Return the commit in a path that `download` returned."""
    return next(part for part in reversed(path.parts) if SHA1.fullmatch(part))


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids downloads or, where that is not set, TRANSFORMERS_OFFLINE.

    The order is that of huggingface_hub, so that HF_HUB_OFFLINE=0 allows one download.
    """
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "0"
    return value.lower() not in ("0", "false", "no", "off")


def _download_missing(source: HuggingFaceSource, cache: Cache, revision: str, pull: bool) -> Listing:
    """Ask the hub for the list of files, and download those that are missing from the cache.

    When the hub cannot be reached, use complete files from an earlier download, with a warning.
    """
    try:
        listing = list_files(source, revision)
    except HubUnreachable as error:
        known = cache.listing(revision)
        if pull or known is None or _missing_files(source, cache, known):
            raise
        cached = f"using the cached copy of {source.repository}, commit {known.commit[:12]}"
        warnings.warn(f"{error.what}; {cached}", stacklevel=5)
        return known
    missing = _missing_files(source, cache, listing)
    _check_sha256(source, cache, listing)
    if missing:
        with wrap_errors(source), cache.lock():
            cache.record_listing(listing, revision)
            fetch_files(source, cache, listing, _missing_files(source, cache, listing), pull)
            _link_snapshot(source, cache, listing, revision)
    return listing


def _link_snapshot(source: HuggingFaceSource, cache: Cache, listing: Listing, revision: str | None) -> None:
    """Link the cached files into a snapshot, and record it as the current one of the branch or tag."""
    cache.link(listing, _needed_files(source, listing))
    if revision:
        cache.set_revision(revision, listing.commit)


def _missing_files(source: HuggingFaceSource, cache: Cache, listing: Listing) -> list[str]:
    """Return the names of needed files that are not in the cache or are damaged."""
    return [name for name in _needed_files(source, listing) if cache.find(listing, name) is None]


def _needed_files(source: HuggingFaceSource, listing: Listing) -> list[str]:
    """Return the names of the files that the model needs. Raises CourseError unless there is one model."""
    names, repository = list(listing.files), source.repository
    weights, config = weight_files(names), next((name for name in CONFIGS if name in names), None)
    if source.filename:
        needed = shards(source.filename)
    elif picture_files(names):
        needed = picture_files(names)
    elif gguf_models(names) and not (weights and config):
        needed = only_gguf(names, repository, pull_command(source, gguf_models(names)[0]))
    elif (weights and config) or not listing.complete:
        sidecars = {n for n in names if SIDECAR_FILES.fullmatch(n) and not PICKLE_INDEX.fullmatch(n)}
        needed = sorted({config or "config.json", *(weights or ["*.safetensors"]), *sidecars})
    elif weights:
        what = f"{repository} has {weights[0]} but no config.json: it is not a complete model"
        raise CourseError(what, 'load("OWNER/NAME")  # a repository that has config.json')
    else:
        raise missing_weights_error(names, repository)
    absent = [n for n in needed if n not in listing.files]
    if absent and listing.complete:
        ggufs = gguf_models(names)
        available = f"its GGUF files: {', '.join(ggufs) or 'none'}"
        what = f"{repository} at {listing.commit[:12]} has no {absent[0]}; {available}"
        raise CourseError(what, pull_command(source, ggufs[0]) if ggufs else "use another repository")
    for name in source.sha256.keys() - needed:
        what = f"sha256 names {name}, which is not among the files used: {', '.join(needed)}"
        raise CourseError(what, "correct the file name in sha256")
    return needed


def _check_sha256(source: HuggingFaceSource, cache: Cache, listing: Listing) -> None:
    """Compare the source's SHA-256 values with the hub's, or with the file itself if the hub has none.

    Raises CourseError for a difference. A file that is not yet here is compared after its download.
    """
    for name, expected in source.sha256.items():
        file, path = listing.files[name], cache.find(listing, name)
        actual = file.sha256 or (data.sha256(path) if path else expected)
        if actual != expected:
            raise CourseError(
                f"{source.repository}/{name} at {listing.commit[:12]} has SHA-256 {actual[:12]}..., "
                f"but sha256 expects {expected[:12]}...",
                "set the revision that you mean, or correct sha256",
            )


def _missing_error(
    source: HuggingFaceSource, cache: Cache, listing: Listing | None, pull: bool
) -> CourseError:
    """Remove damaged files, and return the error that names all missing files and the download command."""
    fix = ("HF_HUB_OFFLINE=0 " if pull else "") + pull_command(source)
    where = f"{source.repository} at {source.revision or constants.DEFAULT_REVISION}"
    if listing is None:
        what = (
            f"{source.filename or 'every file'} of {where} is missing in {cache.root}, and downloads are off"
        )
        return CourseError(what, fix)
    lines = []
    for name in _missing_files(source, cache, listing):
        file, damaged = listing.files.get(name), (cache.snapshot(listing.commit) / name).is_file()
        if damaged:
            cache.remove(listing, name)
        size = f" ({describe_size(file.size)})" if file and file.size is not None else ""
        lines.append(f"{name}{size}{', which was damaged and has been removed' if damaged else ''}")
    return CourseError(
        f"missing files of {where} ({listing.commit[:12]}): {'; '.join(lines)}. Downloads are off", fix
    )
