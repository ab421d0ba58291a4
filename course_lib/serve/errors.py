"""Errors in HTTP requests, with the HTTP status code and the name of the invalid field."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from course_lib.errors import CourseError


class ApiError(CourseError):
    """The error for a rejected request.

    field: The request field (or header) that is invalid.
    what: What is wrong with it. fix: How to correct the request; may be empty.
    status, headers: The status code and additional headers of the HTTP response.
    """

    def __init__(
        self,
        field: str,
        what: str,
        fix: str = "",
        *,
        status: int = 400,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(what, fix)
        if not fix:
            self.args = (what,)  # without an empty "Fix:" line
        self.field, self.status, self.headers = field, status, headers or {}


def error_line(error: CourseError) -> str:
    """Return the error as one line: the invalid field (unless named anyway), what happened, the fix."""
    field = error.field if isinstance(error, ApiError) else ""
    named = not field or re.search(rf"\b{re.escape(field)}\b", error.what)
    return ("" if named else f"{field}: ") + error.what + (f"; {error.fix}" if error.fix else "")


def closing_error() -> ApiError:
    """Return the error for requests that the server's shutdown interrupts."""
    return ApiError("server", "the server is shutting down", "send the request again later", status=503)


def not_found(name: str, field: str = "model") -> ApiError:
    """Return the error for a name that is not in the store (the server's models), with Ollama's wording."""
    fix = "GET /api/tags lists the available models, POST /api/pull adds others"
    return ApiError(field, f"model '{name}' not found", fix, status=404)


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an error of a full or read-only disk into a CourseError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        what = f"the store cannot be written: {os.strerror(error.errno)}"
        raise CourseError(what, "course serve --store models  # a folder on another disk") from error
