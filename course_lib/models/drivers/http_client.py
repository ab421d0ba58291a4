"""HTTP helpers for the drivers of model servers: addresses, tokens, httpx options and error messages.

A driver is the software that runs a model, such as llama.cpp.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from course_lib.errors import CourseError
from course_lib.models.schema.sources import read_token

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT = 5.0  # seconds
IDLE_SECONDS = 2.0  # for which an idle connection is used again
READ_TIMEOUT = 300.0  # seconds without data from the server, which may be loading a model
T = TypeVar("T")
R = TypeVar("R")


def server_url(text: str) -> str:
    """A URL without a trailing slash. Raises CourseError if it is invalid or contains a password."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if valid and (parts.username is not None or parts.password is not None or parts.query or parts.fragment):
        raise CourseError(
            "the address of the server contains a user name, a password or a query, which errors would show",
            'leave them out; give a token by its environment variable: source={..., "token": "${env.NAME}"}',
        )
    if not valid or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise CourseError(f"{text[:80]!r} is not the address of a server", "use http://127.0.0.1:8000")
    return text.rstrip("/")


def ollama_address(text: str) -> str:
    """The URL for a value of OLLAMA_HOST: a host, a port or both, with or without http://.

    Missing parts are taken from 127.0.0.1:11434. Raises CourseError for an invalid value.

    >>> ollama_address("0.0.0.0"), ollama_address("http://gpu-box"), ollama_address(":8000")
    ('http://127.0.0.1:11434', 'http://gpu-box:80', 'http://127.0.0.1:8000')
    """
    has_scheme = "://" in text
    try:
        parts = urlsplit(text.strip() if has_scheme else f"http://{text.strip()}")
        port = parts.port or ({"http": 80, "https": 443}[parts.scheme] if has_scheme else 11434)
    except (ValueError, KeyError) as error:
        what = f"OLLAMA_HOST={text!r} is not an address: {error}"
        raise CourseError(what, "export OLLAMA_HOST=127.0.0.1:11434") from error
    host = parts.hostname or "127.0.0.1"
    # 0.0.0.0 makes a server listen on all interfaces; a client cannot connect to that address.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(url: str) -> bool:
    """Whether a URL is an address of this machine, such as localhost."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_options(url: str, token: str | None) -> dict[str, Any]:
    """Arguments of httpx.Client: no proxy for this machine, no redirects, no authorization except `token`."""
    import httpx

    def authorize(request: httpx.Request) -> httpx.Request:
        # The ollama package would send a token from the environment to any address.
        request.headers.pop("Authorization", None)
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return {
        "timeout": httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT, pool=None),
        # batch_size limits the requests at the same time. llama-server and others close a connection that was
        # idle for 5 seconds, which is httpx's own limit: a request that is sent just then would be lost.
        "limits": httpx.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS),
        "trust_env": not is_loopback(url),
        "follow_redirects": False,
        "auth": authorize,
    }


def variable_name(token: str) -> str:
    """The NAME in `${env.NAME}`."""
    return token.removeprefix("${env.").removesuffix("}")


def token_value(token: str | None) -> str | None:
    """The value of the variable in `${env.NAME}`.

    Raises CourseError if it is unset or invalid in a header.
    """
    value = read_token(token)
    if token is not None and value is not None and not re.fullmatch(r"[\x21-\x7e]+", value):
        name = variable_name(token)
        what = f"the token in the variable {name} contains spaces, line breaks or non-ASCII characters"
        raise CourseError(what, f"export {name}=...")
    return value


def map_concurrently(function: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """Apply `function` to all items in `workers` threads; the results are in order.

    After an error, no further item is started.
    """
    if min(workers, len(items)) <= 1:
        return [function(item) for item in items]
    errors: list[BaseException] = []

    def apply(item: T) -> R:
        if errors:
            raise CancelledError
        try:
            return function(item)
        except BaseException as error:
            errors.append(error)
            raise

    pool = ThreadPoolExecutor(min(workers, len(items)))
    try:
        return list(pool.map(apply, items))
    except CancelledError:
        raise errors[0] from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ask_again_if_closed(ask: Callable[[], T]) -> T:
    """What `ask` returns, which is called twice if the server closes the connection without a word.

    A server may close an idle connection just when the next request is sent over it.
    """
    import httpx

    try:
        return ask()
    except httpx.RemoteProtocolError as error:
        if "without sending a response" not in str(error):
            raise
        return ask()


def split_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    r"""Split a stream of UTF-8 bytes into lines, at \n only.

    httpx also splits at U+2028 and U+0085, which can occur inside JSON strings.
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in lines)
    yield rest.decode()


def error_message(body: str) -> str:
    """The message in the body of an error response: a field of its JSON, or the body if it is not JSON.

    >>> error_message('{"error": {"message": "no room", "code": 400}}')
    'no room'
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    keys = ("error", "message", "detail") if isinstance(value, dict) else ()
    message = next((value[key] for key in keys if value.get(key)), None)
    if message is None:
        return body
    return error_message(message if isinstance(message, str) else json.dumps(message, ensure_ascii=False))


def is_json(text: str) -> bool:
    """Whether a text is valid JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
