"""Below the drivers of servers: addresses, tokens, how httpx is to call, and the text of an error."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from course_lib.errors import CourseError
from course_lib.models.schema.sources import secret

if TYPE_CHECKING:
    import httpx

CONNECT, SILENCE = (
    5.0,
    300.0,
)  # seconds: until a server takes the call, and without a byte from it (it may load a model)
T = TypeVar("T")
R = TypeVar("R")


def address_of(said: str) -> str:
    """A URL without a slash at its end. Raises CourseError for one that is none, or that holds a password or a query."""
    try:
        parts = urlsplit(said)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if valid and (parts.username is not None or parts.password is not None or parts.query or parts.fragment):
        raise CourseError(
            "the address of a server holds a user name, a password or a query, which messages would show",
            "leave them out, and name the variable of a token as source.token: ${env.NAME}",
        )
    if not valid or re.search(r"[\s\x00-\x1f\x7f]", said):
        raise CourseError(
            f"{said[:80]!r} is no address of a server", "give one such as http://127.0.0.1:8000"
        )
    return said.rstrip("/")


def ollama_address(text: str) -> str:
    """The URL that OLLAMA_HOST means: a host, a port or both, with or without http://; 127.0.0.1:11434 where it is empty.

    >>> ollama_address("0.0.0.0"), ollama_address("http://gpu-box"), ollama_address(":8000")
    ('http://127.0.0.1:11434', 'http://gpu-box:80', 'http://127.0.0.1:8000')
    """
    given = "://" in text
    try:
        parts = urlsplit(text.strip() if given else f"http://{text.strip()}")
        port = parts.port or ({"http": 80, "https": 443}[parts.scheme] if given else 11434)
    except (ValueError, KeyError) as error:
        raise CourseError(
            f"OLLAMA_HOST={text!r} is no address: {error}", "export OLLAMA_HOST=127.0.0.1:11434"
        ) from error
    host = parts.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(
        host, host
    )  # a server listens there, a client cannot ask there
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def loopback(address: str) -> bool:
    """Whether an address is of this machine."""
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def http_options(address: str, token: str | None) -> dict[str, Any]:
    """How httpx calls a server: no proxy for this machine, no redirect, and no authorization but the token."""
    import httpx

    def authorize(request: httpx.Request) -> httpx.Request:
        request.headers.pop(
            "Authorization", None
        )  # a client package takes one from the environment, for any address
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return {
        "timeout": httpx.Timeout(SILENCE, connect=CONNECT, pool=None),
        "limits": httpx.Limits(max_connections=None),  # batch_size says how many
        "trust_env": not loopback(address),
        "follow_redirects": False,
        "auth": authorize,
    }


def variable_of(token: str) -> str:
    """The NAME in `${env.NAME}`."""
    return token.removeprefix("${env.").removesuffix("}")


def header_token(token: str | None) -> str | None:
    """The token that `${env.NAME}` names. Raises CourseError where it is not set, or holds what no header can."""
    value = secret(token)
    if token is not None and value is not None and not re.fullmatch(r"[\x21-\x7e]+", value):
        raise CourseError(
            f"the token in the variable {variable_of(token)} holds blanks, line ends or letters beyond ASCII",
            f"export {variable_of(token)}=...   (without them)",
        )
    return value


def at_once(work: Callable[[T], R], items: Sequence[T], number: int) -> list[R]:
    """`work` of every item, in order, `number` at once. After a failure or an interruption nothing more is begun."""
    if min(number, len(items)) <= 1:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(min(number, len(items)))
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def lines(pieces: Iterable[bytes]) -> Iterator[str]:
    r"""The lines of a stream of UTF-8, split at \n alone; httpx splits also at U+2028 and U+0085, which JSON texts hold."""
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        yield from (line.decode() for line in whole)
    yield held.decode()


def said_by(body: str) -> str:
    """The message in the body of an error, whichever of the usual forms it has, and however often it is wrapped.

    >>> said_by('{"error": {"message": "no room", "code": 400}}')
    'no room'
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return body
    inner = (
        next((said[k] for k in ("error", "message", "detail") if said.get(k)), None)
        if isinstance(said, dict)
        else None
    )
    if inner is None:
        return body
    return said_by(inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False))


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
