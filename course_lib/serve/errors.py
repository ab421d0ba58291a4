"""Why a request is not done: the status, the field that is to blame, and what would help."""

from __future__ import annotations

from course_lib.errors import CourseError


class ApiError(CourseError):
    """A request that is not done. Its answer names `field`, and carries `status` and `headers`."""

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

    @property
    def text(self) -> str:
        """One line: the field, what happened, what mends it."""
        return f"{self.field}: {self.what}" + (f"; {self.fix}" if self.fix else "")


def error_line(error: CourseError) -> str:
    """One line for an error: of a refusal with its field, of another with what mends it."""
    return error.text if isinstance(error, ApiError) else f"{error.what}; {error.fix}"


def not_found(name: str, field: str = "model") -> ApiError:
    """The refusal of a name that stands for no model here, in Ollama's words."""
    return ApiError(
        field,
        f"model '{name}' not found",
        "GET /api/tags lists those that are here, POST /api/pull brings others",
        status=404,
    )
