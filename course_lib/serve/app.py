"""The server as an ASGI application: routes, protection from other machines and sites, error responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from course_lib.errors import CourseError
from course_lib.models.drivers.http_client import is_loopback
from course_lib.serve import ollama_protocol as ollama
from course_lib.serve import openai_protocol as openai
from course_lib.serve.errors import ApiError, error_line
from course_lib.serve.schemas import RequestBody
from course_lib.serve.worker import Worker

MAX_BODY_BYTES = 4_000_000  # bytes of a request, at most
TIMEOUT = 30  # seconds for a body to arrive
NOT_IMPLEMENTED = ("/api/create", "/api/push", "/api/blobs/{digest}")  # of Ollama's routes
Endpoint = Callable[[Request], Awaitable[Response]]
ROUTES: tuple[tuple[str, str, type[RequestBody], Callable[..., Awaitable[Response]]], ...] = (
    ("POST", "/api/generate", ollama.GenerateBody, ollama.generate),
    ("POST", "/api/chat", ollama.ChatBody, ollama.chat),
    ("POST", "/api/embed", ollama.EmbedBody, ollama.embed),
    ("POST", "/api/embeddings", ollama.EmbeddingsBody, ollama.embeddings),
    ("POST", "/api/pull", ollama.PullBody, ollama.pull),
    ("POST", "/api/show", ollama.ShowBody, ollama.show),
    ("POST", "/api/copy", ollama.CopyBody, ollama.copy),
    ("DELETE", "/api/delete", ollama.ModelBody, ollama.delete),
    ("POST", "/v1/chat/completions", openai.ChatBody, openai.chat_completions),
    ("POST", "/v1/completions", openai.CompletionBody, openai.completions),
    ("POST", "/v1/embeddings", openai.EmbeddingsBody, openai.embeddings),
)
QUERIES: tuple[tuple[str, Callable[..., Awaitable[Response]]], ...] = (
    ("/api/version", ollama.version),
    ("/api/tags", ollama.tags),
    ("/api/ps", ollama.ps),
    ("/v1/models", openai.models),
    ("/v1/models/{name:path}", openai.model),
)


def application(worker: Worker) -> ASGIApp:
    """The server over a worker, which is closed when the application ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(worker.close)

    routes = [
        Route("/", _running, methods=["GET"]),
        *(Route(path, _with_body(worker, body, f), methods=[method]) for method, path, body, f in ROUTES),
        *(Route(path, _query(worker, f), methods=["GET"]) for path, f in QUERIES),
        *(Route(path, _not_implemented, methods=["GET", "POST"]) for path in NOT_IMPLEMENTED),
    ]
    handlers: dict[Any, Any] = {
        CourseError: _on_course_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_disconnect,
        Exception: _on_fault,
    }
    return LocalOnlyMiddleware(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan))


async def _running(_: Request) -> Response:
    return PlainTextResponse("The course's own server is running; it speaks Ollama's protocol")


async def _not_implemented(request: Request) -> Response:
    what = f"{request.url.path}: this server makes no models and sends none"
    raise ApiError("path", what, "ollama create", status=501)


def _with_body(
    worker: Worker, schema: type[RequestBody], respond: Callable[..., Awaitable[Response]]
) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await respond(worker, schema.read(await _body(request)))

    return endpoint


def _query(worker: Worker, respond: Callable[..., Awaitable[Response]]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await respond(worker, **request.path_params)

    return endpoint


async def _body(request: Request) -> bytes:
    """The body of a request. Raises ApiError where it is too long or does not arrive in time."""
    parts, size = [], int(request.headers.get("content-length", "0"))
    try:
        async with asyncio.timeout(TIMEOUT):
            if size <= MAX_BODY_BYTES:
                size = 0
                async for part in request.stream():
                    size += len(part)
                    parts.append(part)
                    if size > MAX_BODY_BYTES:
                        break
    except TimeoutError:
        what = f"it did not arrive within {TIMEOUT} seconds"
        raise ApiError("body", what, "send it again", status=408) from None
    if size > MAX_BODY_BYTES:
        what, close = f"more than {MAX_BODY_BYTES:,} bytes", {"Connection": "close"}
        raise ApiError("body", what, "send less at once", status=413, headers=close)
    return b"".join(parts)


class LocalOnlyMiddleware:
    """Refuses requests that were not sent to this machine by name, or that come from a page of another site.

    A page of any site can send requests to a port of its reader's machine, and by DNS rebinding read the
    answers. It cannot forge the headers Host and Origin. Starlette's TrustedHostMiddleware checks Host alone,
    and takes no IPv6 address. No CORS header is ever sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origins = {"Host": f"//{headers.get('host', '')}", "Origin": headers.get("origin")}
            for field, value in origins.items():
                if value is not None and not is_loopback(value):
                    what = f"{value[:100]!r} is not this machine"
                    app = _response(scope["path"], ApiError(field, what, "use http://127.0.0.1", status=403))
        await app(scope, receive, send)


def _response(path: str, error: CourseError) -> Response:
    status, headers = (error.status, error.headers) if isinstance(error, ApiError) else (500, None)
    body = openai.error_body(error) if path.startswith("/v1/") else {"error": error_line(error)}
    return JSONResponse(body, status, headers)


async def _on_course_error(request: Request, error: CourseError) -> Response:
    return _response(request.url.path, error)


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:100]
    field, what = "path", f"this server has no {path}"
    if error.status_code == 405:
        field, what = "method", f"{request.method} is not for {path}"
    headers = dict(error.headers or {})
    return _response(request.url.path, ApiError(field, what, status=error.status_code, headers=headers))


async def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _on_fault(request: Request, error: Exception) -> Response:
    logging.getLogger("course_lib.serve").error("%s %s: %r", request.method, request.url.path, error)
    what = f"a fault of the server: {type(error).__name__}: {error}"
    return _response(request.url.path, CourseError(what, "course doctor"))
