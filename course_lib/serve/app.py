"""The model server as an ASGI web application: routes, error responses, rejection of foreign web pages."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from course_lib.errors import CourseError
from course_lib.models.drivers.http_client import is_loopback
from course_lib.serve import create, limits, openai_schemas
from course_lib.serve import ollama_protocol as ollama
from course_lib.serve import openai_protocol as openai
from course_lib.serve.errors import ApiError, closing_error, error_line
from course_lib.serve.schemas import RequestBody
from course_lib.serve.uploads import blob
from course_lib.serve.worker import Worker

# Origins of web pages that may use the server, as in Ollama; OLLAMA_ORIGINS adds others. * matches any text.
ORIGINS = (
    "http://localhost http://localhost:* https://localhost https://localhost:* "
    "http://127.0.0.1 http://127.0.0.1:* https://127.0.0.1 https://127.0.0.1:* "
    "app://* file://* tauri://* vscode-webview://* vscode-file://*"
)
HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")  # a name or an address, and a port
logger = logging.getLogger("course_lib.serve")
Endpoint = Callable[[Request], Awaitable[Response]]
# Routes with a JSON body: (HTTP method, path, schema of the body, function that answers).
ROUTES: tuple[tuple[str, str, type[RequestBody], Callable[..., Awaitable[Response]]], ...] = (
    ("POST", "/api/generate", ollama.GenerateBody, ollama.generate),
    ("POST", "/api/chat", ollama.ChatBody, ollama.chat),
    ("POST", "/api/embed", ollama.EmbedBody, ollama.embed),
    ("POST", "/api/embeddings", ollama.EmbeddingsBody, ollama.embeddings),
    ("POST", "/api/pull", ollama.PullBody, ollama.pull),
    ("POST", "/api/show", ollama.ShowBody, ollama.show),
    ("POST", "/api/copy", ollama.CopyBody, ollama.copy),
    ("POST", "/api/create", create.CreateBody, create.create),
    ("DELETE", "/api/delete", ollama.ModelBody, ollama.delete),
    ("POST", "/v1/chat/completions", openai_schemas.ChatBody, openai.chat_completions),
    ("POST", "/v1/completions", openai_schemas.CompletionBody, openai.completions),
    ("POST", "/v1/embeddings", openai_schemas.EmbeddingsBody, openai.embeddings),
)
# GET routes without a body: (path, function that answers).
QUERIES: tuple[tuple[str, Callable[..., Awaitable[Response]]], ...] = (
    ("/api/version", ollama.version),
    ("/api/tags", ollama.tags),
    ("/api/ps", ollama.ps),
    ("/v1/models", openai.models),
    ("/v1/models/{name:path}", openai.model),
)


def application(worker: Worker) -> ASGIApp:
    """Return the ASGI application. worker: runs the slow part of requests, such as a model, in threads."""
    routes = [
        Route("/", _running, methods=["GET"]),
        *(
            Route(path, _guarded(worker, _with_body(worker, body, f)), methods=[method])
            for method, path, body, f in ROUTES
        ),
        *(Route(path, _guarded(worker, _query(worker, f)), methods=["GET"]) for path, f in QUERIES),
        Route(
            "/api/blobs/{digest}",  # an uploaded file, by its SHA-256
            _guarded(worker, partial(blob, worker.store, worker.uploads)),
            methods=["HEAD", "POST"],
        ),
        Route("/api/push", _not_implemented, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        CourseError: _on_course_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_disconnect,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    origins = "|".join(
        re.escape(origin).replace(r":\*", r":\d+").replace(r"\*", ".*")
        for origin in [
            *ORIGINS.split(),
            *filter(None, re.split(r"[\s,]+", os.environ.get("OLLAMA_ORIGINS", ""))),
        ]
    )
    permissions: dict[str, Any] = {  # of web pages from these origins
        "allow_methods": ["*"],
        "allow_headers": ["*"],
        "allow_private_network": True,
    }
    return LocalOnlyMiddleware(CORSMiddleware(app, allow_origin_regex=origins, **permissions), origins)


async def _running(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")  # what clients look for


async def _not_implemented(request: Request) -> Response:
    raise ApiError("path", "this server does not upload models to ollama.com", status=501)


def _with_body(
    worker: Worker, schema: type[RequestBody], respond: Callable[..., Awaitable[Response]]
) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await _unless_gone(request, respond(worker, schema.read(await _body(request))))

    return endpoint


async def _unless_gone(request: Request, answer: Awaitable[Response]) -> Response:
    """Await an answer. If the client disconnects first, cancel the answer and raise ClientDisconnect."""
    answering, gone = asyncio.ensure_future(answer), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        gone.cancel()


def _guarded(worker: Worker, endpoint: Endpoint) -> Endpoint:
    """Answer an unexpected error with status 500, without its message: that may contain paths.

    Starlette would raise the error again, and so close the connection.
    """

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (CourseError, HTTPException, ClientDisconnect):
            raise
        except asyncio.CancelledError:
            if not worker.closing.is_set():
                raise
            return _response(request.url.path, closing_error())
        except Exception as error:
            logger.error("%s %s", request.method, request.url.path, exc_info=error)
            what = f"internal server error: {type(error).__name__}; the server's log tells more"
            return _response(request.url.path, CourseError(what, "course doctor"))

    return guarded


def _query(worker: Worker, respond: Callable[..., Awaitable[Response]]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await respond(worker, **request.path_params)

    return endpoint


async def _body(request: Request) -> bytes:
    """Read the request body. Raises ApiError if it is too long or does not arrive in time."""
    if "transfer-encoding" in request.headers and "content-length" in request.headers:
        what = "Transfer-Encoding and Content-Length contradict each other"
        raise ApiError("headers", what, "send one of them", headers={"Connection": "close"})
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        what = f"{encoding[:40]!r} is not supported: a body is read as it is"
        raise ApiError("Content-Encoding", what, "leave it out", status=415, headers={"Connection": "close"})
    parts, size = [], int(request.headers.get("content-length", "0"))
    try:
        async with asyncio.timeout(limits.BODY_SECONDS):
            if size <= limits.MAX_UNUSED_BYTES:  # a client that still sends does not read the error
                size = 0
                async for part in request.stream():
                    size += len(part)
                    if size <= limits.MAX_BODY_BYTES:
                        parts.append(part)
                    if size > limits.MAX_UNUSED_BYTES:
                        break
    except TimeoutError:
        what = f"it did not arrive within {limits.BODY_SECONDS} seconds"
        raise ApiError("body", what, "send it again", status=408) from None
    if size > limits.MAX_BODY_BYTES:
        what, close = f"more than {limits.MAX_BODY_BYTES:,} bytes", {"Connection": "close"}
        raise ApiError("body", what, "send a smaller request", status=413, headers=close)
    return b"".join(parts)


class LocalOnlyMiddleware:
    """Reject requests for another host than this machine, and those of foreign web pages (status 403).

    Any web page can send requests to local ports of its visitor's machine. It can read the responses by DNS
    rebinding: its own host name then resolves to this machine. It cannot forge the headers Host, Origin and
    Sec-Fetch-Site. Starlette's TrustedHostMiddleware checks only Host, and answers in another form than
    Ollama.

    origins: A regular expression for the permitted values of Origin.
    """

    def __init__(self, app: ASGIApp, origins: str) -> None:
        self.app, self.origins = app, re.compile(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http" and (found := self._foreign(Headers(scope=scope))) is not None:
            field, value = found
            what = f"{value[:100]!r} is not this machine"
            fix = "use http://127.0.0.1" if field == "Host" else "OLLAMA_ORIGINS adds web pages"
            app = _response(scope["path"], ApiError(field, what, fix, status=403))
        await app(scope, receive, send)

    def _foreign(self, headers: Headers) -> tuple[str, str] | None:
        """Return the first header that names another machine, and its value; None if there is none."""
        origins = headers.getlist("origin")
        hosts = [
            (host, bool(HOST.fullmatch(host)) and is_loopback(f"//{host}"))
            for host in headers.getlist("host") or [""]
        ]
        if foreign := [host for host, local in hosts if not local]:
            return "Host", foreign[0]
        if foreign := [origin for origin in origins if not self.origins.fullmatch(origin)]:
            return "Origin", foreign[0]
        sites = headers.getlist("sec-fetch-site")  # sent by browsers also where they send no Origin
        return (
            None
            if origins or "cross-site" not in [site.lower() for site in sites]
            else ("Sec-Fetch-Site", "cross-site")
        )


def _response(path: str, error: CourseError) -> Response:
    status, headers = (error.status, error.headers) if isinstance(error, ApiError) else (500, None)
    body = openai.error_body(error) if path.startswith("/v1/") else {"error": error_line(error)}
    return JSONResponse(body, status, headers)


async def _on_course_error(request: Request, error: CourseError) -> Response:
    return _response(request.url.path, error)


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:100]
    field, what = "path", f"this server has no path {path}"
    if error.status_code == 405:
        field, what = "method", f"the method {request.method[:20]} is not allowed for {path}"
    headers = dict(error.headers or {})
    return _response(request.url.path, ApiError(field, what, status=error.status_code, headers=headers))


async def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nginx's code for "client closed request"; the client is gone
