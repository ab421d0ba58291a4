"""`load`, and the choice of the class that runs a model.

A driver is the software that runs a model, such as transformers or llama.cpp. An engine is a loaded model: an
object of a subclass of `Engine`. A specification (`ModelSpec`) says which model to load, and how.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib.measure.memory import return_freed_memory
from course_lib.models.drivers.capabilities import GENERATION_TASKS
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.fields import Unsupported, check_fields
from course_lib.models.schema.spec import ModelSpec
from course_lib.models.schema.validation import SpecError

CLASSES = {  # driver -> module:class; huggingface runs embedding models, rerankers and classifiers by ENCODER
    "huggingface": "huggingface:HuggingFace",
    "llamacpp": "llamacpp:LlamaCpp",
    "ollama": "ollama:Ollama",
    "openai": "openai:OpenAI",
    "tgi": "tgi:TGI",
}
ENCODER = "encoder:Encoder"
# (task, driver) -> module:class, for tasks with pictures, faces among them. The modules are in the package
# course_lib.vision, which imports this one, so they are named by strings and imported when needed.
PICTURE_CLASSES = {
    ("image-to-text", "huggingface"): "captions:Captioner",
    ("image-generation", "diffusers"): "drawing:Painter",
    ("image-upscale", "huggingface"): "upscaling:Swin2SR",
    ("image-upscale", "spandrel"): "upscaling:Spandrel",
    ("image-upscale", "diffusers"): "drawing:LatentUpscaler",
    ("image-upscale", "ncnn"): "ncnn_upscaler:NcnnUpscaler",
    ("face-embedding", "huggingface"): "faces:FaceEmbedder",
    ("face-embedding", "onnxruntime"): "insightface:InsightFace",
    ("face-embedding", "dlib"): "dlib_faces:DlibFaces",
}
_SERVER = '{"type": "server", "model": "MODEL", "url": "http://HOST:8000/v1"}'
# Names often given as a driver that are not drivers -> (error message, fix).
NOT_DRIVERS = {
    "vllm": (
        "vllm is a server, not a driver: start `vllm serve MODEL --port 8000` on a machine with a GPU",
        f'load({{"source": {_SERVER}, "driver": "openai"}})',
    ),
    "unsloth": (
        "unsloth trains models and is not a driver: save with `save_pretrained_merged(FOLDER, tokenizer)`",
        'load("./FOLDER")',
    ),
}
_custom: dict[str, type[Engine]] = {}  # name -> class, filled by `register`


def register(name: str, engine: type[Engine]) -> None:
    """Register an Engine class for specifications with `driver="custom"` and `implementation=name`.

    It replaces a class registered with this name. Raises TypeError for anything but a subclass of Engine.
    """
    if not (isinstance(engine, type) and issubclass(engine, Engine)):
        raise TypeError(f"{engine!r} is not a subclass of Engine")
    _custom[name] = engine


def driver_class(spec: ModelSpec) -> type[Engine]:
    """Import and return the class that runs the model of a specification.

    Raises SpecError for an unknown implementation, and Unsupported for a name in NOT_DRIVERS and for a driver
    of pictures that does not support the task. The other drivers' tasks are checked by `check_fields`.
    """
    if spec.driver in NOT_DRIVERS:
        raise Unsupported(*NOT_DRIVERS[spec.driver])
    if spec.driver == "custom":
        if spec.implementation not in _custom:
            known = ", ".join(sorted(_custom)) or "none"
            raise SpecError(
                f"implementation: {spec.implementation!r} is not registered; registered: {known}",
                f"register({spec.implementation!r}, MyEngine)",
            )
        return _custom[str(spec.implementation)]
    if name := PICTURE_CLASSES.get((spec.task, spec.driver)):
        return _class(f"course_lib.vision.{name}")
    if spec.driver not in CLASSES:
        task = next(task for task, driver in PICTURE_CLASSES if driver == spec.driver)
        what = f"the driver {spec.driver} does not support the task {spec.task}"
        raise Unsupported(what, f'load(..., driver="{spec.driver}", task="{task}")')
    is_encoder = spec.driver == "huggingface" and spec.task not in GENERATION_TASKS
    return _class(f"{__name__}.{ENCODER if is_encoder else CLASSES[spec.driver]}")


def _class(path: str) -> type[Engine]:
    """Import a class, given as module:class."""
    module, name = path.split(":")
    engine_class: type[Engine] = getattr(import_module(module), name)
    return engine_class


def load(spec: ModelSpec | str | Path | dict[str, Any], **changes: Any) -> Engine:
    """Load a model, given as the name of a model included in the course, a path, a hub id, a dict or a
    ModelSpec.

    changes: Fields of the ModelSpec to replace, such as driver="llamacpp". Raises SpecError for an invalid
    specification, Unsupported for a task or a field that the driver does not support, and CourseError for
    missing or damaged files.

    >>> load("haneul-300k").parameters
    344384
    """
    spec = ModelSpec.parse(spec, **changes)
    engine_class = driver_class(spec)
    check_fields(engine_class, spec)
    engine = engine_class.load(spec)
    return_freed_memory()  # that of earlier models, and what this one took only while it was loaded
    return engine
