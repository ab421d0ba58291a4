"""The application: routes, what is let in, and errors as either protocol gives them."""

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
ABSENT = ("/api/create", "/api/push", "/api/blobs/{digest}")  # of Ollama's routes
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
    """The server as an ASGI application. The worker is closed when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(worker.close)

    async def running(_: Request) -> Response:
        return PlainTextResponse("The course's own server is running; it speaks Ollama's protocol")

    async def absent(request: Request) -> Response:
        raise ApiError(
            "path",
            f"{request.url.path}: this server makes no models and sends none",
            "ollama create",
            status=501,
        )

    routes = [
        Route(path, _with_body(worker, body, do), methods=[method]) for method, path, body, do in ROUTES
    ]
    routes += [Route(path, _query(worker, do), methods=["GET"]) for path, do in QUERIES]
    routes += [
        Route("/", running, methods=["GET"]),
        *(Route(p, absent, methods=["GET", "POST"]) for p in ABSENT),
    ]
    handlers: dict[Any, Any] = {
        CourseError: _refuse,
        HTTPException: _no_route,
        ClientDisconnect: _gone,
        Exception: _fault,
    }
    return LocalOnlyMiddleware(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan))


def _with_body(
    worker: Worker, kind: type[RequestBody], do: Callable[..., Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await do(worker, kind.read(await _body(request)))

    return endpoint


def _query(
    worker: Worker, do: Callable[..., Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await do(worker, **request.path_params)

    return endpoint


async def _body(request: Request) -> bytes:
    """The body. Raises ApiError where it is too long, or does not come."""
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
        raise ApiError(
            "body", f"it did not arrive within {TIMEOUT} seconds", "send it again", status=408
        ) from None
    if size > MAX_BODY_BYTES:
        raise ApiError(
            "body",
            f"more than {MAX_BODY_BYTES:,} bytes",
            "send less at once",
            status=413,
            headers={"Connection": "close"},
        )
    return b"".join(parts)


class LocalOnlyMiddleware:
    """Lets in only what is sent to this machine by name, and by no page of another site.

    A page of any site can send requests to a port of its reader's machine, and by DNS rebinding read the answers: the Host
    and Origin headers, which it cannot forge, give it away. No CORS header is ever sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            for field, value in (("Host", f"//{headers.get('host', '')}"), ("Origin", headers.get("origin"))):
                if value is not None and not is_loopback(value):
                    app = _error(
                        scope["path"],
                        ApiError(
                            field, f"{value[:100]!r} is not this machine", "use http://127.0.0.1", status=403
                        ),
                    )
        await app(scope, receive, send)


def _error(path: str, error: CourseError) -> Response:
    refused = error if isinstance(error, ApiError) else None
    body = openai.error_body(error) if path.startswith("/v1/") else {"error": error_line(error)}
    return JSONResponse(body, refused.status if refused else 500, refused.headers if refused else None)


async def _refuse(request: Request, error: CourseError) -> Response:
    return _error(request.url.path, error)


async def _no_route(request: Request, error: HTTPException) -> Response:
    field, what = (
        ("method", f"{request.method} is not for")
        if error.status_code == 405
        else ("path", "this server has no")
    )
    return _error(
        request.url.path,
        ApiError(
            field,
            f"{what} {request.url.path[:100]}",
            status=error.status_code,
            headers=dict(error.headers or {}),
        ),
    )


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _fault(request: Request, error: Exception) -> Response:
    logging.getLogger("course_lib.serve").error("%s %s: %r", request.method, request.url.path, error)
    return _error(
        request.url.path,
        CourseError(f"a fault of the server: {type(error).__name__}: {error}", "course doctor"),
    )
