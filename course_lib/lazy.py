"""Import modules on first use (PEP 562), and a package without a costly part that nothing here needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_attributes(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package.

    package: its full name. modules: exported name -> the submodule that defines it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return get, lambda: sorted(modules)


def jsonschema_validators() -> Any:
    """Return the module jsonschema.validators, without its check of international web addresses.

    JSON schemas and notebooks need no such check. The check compiles a grammar: 3.5 CPU seconds, 19 MB.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    return import_module("jsonschema.validators")
