"""`TorchPictures`, the base class of picture models that transformers runs: loading, sizes and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from course_lib.atomic import atomic_folder
from course_lib.errors import CourseError
from course_lib.models.drivers.pretrained import LOADING_ERRORS, from_pretrained
from course_lib.models.files.headers import read_json
from course_lib.models.files.resolution import resolve
from course_lib.models.planner.memory import memory_footprint
from course_lib.models.schema.spec import ModelSpec
from course_lib.quiet import quiet
from course_lib.vision.engine import PictureModel

ARCHITECTURE_OF = {  # model_type of config.json -> architecture of a specification
    "blip": "blip",
    "git": "git",
    "vision-encoder-decoder": "vit-gpt2",
    "swin2sr": "swin2sr",
    "vit": "vit",
}


class TorchPictures(PictureModel):
    """A transformers model for pictures in this process, with its image processor.

    parts: what `save` writes: the model, and whatever else was saved beside it.
    """

    driver = "huggingface"
    auto_class: str  # the class of transformers that loads the model

    def __init__(self, spec: ModelSpec, model: Any, parts: list[Any]) -> None:
        super().__init__(spec)
        self.model, self.parts = model, parts

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the model. Raises CourseError for files that are missing, damaged, or of another model."""
        import transformers

        folder = resolve(spec.source)
        config = read_json(folder, "config.json")
        check_architecture(spec, folder, str(config.get("model_type")))
        model = from_pretrained(getattr(transformers, cls.auto_class), spec, folder)
        return cls(spec, model, cls._parts(folder))

    @classmethod
    def _parts(cls, folder: Path) -> list[Any]:
        """What reads and writes beside the model: its image processor."""
        return [load_part("AutoImageProcessor", folder)]

    def pixels(self, pictures: list[Any]) -> Any:
        """The pictures as the model's `pixel_values`: (pictures, 3, height, width) on its device."""
        with quiet():
            values = self.parts[0](images=pictures, return_tensors="pt")["pixel_values"]
        return values.to(self.model.device, self.model.dtype)

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def weight_bytes(self) -> int:
        return memory_footprint(self.model)

    @property
    def device(self) -> str:
        return str(self.model.device.type)

    def save(self, folder: Path | str) -> Path:
        """Write the model to a new folder. Loaded from there, it gives the same results."""
        self._check_open()
        return save_parts(folder, [self.model, *self.parts])

    def close(self) -> None:
        self.model = None

    def _is_closed(self) -> bool:
        return self.model is None


def load_part(auto_class: str, folder: Path) -> Any:
    """Load an image processor or a tokenizer with a class of transformers. Raises CourseError."""
    import transformers

    try:
        with quiet():
            return getattr(transformers, auto_class).from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except LOADING_ERRORS as error:
        what = f"{folder.name} has no usable {auto_class.removeprefix('Auto')}: "
        what += " ".join(str(error).split())[:200]
        raise CourseError(what, "save the model's own image processor and tokenizer in the folder") from error


def save_parts(folder: Path | str, parts: list[Any]) -> Path:
    """Write objects with `save_pretrained` to a new folder. Raises CourseError if it cannot be written."""
    target = Path(folder).expanduser()
    try:
        with atomic_folder(target) as partial, quiet():
            for part in parts:
                part.save_pretrained(partial)
    except OSError as error:
        fix = "choose a writable folder on a disk with enough space"
        raise CourseError(f"{target} cannot be written: {error}", fix) from error
    return target


def check_architecture(spec: ModelSpec, folder: Path, found: str) -> None:
    """Raise CourseError if the specification names another architecture than the files have.

    found: what the files name, such as the model_type of config.json.
    """
    actual = ARCHITECTURE_OF.get(found, found)
    if spec.architecture not in (None, actual):
        what = f"architecture: {spec.architecture!r}, but {folder.name} has {actual!r}"
        raise CourseError(what, "leave architecture out")
