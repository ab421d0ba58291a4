"""Resolve a model name to its specification (ModelSpec, the declaration of a model).

A name is a registered model, a role (what a model is used for in the chapters: chat, embed, rerank), a file
or folder in LOCAL_MODELS_DIR, or anything else that ModelSpec.parse accepts, such as a path or hub id. A
driver is the software that runs a model. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from course_lib.models import catalog
from course_lib.models.drivers import register as register_class
from course_lib.models.drivers.capabilities import PICTURE_FIELDS, SUPPORTED_FIELDS
from course_lib.models.drivers.engine import Engine
from course_lib.models.manager.settings import Settings, settings
from course_lib.models.schema import ModelSpec, SpecError
from course_lib.names import existing_path, nfc

NAME = re.compile(r"\w[\w.+-]{0,99}")

GETTERS = {"text-embedding": "get_embedding_model", "rerank": "get_reranker"}  # task -> method of the manager


@dataclass(frozen=True)
class ModelInfo:
    """An available model.

    metadata: The model's name and licence, or the keyword arguments with which it was registered.
    """

    name: str
    spec: ModelSpec
    version: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class Registry:
    """Registered models by name and version. Thread-safe.

    `name` is the version that was registered last, and `name@version` a given one.
    """

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
        """See ModelManager.register. Two classes are the same if module and name are equal."""
        name = nfc(name)
        if not NAME.fullmatch(name) or not NAME.fullmatch(version):
            raise ValueError(
                f"{name!r}, version {version!r}: a name is letters, digits and . + - _, at most 100"
            )
        if isinstance(model, type):
            implementation = f"{model.__module__}.{model.__qualname__}"
            source = {"type": "server", "model": name}  # a specification needs one; the class has no files
            spec = ModelSpec.parse({"driver": "custom", "implementation": implementation, "source": source})
        else:
            spec = ModelSpec.parse(model)
        info = ModelInfo(name, spec, version, metadata)
        with self._lock:
            versions = self._versions.setdefault(name, {})
            if versions.get(version, info) != info:
                raise ValueError(
                    f"{name} version {version} is already registered as another model; give another version"
                )
            if isinstance(model, type):
                register_class(implementation, model)
            versions.pop(version, None)  # so that it becomes the last one
            versions[version] = info

    def spec(self, model: ModelSpec | str | dict[str, Any] | None, **changes: Any) -> ModelSpec:
        """Return the specification of a model with `changes`. Default settings replace the value "auto".

        model: A name, path, hub id or specification; None for the default embedding model if the task in
        `changes` is text-embedding, and otherwise for the default chat model.
        Raises SpecError for an unregistered version, and whatever ModelSpec.parse raises.
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
            base, _, version = nfc(name).partition("@")
            if versions := self._versions.get(base):
                newest = list(versions)[-1]
                if version and version not in versions:
                    getter = GETTERS.get(versions[newest].spec.task, "get_chat_model")
                    what = f"{base} has no version {version!r}; there are {', '.join(versions)}"
                    raise SpecError(what, f'ModelManager.shared().{getter}("{base}@{newest}")')
                return versions[version or newest].spec
        if name in catalog.roles():
            return catalog.role(name).spec
        local = _models_in(folder)
        path = local.get(nfc(name))
        return {"source": {"type": "local", "path": str(path)}} if path else name

    def available(self) -> list[ModelInfo]:
        """See ModelManager.list_available_models."""
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
        """Return the name under which a specification was registered, or else its own name."""
        key = spec.key()
        with self._lock:
            infos = (info for versions in self._versions.values() for info in versions.values())
            return next((info.name for info in infos if info.spec.key() == key), spec.name)


def _models_in(folder: Path | None) -> dict[str, Path]:
    """Return name -> path of the model folders and .gguf files directly in `folder`."""
    if folder is None or not (folder := existing_path(folder)).is_dir():
        return {}
    return {
        nfc(path.name): path.resolve()
        for path in sorted(folder.iterdir())
        if (path / "config.json").is_file() or (path.suffix == ".gguf" and path.is_file())
    }


def _defaults_for(spec: ModelSpec, defaults: Settings) -> dict[str, Any]:
    """Return the default settings for fields that are "auto" in `spec` and supported by its driver."""
    # a driver supports other fields for a task of pictures than for one of text
    pictures = PICTURE_FIELDS.get((spec.task, spec.driver))
    supported = SUPPORTED_FIELDS.get(spec.driver, frozenset()) if pictures is None else pictures
    values = {"device": defaults.model_device, "precision": defaults.model_dtype}
    if spec.quantization != "none" and spec.driver == "llamacpp":
        del values["precision"]  # a quantized GGUF file has its own
    return {
        name: value
        for name, value in values.items()
        if value != "auto" and name in supported and getattr(spec, name) == "auto"
    }
