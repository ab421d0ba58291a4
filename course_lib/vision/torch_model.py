"""Picture models in torch: the base class `TorchModel`, and `TransformersModel` for those of transformers.

A specification (ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from course_lib.errors import CourseError
from course_lib.models.drivers.pretrained import from_pretrained, library_errors, weight_dtype
from course_lib.models.files.headers import PIPELINE_FILE, read_json
from course_lib.models.files.pictures import resolve_pictures, stored_type
from course_lib.models.files.weights import refuse_quantized
from course_lib.models.planner.memory import memory_footprint
from course_lib.models.schema.pictures import MODEL_TYPES
from course_lib.models.schema.spec import ModelSpec
from course_lib.quiet import quiet
from course_lib.vision.engine import PictureModel, write_folder


class TorchModel(PictureModel):
    """A picture model in this process.

    modules: its torch modules. parts: what `save` writes, by `save_pretrained`.
    """

    def __init__(self, spec: ModelSpec, modules: Iterable[Any], parts: Iterable[Any] = ()) -> None:
        super().__init__(spec)
        self.modules, self.parts = list(modules), list(parts)

    @property
    def model(self) -> Any:
        """The torch module; of diffusers' pipelines (several models), the network that removes noise."""
        self._check_open()
        return self.modules[0]

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for module in self.modules for weight in module.parameters())

    @property
    def weight_bytes(self) -> int:
        return sum(map(memory_footprint, self.modules))

    @property
    def device(self) -> str:
        return str(next(self.model.parameters()).device.type)

    def save(self, folder: Path | str) -> Path:
        """Write the model to a new folder. Loaded from there, it gives the same results.

        Raises CourseError if the folder exists or cannot be written. An interrupted `save` leaves no files.
        """
        self._check_open()
        with quiet():
            return write_folder(folder, self._write)

    def _write(self, folder: Path) -> None:
        for part in self.parts:
            part.save_pretrained(folder)

    def close(self) -> None:
        self.modules, self.parts = [], []

    def _is_closed(self) -> bool:
        return not self.modules


def _call_for_file(spec: ModelSpec) -> str:
    """Return the call that loads a single file of weights."""
    return 'load(..., driver="spandrel")' if spec.task == "image-upscale" else 'load("./FOLDER", ...)'


class TransformersModel(TorchModel):
    """A model of transformers with its image processor."""

    driver = "huggingface"
    auto_class: str  # the class of transformers that loads the model

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the model. Raises CourseError for files that are missing, damaged, or of another model."""
        import transformers

        folder = resolve_pictures(spec.source)
        if folder.is_file():
            what = f"{folder} is one file; the driver {cls.driver} loads a folder with a config.json"
            raise CourseError(what, _call_for_file(spec))
        config, known = read_json(folder, "config.json"), MODEL_TYPES[spec.task]
        kind = config.get("model_type") or read_json(folder, PIPELINE_FILE).get("_class_name")
        if kind not in known:
            actual = f"is a {kind}" if kind else "has no model_type in its config.json"
            what = f"{spec.name} {actual}; for {spec.task}, transformers runs {', '.join(known)}"
            ldsr = spec.task == "image-upscale" and "SuperResolution" in str(kind)
            fix = 'load(..., driver="diffusers")' if ldsr else "choose a model made for the task"
            raise CourseError(what, fix)
        refuse_quantized(spec.name, config)
        check_architecture(spec, (known[kind],))
        model = from_pretrained(getattr(transformers, cls.auto_class), spec, folder)
        return cls(spec, [model], [model, *cls._processors(folder)])

    @classmethod
    def _processors(cls, folder: Path) -> list[Any]:
        """What makes the model's inputs: its image processor."""
        return [load_part("AutoImageProcessor", folder)]

    @property
    def processor(self) -> Any:
        """The image processor."""
        return self.parts[1]

    def pixels(self, pictures: list[Any]) -> Any:
        """The pictures as the model's `pixel_values`: (pictures, 3, height, width) on its device."""
        values = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
        return values.to(self.model.device, self.model.dtype)


def load_part(auto_class: str, folder: Path) -> Any:
    """Load an image processor with a class of transformers. Raises CourseError if that fails."""
    import transformers

    what = f"the image processor of {folder.name} cannot be loaded"
    with library_errors(what, "save the model's own image processor in the folder"), quiet():
        return getattr(transformers, auto_class).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def stored_dtype(spec: ModelSpec, device: str, path: Path) -> Any:
    """Return `weight_dtype`; for libraries that do not know "auto", the type of the stored weights."""
    import torch

    if (dtype := weight_dtype(spec, device)) != "auto":
        return dtype
    return {"f16": torch.float16, "bf16": torch.bfloat16}.get(stored_type(path), torch.float32)


def check_architecture(spec: ModelSpec, actual: tuple[str, ...]) -> None:
    """Raise CourseError if the specification names another architecture than the files have."""
    if spec.architecture not in (None, *actual):
        what = f"architecture: {spec.architecture!r}, but {spec.name} is {' or '.join(actual)}"
        raise CourseError(what, "leave architecture out")


def no_numbers(name: str, fix: str = 'load(..., precision="float32")') -> CourseError:
    """Return the error for results of a model that are NaN or infinite, as after an overflow in 16 bits.

    name: The model's name. fix: What the error tells the user to try.
    """
    what = (
        f"{name} computed values that are no finite numbers: its weights are damaged, or overflow in 16 bits"
    )
    return CourseError(what, fix)
