"""`PictureModel`, the base class of loaded picture models: its methods check their input.

A specification (ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from course_lib.atomic import atomic_folder
from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError, as_folder, as_texts
from course_lib.models.drivers.capabilities import PICTURE_FIELDS, TASKS, Capability
from course_lib.models.drivers.engine import Engine
from course_lib.models.drivers.fields import Unsupported, refuse_unsupported
from course_lib.models.drivers.pretrained import library_errors
from course_lib.models.schema.pictures import Params
from course_lib.models.schema.spec import ModelSpec
from course_lib.models.schema.validation import SpecError, validate
from course_lib.vision.pictures import as_picture, as_pictures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

T = TypeVar("T")
COMPUTING_FIX = "use the configuration files that were saved with the weights, or smaller pictures"


class PictureModel(Engine):
    """A loaded model for pictures.

    Its methods take a list and return a list, or take one picture (or prompt) and return one result. A
    picture is a PIL image or the path of a file.
    """

    task: ClassVar[str]
    default_batch_size = 8
    shown = ("parameters", "weight_bytes", "device")  # attributes in the model's repr
    scale = 1  # the factor by which `upscale` enlarges

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, 0)

    def __init_subclass__(cls) -> None:
        """Set which fields of a specification have an effect on the class."""
        if hasattr(cls, "task"):
            cls.supported_fields = PICTURE_FIELDS[cls.task, cls.driver]

    def caption(self, images: Any = None, *, max_tokens: int | None = None) -> Any:
        """The text that the model writes about each picture, as a list; for a single picture one text.

        images: by default the `image` of the specification. max_tokens: by default its
        `generation.max_output_length`, or else as many as fit.
        """
        self._require("caption")
        options = self.spec.generation
        if max_tokens is not None:
            try:
                options = options.replace(max_output_length=max_tokens)
            except SpecError as error:
                what = f"max_tokens is {max_tokens!r}, where a whole number from 1 is expected"
                raise InputError(what, "caption(images, max_tokens=30)") from error
        given = "max_output_length" in options.model_fields_set
        tokens = options.max_output_length if given else None
        return self._each(images, lambda batch, _: self._caption(batch, tokens))

    def upscale(self, images: Any = None) -> Any:
        """Each picture, enlarged by the factor `scale`, as a list; for a single picture one picture.

        images: by default the `image` of the specification.
        """
        self._require("upscale")
        return self._each(images, self._upscale)

    def embed_faces(self, images: Any = None) -> NDArray[np.float32]:
        """A vector of length 1 for the face in each picture: shape (pictures, dimensions).

        images: by default the `image` of the specification. A single picture gives one row. Raises
        CourseError for a picture without a face or with several, if the model looks for faces.
        """
        import numpy as np

        self._require("embed_faces")
        pictures = self._given(images)
        rows: list[Any] = []
        for batch in self._batches(pictures if _many(pictures) else [pictures]):
            rows.extend(self._computed(self._embed_faces, batch, len(rows)))
        vectors = np.array(rows, np.float32) if rows else np.zeros((0, 0), np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or (norms == 0).any():
            raise CourseError(f"{self.name} gives a vector without a direction", "give another picture")
        return vectors / norms

    def draw(self, prompts: Any = None, **changes: Any) -> Any:
        """A picture of each prompt, as a list; for a single prompt one picture.

        prompts: by default the `prompt` of the specification. changes: width, height (pixels),
        num_inference_steps, guidance (how strongly the prompt counts) and seed; by default the `params` of
        the specification. The noise of picture i comes from seed + i, so that it does not depend on the other
        pictures.
        """
        self._require("draw")
        prompts = self.spec.prompt if prompts is None else prompts
        if prompts is None:
            raise InputError("there is no prompt to draw", 'draw(["a blue card"])')
        params = validate(Params, self.spec.params.model_dump() | changes, "draw")
        given = {f"params.{name}": value for name, value in changes.items() if value is not None}
        refuse_unsupported(type(self), given)
        texts = as_texts([prompts] if isinstance(prompts, str) else prompts, "prompts", "draw([{}])")
        drawn: list[Image] = []
        for batch in self._batches(texts):
            seeded = params.model_copy(update={"seed": params.seed + len(drawn)})
            drawn += self._computed(self._draw, batch, seeded)
        return drawn[0] if isinstance(prompts, str) else drawn

    def count_tokens(self, prompt: Any) -> int:
        raise Unsupported(f"{self.name} is a model of pictures", 'load a language model, such as "haneul-4m"')

    # -- for subclasses; first: the position of the first picture in the call, for errors and seeds -------

    if TYPE_CHECKING:

        def _caption(self, pictures: list[Image], max_tokens: int | None) -> list[str]: ...
        def _upscale(self, pictures: list[Image], first: int) -> list[Image]: ...
        def _embed_faces(self, pictures: list[Image], first: int) -> NDArray[np.float32]: ...
        def _draw(self, prompts: list[str], params: Params) -> list[Image]: ...

    def _require(self, capability: Capability) -> None:
        """Raise CourseError if the model is closed, Unsupported if it lacks a capability."""
        self._check_open()
        if capability not in self.capabilities:
            what = f"{self.name} was loaded for {self.spec.task} and cannot {capability}"
            raise Unsupported(what, f'load a model for it: load(..., task="{TASKS[capability][0]}")')

    def _given(self, images: Any) -> Any:
        """Return the pictures of a call, or that of the specification.

        Raises InputError if there are none.
        """
        images = self.spec.image if images is None else images
        if images is None:
            raise InputError("there is no picture to read", 'open_picture("./picture.png")')
        return as_pictures(images) if _many(images) else as_picture(images)

    def _each(self, images: Any, run: Any) -> Any:
        """Return the results of `run` as a list, or the one result for a single picture.

        run: takes a batch of pictures, and the position of its first one in the call.
        """
        pictures = self._given(images)
        many = isinstance(pictures, list)
        results: list[Any] = []
        for batch in self._batches(pictures if many else [pictures]):
            results += self._computed(run, batch, len(results))
        return results if many else results[0]

    def _computed(self, run: Callable[..., T], *arguments: Any) -> T:
        """Return what `run` returns.

        Turns any error of a library, such as too little memory, into CourseError.
        """
        with library_errors(f"{self.name} cannot compute this", COMPUTING_FIX):
            return run(*arguments)

    def _batches(self, items: Sequence[T]) -> Iterator[list[T]]:
        size = self.spec.batch_size or self.default_batch_size
        return (list(items[i : i + size]) for i in range(0, len(items), size))


def write_folder(folder: Path | str, write: Callable[[Path], Any]) -> Path:
    """Make a new folder, filled by `write`. Raises CourseError if it exists or cannot be written."""
    from safetensors import SafetensorError

    target = as_folder(folder)
    try:
        with atomic_folder(target) as partial:
            write(partial)
    except (OSError, SafetensorError) as error:
        fix = "choose a writable folder on a disk with enough space"
        raise CourseError(f"{target} cannot be written: {error}", fix) from error
    return target


def _many(images: Any) -> bool:
    """Whether `images` is a list, rather than one picture, path or array."""
    return (
        isinstance(images, Iterable)
        and not isinstance(images, str | Path | bytes)
        and not hasattr(images, "shape")
    )
