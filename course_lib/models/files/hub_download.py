"""Asking the hub, and receiving from it: every refusal and every broken connection becomes a message with its cure."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.files.hub_cache import SHA1, SHA256, Cache, File, Listing
from course_lib.models.schema.sources import HuggingFaceSource, secret, variable_of

HUB = "https://huggingface.co"
US = "local-ai-measured"
HttpError: type[Exception] = HfHubHTTPError.__bases__[
    0
]  # of httpx or httpx2: the hub's library has changed over


class OutOfReach(CourseError):
    """The hub does not answer, or not in time."""


def pull_command(source: HuggingFaceSource, file: str | None = None) -> str:
    """The command that downloads what `source` names."""
    token = variable_of(source.token) if source.token else None
    return catalog.pull_command(
        source.repository,
        revision=source.revision,
        filename=file or source.filename,
        cache_dir=source.cache_dir,
        token=token,
    )


def _variable(source: HuggingFaceSource) -> str:
    return variable_of(source.token) if source.token else "HF_TOKEN"


def size(count: int) -> str:
    """A number of bytes, to be read."""
    return (
        f"{count / 1e9:.2f} GB"
        if count >= 1e9
        else f"{count / 1e6:.1f} MB"
        if count >= 1e5
        else f"{count:,} bytes"
    )


def unsafe(name: str) -> bool:
    """Whether a name, joined to a folder, may lead out of it, on any system.

    >>> unsafe("1_Pooling/config.json"), unsafe("../x"), unsafe("C:x"), unsafe("/x")
    (False, True, True, True)
    """
    windows = PureWindowsPath(name)
    odd = "\\" in name or not name.isprintable() or any(p in ("", ".", "..") for p in name.split("/"))
    return odd or bool(windows.drive or windows.root) or PurePosixPath(name).is_absolute()


# -- asking -----------------------------------------------------------------------------------------------------------


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT as it is now, or the public hub. Raises CourseError for what is no address."""
    said = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    try:
        parts = urlsplit(said)
        good = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and "@" not in parts.netloc
        )
    except ValueError:
        good = False
    if not good or not said.isascii() or any(c.isspace() for c in said):
        raise CourseError("HF_ENDPOINT is no address of a hub", f"unset HF_ENDPOINT, which means {HUB}")
    return said


def _token(source: HuggingFaceSource) -> str | None:
    """The token that the specification names; None leaves it to the hub's library, which knows HF_TOKEN and `hf auth login`."""
    token = secret(source.token)
    said = token or get_token()
    if said and not re.fullmatch(r"[\x21-\x7e]+", said):
        raise CourseError(
            f"the token in {_variable(source)} holds a character that no token has", "set the variable again"
        )
    return token


