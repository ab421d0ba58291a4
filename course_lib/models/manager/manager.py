"""ModelManager: models by name, as LangChain objects or as engines (loaded models), each loaded once.

A specification (ModelSpec) says which model to load, and how. A role is what the chapters use a model for,
such as chat or embed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from course_lib.models.drivers.chat_template import refuse_base_model
from course_lib.models.drivers.engine import Engine
from course_lib.models.manager.pool import ModelPool
from course_lib.models.manager.registry import ModelInfo, Registry
from course_lib.models.schema import ModelSpec

if TYPE_CHECKING:
    from course_lib.models.manager.langchain import ChatModel, EmbeddingModel, RerankerModel

Model = ModelSpec | str | dict[str, Any]  # a specification, or what ModelSpec.parse accepts


class ModelManager(ModelPool):
    """Loads models by name, and shares each loaded model among all callers. Thread-safe.

    byte_limit: The maximum total size of the loaded weights in bytes, by default 80% of the machine's memory.
    To stay below it, the least recently used model is unloaded first; a model in use is never unloaded.
    A language model with LoRA adapters shares the weights of its base model: changing adapters does not
    reload the base model, and several can be used concurrently.
    """

    def __init__(self, byte_limit: int | None = None) -> None:
        super().__init__(byte_limit)
        self.registry = Registry()

    def __repr__(self) -> str:
        models = self.loaded_models()
        used = sum(model.bytes for model in models)
        names = ", ".join(model.name for model in models) or "none"
        return f"ModelManager({used / 1e6:,.1f} of {self.byte_limit / 1e6:,.1f} MB; loaded: {names})"

    @classmethod
    def shared(cls) -> ModelManager:
        """Return the one shared manager of this process, created at the first call."""
        global _shared
        with _shared_lock:
            _shared = _shared or cls()
            return _shared

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the shared manager of the process that unpickles: loaded models stay where they are."""
        return _shared_manager, ()

    # -- by name --

    def register(self, name: str, model: Model | type[Engine], /, **metadata: Any) -> None:
        """Register a specification or a subclass of Engine under a name.

        metadata: `version` (default "1"), and any further information about the model.
        Raises ValueError if this name and version are already registered for another model.
        """
        self.registry.register(name, model, **metadata)

    def list_available_models(self) -> list[ModelInfo]:
        """List the models of the roles (chat, embed, rerank), of LOCAL_MODELS_DIR, and registered ones."""
        return self.registry.available()

    def get_chat_model(self, name: Model | None = None, **options: Any) -> ChatModel:
        """Return a LangChain chat model. Its weights are loaded at its first use.

        name: A role, name, path, hub id or specification; by default DEFAULT_CHAT_MODEL.
        options: Generation options, such as temperature.
        Raises CourseError for a base model, which has no chat template.
        """
        from course_lib.models.manager.langchain import ChatModel

        spec = self.registry.spec(name, task="chat-completion")
        refuse_base_model(spec)
        return ChatModel(manager=self, spec=spec, options=spec.generation.replace(**options))

    def get_embedding_model(self, name: Model | None = None) -> EmbeddingModel:
        """Return LangChain Embeddings. Its weights are loaded at its first use.

        name: As for get_chat_model; by default DEFAULT_EMBEDDING_MODEL.
        It adds the prefixes for queries and passages that the model was trained with.
        """
        from course_lib.models.manager.langchain import EmbeddingModel

        spec = self.registry.spec(name, task="text-embedding")
        return EmbeddingModel(self, spec)

    def get_reranker(self, name: Model = "rerank") -> RerankerModel:
        """Return a reranker. Its weights are loaded at its first use. name: As for get_chat_model."""
        from course_lib.models.manager.langchain import RerankerModel

        return RerankerModel(self, self.registry.spec(name, task="rerank"))

    # -- in memory --

    @contextmanager
    def use(self, model: Model, keep_alive: float | None = None, **changes: Any) -> Iterator[Engine]:
        """Yield the engine (loaded model), which stays loaded at least until the end of the `with` block.

        keep_alive: Idle seconds until the model is unloaded, -1 for never, 0 for immediately; by default the
        value in the specification. Raises CourseError if the model cannot be loaded, or does not fit under
        the byte limit together with the models in use.
        """
        with self.use_resolved(self.registry.spec(model, **changes), keep_alive) as engine:
            yield engine

    def unload(self, model: Model, **changes: Any) -> bool:
        """Unload a model, and the adapter models that share its weights, as soon as they are not in use.

        Returns whether the model was loaded.
        """
        return self._unload(self.registry.spec(model, **changes).key())

    def _name_of(self, spec: ModelSpec) -> str:
        return self.registry.name_of(spec)


_shared: ModelManager | None = None
_shared_lock = threading.Lock()


def _shared_manager() -> ModelManager:
    return ModelManager.shared()  # cloudpickle would copy a class method with the globals that it names
