"""From names of models to specifications: roles, registered models with versions, LOCAL_MODELS_DIR."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.models import catalog
from course_lib.models.drivers import register as register_class
from course_lib.models.drivers.capabilities import SUPPORTED_FIELDS
from course_lib.models.drivers.engine import Engine
from course_lib.models.manager.settings import Settings, settings
from course_lib.models.schema import ModelSpec, SpecError

NAME = re.compile(r"^[\w][\w.+-]{0,99}$")


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model. metadata: its licence, and what was given when it was registered."""

    name: str
    spec: ModelSpec
    version: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class Registry:
    """Resolves names; `name` is the version registered last, `name@version` that version. Thread-safe."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, ModelInfo]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        with self._lock:
            return f"Registry({', '.join(self._versions)})"

    def register(
        self,
        name: str,
        model: ModelSpec | str | dict[str, Any] | type[Engine],
        /,
        *,
        version: str = "1",
        **metadata: Any,
    ) -> None:
        """Implements ModelManager.register."""
        if not NAME.match(name) or not NAME.match(version):
            raise ValueError(
                f"{name!r}, version {version!r}: a name is letters, digits and . + - _, at most 100"
            )
        if isinstance(model, type):
            implementation = f"{name}@{version}"
            register_class(implementation, model)
            source = {"type": "server", "model": name}
            model = {"driver": "custom", "implementation": implementation, "source": source}
        info = ModelInfo(name, ModelSpec.parse(model), version, metadata)
        with self._lock:
            versions = self._versions.setdefault(name, {})
            if versions.get(version, info) != info:
                raise ValueError(
                    f"{name} version {version} is already registered as another model; give another version"
                )
            versions.pop(version, None)
            versions[version] = info

    def spec(self, model: ModelSpec | str | dict[str, Any] | None, **changes: Any) -> ModelSpec:
        """The specification of a name, or of the default model, with `changes`, completed by the settings.

        Raises SpecError for a version that is not registered, and what ModelSpec.parse raises.
        """
        defaults = settings()
        if model is None:
            embeds = changes.get("task") == "text-embedding"
            model = defaults.default_embedding_model if embeds else defaults.default_chat_model
        if isinstance(model, str):
            model = self._look_up(model, defaults.local_models_dir)
        spec = ModelSpec.parse(model, **changes)
        return spec if spec.driver == "custom" else spec.model_copy(update=_defaults_for(spec, defaults))

    def _look_up(self, name: str, folder: Path | None) -> ModelSpec | dict[str, Any] | str:
        with self._lock:
            base, _, version = name.partition("@")
            if versions := self._versions.get(base):
                newest = list(versions)[-1]
                if version and version not in versions:
                    raise SpecError(
                        f"{base} has no version {version!r}; there are {', '.join(versions)}",
                        f'ModelManager.shared().get_chat_model("{base}@{newest}")',
                    )
                return versions[version or newest].spec
        if name in catalog.roles():
            return catalog.role(name).spec
        local = _models_in(folder)
        return {"source": {"type": "local", "path": str(local[name])}} if name in local else name

    def available(self) -> list[ModelInfo]:
        """Implements ModelManager.list_available_models."""
        entries = [catalog.role(name) for name in catalog.roles()]
        models = [
            ModelInfo(e.role, ModelSpec.parse(e.spec), metadata={"model": e.model, "licence": e.licence})
            for e in entries
        ]
        local = _models_in(settings().local_models_dir)
        models += [ModelInfo(name, ModelSpec.parse(str(path))) for name, path in local.items()]
        with self._lock:
            return models + [info for versions in self._versions.values() for info in versions.values()]

    def name_of(self, spec: ModelSpec) -> str:
        """The name under which a specification was registered, or its own."""
        key = spec.key()
        with self._lock:
            infos = (info for versions in self._versions.values() for info in versions.values())
            return next((info.name for info in infos if info.spec.key() == key), spec.name)


def _models_in(folder: Path | None) -> dict[str, Path]:
    """Name -> path of every model folder and .gguf file that lies directly in `folder`."""
    if folder is None or not folder.expanduser().is_dir():
        return {}
    paths = sorted(folder.expanduser().iterdir())
    return {p.name: p.resolve() for p in paths if p.suffix == ".gguf" or (p / "config.json").is_file()}


def _defaults_for(spec: ModelSpec, defaults: Settings) -> dict[str, Any]:
    """The settings for fields that a specification leaves open and its driver supports."""
    supported = SUPPORTED_FIELDS.get(spec.driver, frozenset())
    values = {"device": defaults.model_device, "precision": defaults.model_dtype}
    if spec.quantization != "none" and spec.driver == "llamacpp":
        del values["precision"]  # the quantization determines it
    return {
        name: value
        for name, value in values.items()
        if value != "auto" and name in supported and getattr(spec, name) == "auto"
    }
