"""Errors of requests, with the HTTP status and the field that is wrong."""

from __future__ import annotations

from course_lib.errors import CourseError


class ApiError(CourseError):
    """A request that is refused. Its answer names `field`, and carries `status` and `headers`."""

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
        self.field, self.status, self.headers = field, status, headers or {}


def error_line(error: CourseError) -> str:
    """An error in one line: of an ApiError the field, what happened, and how to fix it."""
    field = f"{error.field}: " if isinstance(error, ApiError) else ""
    return field + error.what + (f"; {error.fix}" if error.fix else "")


def not_found(name: str, field: str = "model") -> ApiError:
    """The error for a name of no model in the store, in Ollama's words."""
    fix = "GET /api/tags lists those that are here, POST /api/pull brings others"
    return ApiError(field, f"model '{name}' not found", fix, status=404)
