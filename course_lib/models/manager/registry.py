"""Names of models: registered ones with versions, roles of the tier, folders of LOCAL_MODELS_DIR, and everything else."""

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
from course_lib.models.manager.settings import settings
from course_lib.models.schema import ModelSpec, SpecError

NAME = re.compile(r"^[\w][\w.+-]{0,99}$")


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model. version: as registered; metadata: licence, and whatever was given."""

    name: str
    spec: ModelSpec
    version: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class Registry:
    """Thread-safe. `name` is the version registered last, `name@version` that one."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, ModelInfo]] = {}
        self._lock = threading.Lock()

    def register(
        self,
        name: str,
        what: ModelSpec | str | dict[str, Any] | type[Engine],
        *,
        version: str = "1",
        **metadata: Any,
    ) -> None:
        """See ModelManager.register."""
        if not NAME.match(name) or not NAME.match(version):
            raise ValueError(
                f"{name!r}, version {version!r}: a name is letters, digits and . + - _, at most 100"
            )
        if isinstance(what, type):
            register_class(f"{name}@{version}", what)
            what = {
                "driver": "custom",
                "implementation": f"{name}@{version}",
                "source": {"type": "server", "model": name},
            }
        info = ModelInfo(name, ModelSpec.parse(what), version, metadata)
        with self._lock:
            versions = self._versions.setdefault(name, {})
            if versions.get(version, info) != info:
                raise ValueError(
                    f"{name} version {version} is registered already, as something else; give it another version"
                )
            versions.pop(version, None)
            versions[version] = info

    def spec(self, model: ModelSpec | str | dict[str, Any] | None, **changes: Any) -> ModelSpec:
        """The specification that a name stands for, completed by the settings and changed by `changes`.

        Raises SpecError for a version that is not registered, and what ModelSpec.parse raises.
        """
        said = settings()
        if model is None:
            model = (
                said.default_embedding_model
                if changes.get("task") == "text-embedding"
                else said.default_chat_model
            )
        found = ModelSpec.parse(
            self._named(model, said.local_models_dir) if isinstance(model, str) else model, **changes
        )
        if found.driver == "custom":
            return found
        return found.model_copy(update=_left_open(found, said.model_device, said.model_dtype))

    def _named(self, name: str, folder: Path | None) -> ModelSpec | dict[str, Any] | str:
        with self._lock:
            base, _, version = name.partition("@")
            if versions := self._versions.get(base):
                if version and version not in versions:
                    raise SpecError(
                        f"{base} has no version {version!r}; there are {', '.join(versions)}",
                        f"name one: {base}@...",
                    )
                return versions[version or list(versions)[-1]].spec
        if name in catalog.roles():
            return catalog.role(name).spec
        mine = _models_in(folder)
        return {"source": {"type": "local", "path": str(mine[name])}} if name in mine else name

    def available(self) -> list[ModelInfo]:
        """See ModelManager.list_available_models."""
        entries = [catalog.role(r) for r in catalog.roles()]
        out = [
            ModelInfo(e.role, ModelSpec.parse(e.spec), metadata={"model": e.model, "licence": e.licence})
            for e in entries
        ]
        out += [
            ModelInfo(name, ModelSpec.parse(str(p)))
            for name, p in _models_in(settings().local_models_dir).items()
        ]
        with self._lock:
            return out + [info for versions in self._versions.values() for info in versions.values()]

    def name_of(self, spec: ModelSpec) -> str:
        """The name under which a specification was registered, or its own."""
        with self._lock:
            for versions in self._versions.values():
                for info in versions.values():
                    if info.spec.key() == spec.key():
                        return info.name
        return spec.name


def _models_in(folder: Path | None) -> dict[str, Path]:
    """Name -> path of every model folder and .gguf file that lies directly in a folder."""
    if folder is None or not folder.expanduser().is_dir():
        return {}
    paths = sorted(folder.expanduser().iterdir())
    return {p.name: p.resolve() for p in paths if p.suffix == ".gguf" or (p / "config.json").is_file()}


def _left_open(spec: ModelSpec, device: str, dtype: str) -> dict[str, Any]:
    """The settings for fields that a specification does not set, where its driver acts on them."""
    supported = SUPPORTED_FIELDS.get(spec.driver, frozenset())
    given = {"device": device, "precision": dtype}
    if spec.quantization != "none" and spec.driver == "llamacpp":
        del given["precision"]  # quantized weights have their own
    return {k: v for k, v in given.items() if v != "auto" and k in supported and getattr(spec, k) == "auto"}
