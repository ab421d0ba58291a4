"""Convert errors of the Hugging Face hub and of the network to CourseError, each with a fix."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RevisionNotFoundError,
)

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.schema.sources import HuggingFaceSource, token_variable_name

HUB = "https://huggingface.co"
HUB_URL = re.compile(r"https?://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+)(:[1-9]\d{0,4})?(/[\x21-\x7e]*)?")
# the base class of all errors of the HTTP client that huggingface_hub uses: httpx or its successor httpx2
HttpClientError: type[Exception] = HfHubHTTPError.__bases__[0]


class HubUnreachable(CourseError):
    """The hub does not answer, answers too late, or reports a server error."""


def endpoint() -> str:
    """Return the hub's URL: HF_ENDPOINT, or the public hub. Raises CourseError for a malformed URL."""
    address = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not HUB_URL.fullmatch(address):
        raise CourseError("HF_ENDPOINT is not a valid URL", f"unset HF_ENDPOINT  # to use {HUB}")
    return address


def pull_command(source: HuggingFaceSource, filename: str | None = None) -> str:
    """Return the shell command that downloads `source`."""
    return catalog.pull_command(
        source.repository,
        revision=source.revision,
        filename=filename or source.filename,
        cache_dir=source.cache_dir,
        token=token_variable_name(source.token) if source.token else None,
    )


def token_variable(source: HuggingFaceSource) -> str:
    """Return the name of the environment variable with the token for a source."""
    return token_variable_name(source.token) if source.token else "HF_TOKEN"


def describe_size(count: int) -> str:
    """Return a number of bytes with its unit, such as `26.0 MB`."""
    if count < 1e5:
        return f"{count:,} bytes"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def wrap_errors(source: HuggingFaceSource) -> Iterator[None]:
    """Convert what huggingface_hub raises to CourseError.

    The original error is not shown with it (`from None`), because a server's message may repeat the token.
    """
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(source, error) from None
    except HttpClientError as error:
        raise _disconnected(source, {c.__name__ for c in type(error).__mro__}) from None
    except OSError as error:
        raise _not_written(source, error) from None


def _refused(source: HuggingFaceSource, error: HfHubHTTPError) -> CourseError:
    """Return the error for a response with an HTTP error status."""
    name, pull, hub, status = source.repository, pull_command(source), endpoint(), error.response.status_code
    if isinstance(error, GatedRepoError):
        what = f"{name} is gated: you must accept its conditions first (HTTP {status})"
        fix = f"hf auth login  # or export HF_TOKEN=...; first accept them at {hub}/{name}"
    elif isinstance(error, RevisionNotFoundError):
        what, fix = f"{name} has no revision {source.revision!r}", f"choose one at {hub}/{name}/tree/main"
    elif isinstance(error, EntryNotFoundError):
        what, fix = f"{hub} lists a file of {name} but does not have it", f"{pull}  # later"
    elif status == 401 and "Invalid credentials" in error.response.headers.get("X-Error-Message", ""):
        fix = f"hf auth login  # or export {token_variable(source)}=..."
        what = f"{hub} rejects the token (HTTP 401)"
    elif status in (401, 404):
        what = f"{hub} has no {name}, or it is private and the token has no access (HTTP {status})"
        fix = "hf auth login  # if the name is right and the model is private"
    elif status == 403:
        what = f"the token may not read {name} (HTTP 403)"
        fix = f"allow it at {hub}/settings/tokens"
    elif status == 429:
        what, fix = f"{hub} received too many requests (HTTP 429)", f"{pull}  # in a few minutes"
    elif status >= 500:
        return HubUnreachable(f"{hub} has a server error (HTTP {status})", f"{pull}  # later")
    else:
        what, fix = f"{hub} refuses {name} (HTTP {status})", pull
    return CourseError(what, fix)


def _disconnected(source: HuggingFaceSource, class_names: set[str]) -> CourseError:
    """Return the error for a missing answer or a lost connection.

    class_names: names of the original error's class and base classes.
    """
    retry = f"{pull_command(source)}  # resumes the download"
    if "TimeoutException" in class_names:
        seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
        fix = f"HF_HUB_DOWNLOAD_TIMEOUT={6 * seconds:g} {retry}"
        return HubUnreachable(f"{endpoint()} sent nothing for {seconds} s", fix)
    if "ConnectError" in class_names:
        return HubUnreachable(
            f"{endpoint()} cannot be reached", "check that this machine is online, and its proxy"
        )
    return HubUnreachable(f"the connection to {endpoint()} was lost", retry)


def _not_written(source: HuggingFaceSource, error: OSError) -> CourseError:
    """Return the error for a failed write, or for a file of the wrong size (an OSError without errno)."""
    pull = pull_command(source)
    if error.errno is None:
        return CourseError(f"a file of {source.repository} has a different size than the hub states", pull)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CourseError(
            f"the disk is full: {error.filename or source.repository}", f"{pull}  # after freeing space"
        )
    what = f"{error.filename or 'the cache'} cannot be written: {error.strerror}"
    return CourseError(what, "export HF_HUB_CACHE=...  # a folder that you may write to")
