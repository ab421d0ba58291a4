"""Models of the Hugging Face hub: only what is needed, whole and known, or a message that says what is missing."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from huggingface_hub import constants

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.files.headers import gguf_models, no_weights, only_gguf, shards, weight_files
from course_lib.models.files.hub_cache import SHA1, Cache, Listing
from course_lib.models.files.hub_download import (
    OutOfReach,
    ask,
    fetch_files,
    pull_command,
    size,
    told,
    unsafe,
)
from course_lib.models.schema.sources import HuggingFaceSource

BESIDE = re.compile(  # what goes with weights: configuration, tokenizer, templates, modules of sentence-transformers
    r"[^/]+\.(json|txt|jinja|model)|\d+_[^/]+/[^/]+\.(json|txt|safetensors)|additional_chat_templates/[^/]+\.jinja"
)
CONFIGURATIONS = (
    "config.json",
    "adapter_config.json",
)  # of a model, and of a LoRA adapter, which `ModelSpec.adapters` names
INDEX_OF_PICKLES = re.compile(r".*\.(bin|h5|msgpack)\.index\.json")


def download(source: HuggingFaceSource, *, pull: bool = False) -> Path:
    """The snapshot folder in the hub's cache, or the .gguf file in it, with every file checked against its hash.

    Offline (HF_HUB_OFFLINE, or `local_files_only`) nothing is asked for; otherwise what is missing is downloaded, and goes
    on where it broke off. A revision that is a commit and is all here is not asked for either. `pull`: show progress, and
    do not make do with what is here where the hub is out of reach.

    Raises CourseError that names the missing files and the command that gets them; for a repository without safetensors or
    GGUF; for a file that is not what its hash says; and for whatever the hub refuses.
    """
    cache, revision = Cache(source.repository, source.cache_dir), _revision(source)
    offline = source.local_files_only or is_offline()
    listing = _known(cache, revision)
    if not offline and not (
        SHA1.fullmatch(revision) and listing and listing.whole and not _lacking(source, cache, listing)
    ):
        constants.HF_HUB_OFFLINE = (
            False  # the library reads the variable once, when it is imported; as it is now, counts
        )
        listing = _brought(source, cache, revision, pull)
    if listing is None or _lacking(source, cache, listing):
        raise _missing(source, cache, listing, pull)
    names, snapshot = _wanted(source, listing), cache.snapshot(listing.commit)
    with told(source):
        _settle(source, cache, listing, None if offline else revision)
    _check_sums(source, cache, listing)
    return snapshot / names[0] if names[0].endswith(".gguf") else snapshot


def commit_in(path: Path) -> str:
    """The commit of what `download` returned."""
    return next(part for part in reversed(path.parts) if SHA1.fullmatch(part))


def is_offline() -> bool:
    """Whether the environment forbids downloads."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "0"
    return said.lower() not in ("0", "false", "no", "off")


def _revision(source: HuggingFaceSource) -> str:
    revision = source.revision or constants.DEFAULT_REVISION
    if unsafe(revision):
        raise CourseError(
            f"revision: {revision!r} is no branch, tag or commit",
            "leave it out, or name one of the repository",
        )
    return revision


def _brought(source: HuggingFaceSource, cache: Cache, revision: str, pull: bool) -> Listing:
    """Ask what there is, and download what is lacking. Out of reach of the hub, what was last seen must do, and it is said."""
    try:
        listing = ask(source, revision)
    except OutOfReach as error:
        known = _known(cache, revision)
        if pull or known is None or _lacking(source, cache, known):
            raise
        warnings.warn(
            f"{error.what}; using {source.repository} as last seen, at {known.commit[:12]}", stacklevel=4
        )
        return known
    lacking = _lacking(source, cache, listing)
    _check_sums(source, cache, listing)
    if lacking:
        with told(source), cache.lock():
            cache.remember(listing, revision)
            fetch_files(source, cache, listing, _lacking(source, cache, listing), pull)
            _settle(source, cache, listing, revision)
    return listing


