"""What can go wrong with the hub, told as a CourseError with the command to type next."""

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
ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+)(:[1-9]\d{0,4})?(/[\x21-\x7e]*)?")
TransportError: type[Exception] = HfHubHTTPError.__bases__[
    0
]  # httpx's or httpx2's, whichever the library uses


class HubUnreachable(CourseError):
    """The hub does not answer, or not in time."""


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT as it is now, or the public hub. Raises CourseError for a bad one."""
    address = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not ADDRESS.fullmatch(address):
        raise CourseError("HF_ENDPOINT is no address of a hub", f"unset HF_ENDPOINT  # means {HUB}")
    return address


def pull_command(source: HuggingFaceSource, filename: str | None = None) -> str:
    """The command that downloads what `source` names."""
    return catalog.pull_command(
        source.repository,
        revision=source.revision,
        filename=filename or source.filename,
        cache_dir=source.cache_dir,
        token=token_variable_name(source.token) if source.token else None,
    )


def token_variable(source: HuggingFaceSource) -> str:
    """The environment variable that holds the token for a source."""
    return token_variable_name(source.token) if source.token else "HF_TOKEN"


def describe_size(count: int) -> str:
    """A number of bytes with its unit."""
    if count < 1e5:
        return f"{count:,} bytes"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def wrap_errors(source: HuggingFaceSource) -> Iterator[None]:
    """Turn what the hub's library raises into a CourseError.

    The chain of errors is cut, because a server may repeat a token in its message.
    """
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(source, error) from None
    except TransportError as error:
        raise _disconnected(source, {c.__name__ for c in type(error).__mro__}) from None
    except OSError as error:
        raise _not_written(source, error) from None


def _refused(source: HuggingFaceSource, error: HfHubHTTPError) -> CourseError:
    """The hub answered, with an error status."""
    name, pull, hub, status = source.repository, pull_command(source), endpoint(), error.response.status_code
    if isinstance(error, GatedRepoError):
        what = f"{name} is gated: its owner gives it to those who accept conditions (HTTP {status})"
        fix = f"hf auth login  # or export HF_TOKEN=...; first accept them at {hub}/{name}"
    elif isinstance(error, RevisionNotFoundError):
        what, fix = f"{name} has no revision {source.revision!r}", f"choose one at {hub}/{name}/tree/main"
    elif isinstance(error, EntryNotFoundError):
        what, fix = f"{name} lists a file that {hub} then does not have", f"{pull}  # later"
    elif status == 401 and "Invalid credentials" in error.response.headers.get("X-Error-Message", ""):
        fix = f"hf auth login  # or export {token_variable(source)}=... anew"
        what = f"{hub} does not know the token (HTTP 401)"
    elif status in (401, 404):
        what = f"{hub} has no {name}, or it is private and not for this token (HTTP {status})"
        fix = "hf auth login  # if the name is right, and private"
    elif status == 403:
        what = f"the token may not read {name} (HTTP 403)"
        fix = f"allow it at {hub}/settings/tokens"
    elif status == 429:
        what, fix = f"{hub} takes no more requests for a while (HTTP 429)", f"{pull}  # in some minutes"
    elif status >= 500:
        return HubUnreachable(f"{hub} has a fault of its own (HTTP {status})", f"{pull}  # later")
    else:
        what, fix = f"{hub} refuses {name} (HTTP {status})", pull
    return CourseError(what, fix)


def _disconnected(source: HuggingFaceSource, kinds: set[str]) -> CourseError:
    """No answer, or a broken connection. kinds: the names of the error's classes."""
    again = f"{pull_command(source)}  # goes on where it broke off"
    if "TimeoutException" in kinds:
        seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
        fix = f"HF_HUB_DOWNLOAD_TIMEOUT={6 * seconds:g} {again}"
        return HubUnreachable(f"{endpoint()} sent nothing for {seconds} s", fix)
    if "ConnectError" in kinds:
        return HubUnreachable(
            f"{endpoint()} cannot be reached", "check that this machine is online, and its proxy"
        )
    return HubUnreachable(f"the connection to {endpoint()} broke off", again)


def _not_written(source: HuggingFaceSource, error: OSError) -> CourseError:
    """The disk refused, or a file has another size than the hub states (an OSError without number)."""
    pull = pull_command(source)
    if error.errno is None:
        return CourseError(f"a file of {source.repository} came with another size than the hub states", pull)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CourseError(
            f"the disk is full: {error.filename or source.repository}", f"{pull}  # after making room"
        )
    what = f"{error.filename or 'the cache'} cannot be written: {error.strerror}"
    return CourseError(what, "export HF_HUB_CACHE=...  # a folder that you may write to")