def ask(source: HuggingFaceSource, revision: str) -> Listing:
    """What the hub says that a revision is and holds. Raises CourseError for a refusal, and where it names unsafe files."""
    with told(source):
        api, seconds = (
            HfApi(endpoint=endpoint(), token=_token(source), library_name=US),
            constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
        try:
            listing = _listing(
                api.model_info(source.repository, revision=revision, files_metadata=True, timeout=seconds)
            )
        except HfHubHTTPError:  # one kind of it is a ValueError
            raise
        except HFValidationError:
            raise CourseError(f"{source.repository!r} is no hub id", "write it as OWNER/NAME") from None
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
            raise CourseError(
                f"{endpoint()} does not answer as a hub does", f"unset HF_ENDPOINT, which means {HUB}"
            ) from None
    if strange := [name for name in listing.files if unsafe(name)]:
        raise CourseError(
            f"{source.repository} holds a file named {strange[0]!r}, which would be written outside of its folder",
            "do not use this repository",
        )
    return listing


def _listing(said: Any) -> Listing:
    """Raises ValueError, TypeError or AttributeError where a hub would not say this."""
    files = {}
    for sibling in said.siblings:
        digest, count = (
            (sibling.lfs.sha256, sibling.lfs.size) if sibling.lfs else (sibling.blob_id, sibling.size)
        )
        if not (SHA256 if sibling.lfs else SHA1).fullmatch(digest) or not isinstance(count, int) or count < 0:
            raise ValueError("no hash or no size")
        files[str(sibling.rfilename)] = File(count, digest)
    if not SHA1.fullmatch(said.sha):
        raise ValueError("no commit")
    return Listing(said.sha, files)


# -- receiving --------------------------------------------------------------------------------------------------------


class _Within:
    """The bar of one file. It ends the download where more comes than the hub has stated."""

    def __init__(self, bar: Any, name: str, stated: int) -> None:
        self.bar, self.name, self.stated, self.left = bar, name, stated, stated

    def update(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise CourseError(
                f"the hub sends more of {self.name} than the {self.stated:,} bytes it states",
                "try another hub",
            )
        self.bar.update(count)


def fetch_files(
    source: HuggingFaceSource, cache: Cache, listing: Listing, names: list[str], show: bool
) -> None:
    """Bring files into the cache, the small ones first, each where it broke off the last time, and checked before it counts."""
    from tqdm import tqdm

    files = {n: listing.files[n] for n in sorted(names, key=lambda n: listing.files[n].size or 0)}
    total, here = sum(f.size or 0 for f in files.values()), sum(map(cache.arrived, files.values()))
    with (
        told(source),
        tqdm(
            total=total, initial=here, unit="B", unit_scale=True, desc=source.repository, disable=not show
        ) as bar,
    ):
        _check_room(source, cache, total - here)
        headers = build_hf_headers(token=_token(source), library_name=US) | {"Accept-Encoding": "identity"}
        for name, file in files.items():
            url = hf_hub_url(source.repository, name, revision=listing.commit, endpoint=endpoint())
            _receive(source, cache, name, file, url, headers, bar)


def _receive(
    source: HuggingFaceSource,
    cache: Cache,
    name: str,
    file: File,
    url: str,
    headers: dict[str, str],
    bar: Any,
) -> None:
    """Bring one file, and let it into the cache if its hash is right."""
    stated, here = file.size or 0, cache.arrived(file)
    if not here and stated > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise CourseError(
            f"{name} has {size(stated)}, more than the hub sends in one piece",
            f"hf download {source.repository} {name}",
        )
    within = cast(Any, lambda **_: nullcontext(_Within(bar, name, stated)))
    try:
        with cache.partial(file).open("ab") as f:
            http_get(
                url,
                f,
                resume_size=here,
                headers=headers,
                expected_size=stated,
                displayed_filename=name,
                tqdm_class=within,
            )
    except HfHubHTTPError as error:
        if error.response.status_code == 416:  # what is here cannot be a part of it
            cache.partial(file).unlink()
        raise
    found = cache.admit(file)
    if found != file.digest:
        raise CourseError(
            f"{source.repository}/{name} arrived with hash {found[:12]}..., and the hub states "
            f"{str(file.digest)[:12]}...; it has been removed",
            pull_command(source),
        )


def _check_room(source: HuggingFaceSource, cache: Cache, needed: int) -> None:
    there = next(p for p in (cache.folder, *cache.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise CourseError(
            f"{source.repository} takes {size(needed)} more, and {size(free)} are free at {there}",
            "make room (hf cache ls), or set HF_HUB_CACHE to a folder on another disk",
        )


# -- what went wrong --------------------------------------------------------------------------------------------------


@contextmanager
def told(source: HuggingFaceSource) -> Iterator[None]:
    """Turn what the hub's library raises into a CourseError. The chain is cut: a server may repeat a token in what it says."""
    try:
        yield
    except HfHubHTTPError as error:
        raise _refusal(source, error) from None
    except HttpError as error:
        raise _unreached(source, {c.__name__ for c in type(error).__mro__}) from None
    except OSError as error:
        raise _not_kept(source, error) from None


def _refusal(source: HuggingFaceSource, error: HfHubHTTPError) -> CourseError:
    repository, status, hub = source.repository, error.response.status_code, endpoint()
    if isinstance(error, GatedRepoError):
        return CourseError(
            f"{repository} is gated: its owner gives it to those who accept conditions (HTTP {status})",
            f"accept them at {hub}/{repository}, then: hf auth login, or export HF_TOKEN=...",
        )
    if isinstance(error, RevisionNotFoundError):
        return CourseError(
            f"{repository} has no revision {source.revision!r}",
            f"see {hub}/{repository}/tree/main for those it has",
        )
    if isinstance(error, EntryNotFoundError):
        return CourseError(
            f"{repository} lists a file that {hub} then does not have", f"{pull_command(source)}   (later)"
        )
    if status == 401 and "Invalid credentials" in error.response.headers.get("X-Error-Message", ""):
        return CourseError(
            f"{hub} does not know the token (HTTP 401)",
            f"hf auth login, or export {_variable(source)}=... anew",
        )
    if status in (401, 404):
        return CourseError(
            f"{hub} has no {repository}, or it is private and not for this token (HTTP {status})",
            "correct the name, or, for a private one: hf auth login",
        )
    if status == 403:
        return CourseError(
            f"the token may not read {repository} (HTTP 403)", f"give it the right at {hub}/settings/tokens"
        )
    if status == 429:
        return CourseError(
            f"{hub} takes no more requests for a while (HTTP 429)",
            f"{pull_command(source)}   (in some minutes)",
        )
    if status >= 500:
        return OutOfReach(
            f"{hub} has a fault of its own (HTTP {status})", f"{pull_command(source)}   (later)"
        )
    return CourseError(f"{hub} refuses {repository} (HTTP {status})", pull_command(source))


def _unreached(source: HuggingFaceSource, kinds: set[str]) -> CourseError:
    again = f"{pull_command(source)}   (goes on where it broke off)"
    if "TimeoutException" in kinds:
        seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
        return OutOfReach(
            f"{endpoint()} sent nothing for {seconds} s", f"HF_HUB_DOWNLOAD_TIMEOUT={6 * seconds:g} {again}"
        )
    if "ConnectError" in kinds:
        return OutOfReach(
            f"{endpoint()} cannot be reached",
            "see that this machine is online, and HF_ENDPOINT and the proxy right",
        )
    return OutOfReach(f"the connection to {endpoint()} broke off", again)


def _not_kept(source: HuggingFaceSource, error: OSError) -> CourseError:
    if error.errno is None:
        return CourseError(
            f"a file of {source.repository} came with another size than the hub states", pull_command(source)
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CourseError(
            f"the disk is full: {error.filename or source.repository}",
            f"make room, then {pull_command(source)}",
        )
    return CourseError(
        f"{error.filename or 'the cache'} cannot be written: {error.strerror}",
        "set HF_HUB_CACHE to a folder that you may write",
    )
