"""List the files of a repository on the Hugging Face hub, and download them into the hub's local cache.

A revision is a branch, a tag or a commit. The hub keeps large files in Git LFS, by their SHA-256.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, cast

from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from course_lib.atomic import check_free_disk
from course_lib.errors import CourseError
from course_lib.models.files.hub_cache import SHA1, SHA256, Cache, File, Listing
from course_lib.models.files.hub_errors import (
    HUB,
    describe_size,
    endpoint,
    pull_command,
    token_variable,
    wrap_errors,
)
from course_lib.models.schema.sources import HuggingFaceSource, read_token

CLIENT = "local-ai-measured"  # sent to the hub in the User-Agent header

OTHER_DISK = "export HF_HUB_CACHE=...  # a folder on another disk"


def is_unsafe(name: str) -> bool:
    """Whether a file name, joined to a folder, may be outside of it on Linux, macOS or Windows.

    >>> is_unsafe("1_Pooling/config.json"), is_unsafe("../x"), is_unsafe("C:x"), is_unsafe("/x")
    (False, True, True, True)
    """
    windows = PureWindowsPath(name)
    malformed = "\\" in name or not name.isprintable() or any(p in ("", ".", "..") for p in name.split("/"))
    return malformed or bool(windows.drive or windows.root) or PurePosixPath(name).is_absolute()


def list_files(source: HuggingFaceSource, revision: str) -> Listing:
    """Ask the hub for the files of a revision. Raises CourseError for a refusal or unsafe file names."""
    not_a_hub = CourseError(
        f"{endpoint()} does not answer like a Hugging Face hub", f"unset HF_ENDPOINT  # to use {HUB}"
    )
    with wrap_errors(source):
        api = HfApi(endpoint=endpoint(), token=_token(source), library_name=CLIENT)
        try:
            listing = _listing(
                api.model_info(
                    source.repository,
                    revision=revision,
                    files_metadata=True,
                    timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                )
            )
        except HfHubHTTPError:  # must come first: one subclass is also a ValueError
            raise
        except HFValidationError:
            raise CourseError(f"{source.repository!r} is not a hub id", 'load("OWNER/NAME")') from None
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
            raise not_a_hub from None
    if unsafe := [name for name in listing.files if is_unsafe(name)]:
        what = (
            f"{source.repository} has a file named {unsafe[0]!r}, which would be written outside its folder"
        )
        raise CourseError(what, "do not use this repository")
    return listing


def _listing(info: Any) -> Listing:
    """Convert the hub's answer to a Listing. Raises ValueError, TypeError or AttributeError if malformed."""
    files = {}
    for sibling in info.siblings:
        lfs = sibling.lfs
        digest, size = (lfs.sha256, lfs.size) if lfs else (sibling.blob_id, sibling.size)
        if not (SHA256 if lfs else SHA1).fullmatch(digest) or not isinstance(size, int) or size < 0:
            raise ValueError("no hash or no size")
        files[str(sibling.rfilename)] = File(size, digest)
    if not SHA1.fullmatch(info.sha):
        raise ValueError("no commit")
    return Listing(info.sha, files)


def _token(source: HuggingFaceSource) -> str | None:
    """Return the token that the source names, or None to use huggingface_hub's (HF_TOKEN or login)."""
    token = read_token(source.token)
    effective = token or get_token()
    if effective and not re.fullmatch(r"[\x21-\x7e]+", effective):
        variable = token_variable(source)
        raise CourseError(
            f"the token in {variable} contains a character that is not allowed in tokens",
            f"export {variable}=...",
        )
    return token


class _LimitedBar:
    """The progress bar of one file, which stops a download with more bytes than the hub stated."""

    def __init__(self, bar: Any, name: str, size: int) -> None:
        self.bar, self.name, self.size, self.left = bar, name, size, size

    def update(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            what = f"the hub sends more than the stated {self.size:,} bytes of {self.name}"
            raise CourseError(what, "use another hub")
        self.bar.update(count)


def fetch_files(
    source: HuggingFaceSource, cache: Cache, listing: Listing, names: list[str], show: bool
) -> None:
    """Download files into the cache, smallest first, resuming partial ones, and check their hashes.

    `huggingface_hub.snapshot_download` restarts each file and compares only its size.
    show: Whether to show a progress bar.
    """
    from tqdm import tqdm

    files = {n: listing.files[n] for n in sorted(names, key=lambda n: listing.files[n].size or 0)}
    total, downloaded = (
        sum(f.size or 0 for f in files.values()),
        sum(map(cache.downloaded_bytes, files.values())),
    )
    with wrap_errors(source):
        check_free_disk(cache.folder, total - downloaded, source.repository, OTHER_DISK)
        headers = build_hf_headers(token=_token(source), library_name=CLIENT) | {
            "Accept-Encoding": "identity"
        }
        label = source.repository
        with tqdm(
            desc=label, total=total, initial=downloaded, unit="B", unit_scale=True, disable=not show
        ) as bar:
            for name, file in files.items():
                url = hf_hub_url(source.repository, name, revision=listing.commit, endpoint=endpoint())
                _fetch(source, cache, name, file, url, headers, bar)


def _fetch(
    source: HuggingFaceSource,
    cache: Cache,
    name: str,
    file: File,
    url: str,
    headers: dict[str, str],
    bar: Any,
) -> None:
    """Download the rest of one file. Raises CourseError, and removes the file, if its hash is wrong."""
    size, downloaded = file.size or 0, cache.downloaded_bytes(file)
    if not downloaded and size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        what = f"{name} has {describe_size(size)}, more than the hub sends in one request"
        raise CourseError(what, f"hf download {source.repository} {name}")
    limited = cast(Any, lambda **_: nullcontext(_LimitedBar(bar, name, size)))
    try:
        with cache.partial(file).open("ab") as f:
            http_get(
                url,
                f,
                resume_size=downloaded,
                headers=headers,
                expected_size=size,
                displayed_filename=name,
                tqdm_class=limited,
            )
    except HfHubHTTPError as error:
        if error.response.status_code == 416:  # range not satisfiable: the partial file is of other content
            cache.partial(file).unlink()
        raise
    digest = cache.admit(file)  # moves the file into the cache if its hash is right, else removes it
    if digest != file.digest:
        raise CourseError(
            f"{source.repository}/{name} arrived with hash {digest[:12]}..., but the hub states "
            f"{str(file.digest)[:12]}...; it has been removed",
            pull_command(source),
        )