def _settle(source: HuggingFaceSource, cache: Cache, listing: Listing, revision: str | None) -> None:
    """Make a snapshot of files that are all here, and then the branch or tag stand for it."""
    cache.link(listing, _wanted(source, listing))
    if revision:
        cache.name(revision, listing.commit)


def _known(cache: Cache, revision: str) -> Listing | None:
    commit = cache.commit_of(revision)
    return cache.listing(commit) if commit else None


def _lacking(source: HuggingFaceSource, cache: Cache, listing: Listing) -> list[str]:
    return [n for n in _wanted(source, listing) if cache.place(listing, n) is None]


def _wanted(source: HuggingFaceSource, listing: Listing) -> list[str]:
    """Names of the files to have. Raises CourseError where there are no weights that are loaded, or several to choose from."""
    names, where = list(listing.files), source.repository
    found, configured = weight_files(names), next((name for name in CONFIGURATIONS if name in names), None)
    if source.filename:
        wanted = shards(source.filename)
    elif gguf_models(names) and not (found and configured):
        wanted = only_gguf(names, where, f"say which: {pull_command(source, file=gguf_models(names)[0])}")
    elif (found and configured) or not listing.whole:
        beside = {n for n in names if BESIDE.fullmatch(n) and not INDEX_OF_PICKLES.fullmatch(n)}
        wanted = sorted({configured or "config.json", *(found or ["*.safetensors"]), *beside})
    elif found:
        raise CourseError(
            f"{where} holds no config.json beside {found[0]}: it is no whole model", "name its base model"
        )
    else:
        raise no_weights(names, where)
    absent = [n for n in wanted if n not in listing.files]
    if absent and listing.whole:
        held = ", ".join(gguf_models(names)) or "none"
        raise CourseError(
            f"{where} at {listing.commit[:12]} has no {absent[0]}; its GGUF files: {held}",
            "name one of its files",
        )
    for name in source.sha256.keys() - wanted:
        raise CourseError(
            f"sha256 names {name}, which is not among the files used: {', '.join(wanted)}", "correct the name"
        )
    return wanted


def _check_sums(source: HuggingFaceSource, cache: Cache, listing: Listing) -> None:
    """Compare the sums that the specification gives with those that the hub states, and with files for which it states none."""
    for name, digest in source.sha256.items():
        file, here = listing.files[name], cache.place(listing, name)
        found = file.sha256 or (
            data.sha256(here) if here else digest
        )  # what is not here yet is compared when it is
        if found != digest:
            raise CourseError(
                f"{source.repository}/{name} at {listing.commit[:12]} has SHA-256 {found[:12]}..., and sha256 says "
                f"{digest[:12]}...",
                "pin the revision that you mean, or correct the sum",
            )


def _missing(source: HuggingFaceSource, cache: Cache, listing: Listing | None, pull: bool) -> CourseError:
    """Which files are not in the cache, and the command that gets them. A damaged one is removed, so that it will be got."""
    fix = ("HF_HUB_OFFLINE=0 " if pull else "") + pull_command(source)
    where = f"{source.repository} at {source.revision or constants.DEFAULT_REVISION}"
    if listing is None:
        what = source.filename or "every file"
        return CourseError(f"{what} of {where} is missing in {cache.root}, and downloads are off", fix)
    lines = []
    for name in _lacking(source, cache, listing):
        file, damaged = listing.files.get(name), (cache.snapshot(listing.commit) / name).is_file()
        if damaged:
            cache.remove(listing, name)
        known = f" ({size(file.size)})" if file and file.size is not None else ""
        lines.append(f"{name}{known}{', which was damaged and has been removed' if damaged else ''}")
    return CourseError(
        f"missing of {where} ({listing.commit[:12]}): {'; '.join(lines)}. Downloads are off", fix
    )
