"""Asking the hub what a repository holds, and downloading files of it into the cache."""

from __future__ import annotations

import re
import shutil
from contextlib import nullcontext
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, cast

from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

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

CLIENT = "local-ai-measured"  # how we introduce ourselves to the hub


def is_unsafe(name: str) -> bool:
    """Whether a name, joined to a folder, may lead out of it on any system.

    >>> is_unsafe("1_Pooling/config.json"), is_unsafe("../x"), is_unsafe("C:x"), is_unsafe("/x")
    (False, True, True, True)
    """
    windows = PureWindowsPath(name)
    odd = "\\" in name or not name.isprintable() or any(p in ("", ".", "..") for p in name.split("/"))
    return odd or bool(windows.drive or windows.root) or PurePosixPath(name).is_absolute()


def list_files(source: HuggingFaceSource, revision: str) -> Listing:
    """The files of a revision by the hub. Raises CourseError for a refusal and for unsafe names."""
    wrong_hub = CourseError(
        f"{endpoint()} does not answer as a hub does", f"unset HF_ENDPOINT  # means {HUB}"
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
        except HfHubHTTPError:  # one kind of it is a ValueError
            raise
        except HFValidationError:
            raise CourseError(f"{source.repository!r} is no hub id", 'load("OWNER/NAME")') from None
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
            raise wrong_hub from None
    if unsafe := [name for name in listing.files if is_unsafe(name)]:
        what = f"{source.repository} holds a file named {unsafe[0]!r}, which would lie outside of its folder"
        raise CourseError(what, "do not use this repository")
    return listing


def _listing(info: Any) -> Listing:
    """The hub's answer as a Listing. Raises ValueError, TypeError or AttributeError for a malformed one."""
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
    """The token that the source names; None for the library's own rules (HF_TOKEN, `hf auth login`)."""
    token = read_token(source.token)
    used = token or get_token()
    if used and not re.fullmatch(r"[\x21-\x7e]+", used):
        variable = token_variable(source)
        raise CourseError(
            f"the token in {variable} holds a character that no token has", f"export {variable}=..."
        )
    return token


class _LimitedBar:
    """The progress bar of one file. It ends a download that brings more bytes than the hub states."""

    def __init__(self, bar: Any, name: str, size: int) -> None:
        self.bar, self.name, self.size, self.left = bar, name, size, size

    def update(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            what = f"the hub sends more of {self.name} than the {self.size:,} bytes it states"
            raise CourseError(what, "use another hub")
        self.bar.update(count)


def fetch_files(
    source: HuggingFaceSource, cache: Cache, listing: Listing, names: list[str], show: bool
) -> None:
    """Download files into the cache, small ones first, each from where it broke off, and check their hashes.

    `huggingface_hub.snapshot_download` does neither: it starts each file anew and compares only its size.
    show: whether to show a progress bar.
    """
    from tqdm import tqdm

    files = {n: listing.files[n] for n in sorted(names, key=lambda n: listing.files[n].size or 0)}
    total, arrived = sum(f.size or 0 for f in files.values()), sum(map(cache.arrived, files.values()))
    with wrap_errors(source):
        _check_disk(source, cache, total - arrived)
        headers = build_hf_headers(token=_token(source), library_name=CLIENT) | {
            "Accept-Encoding": "identity"
        }
        label = source.repository
        with tqdm(
            desc=label, total=total, initial=arrived, unit="B", unit_scale=True, disable=not show
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
    """Download one file, or the rest of it, and take it into the cache if its hash is right."""
    size, arrived = file.size or 0, cache.arrived(file)
    if not arrived and size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        what = f"{name} has {describe_size(size)}, more than the hub sends in one piece"
        raise CourseError(what, f"hf download {source.repository} {name}")
    limited = cast(Any, lambda **_: nullcontext(_LimitedBar(bar, name, size)))
    try:
        with cache.partial(file).open("ab") as f:
            http_get(
                url,
                f,
                resume_size=arrived,
                headers=headers,
                expected_size=size,
                displayed_filename=name,
                tqdm_class=limited,
            )
    except HfHubHTTPError as error:
        if error.response.status_code == 416:  # the partial file cannot be the beginning of this one
            cache.partial(file).unlink()
        raise
    digest = cache.admit(file)
    if digest != file.digest:
        raise CourseError(
            f"{source.repository}/{name} arrived with hash {digest[:12]}..., and the hub states "
            f"{str(file.digest)[:12]}...; it has been removed",
            pull_command(source),
        )


def _check_disk(source: HuggingFaceSource, cache: Cache, needed: int) -> None:
    folder = next(p for p in (cache.folder, *cache.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        sizes = f"takes {describe_size(needed)} more, and {describe_size(free)} are free"
        fix = "export HF_HUB_CACHE=...  # a folder on another disk"
        raise CourseError(f"{source.repository} {sizes} at {folder}", fix)
