"""Upscaling on the CPU with the library ncnn: Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from course_lib.errors import CourseError
from course_lib.measure.hardware import computing_threads
from course_lib.models.files.pictures import packaged_folder
from course_lib.models.schema.spec import ModelSpec
from course_lib.vision.packaged import PackagedModel, library, only_file
from course_lib.vision.torch_model import no_numbers
from course_lib.vision.upscaling import check_scale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TILE, OVERLAP = 96, 10  # side of a tile and width of its margins in pixels, as in Real-ESRGAN's program


class NcnnUpscaler(PackagedModel):
    """A model in two files: NAME.param with its layers and NAME.bin with its weights.

    A picture is computed in tiles. The memory is about 1 GiB for the weights and a tile, plus the original
    and the enlarged picture.
    """

    task, driver = "image-upscale", "ncnn"
    capabilities = frozenset({"upscale"})

    def __init__(self, spec: ModelSpec, net: Any, parameters: int, weight_bytes: int) -> None:
        super().__init__(spec, parameters, weight_bytes)
        self.net = net

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the model. Raises CourseError for files that are missing, damaged, or of another model."""
        ncnn, folder = library(spec, "ncnn"), packaged_folder(spec)
        layers, weights = only_file(folder, "*.param"), only_file(folder, "*.bin")
        net = ncnn.Net()
        net.opt.num_threads = computing_threads()
        if net.load_param(str(layers)) or net.load_model(str(weights)):
            what = f"ncnn cannot read {layers.name} with {weights.name}: one is damaged or of another model"
            raise CourseError(what, "download both again")
        model = cls(spec, net, _count(layers.read_text("utf-8")), weights.stat().st_size)
        model.scale = model._measured_scale(folder.name)
        check_scale(spec, model.scale)
        return model

    def close(self) -> None:
        self.net = None

    def _is_closed(self) -> bool:
        return self.net is None

    def _measured_scale(self, name: str) -> int:
        """Return the model's scale factor. Raises CourseError if it does not enlarge pictures."""
        import numpy as np

        if len(self.net.input_names()) == len(self.net.output_names()) == 1:
            enlarged = self._run(np.zeros((3, 8, 8), np.float32))
            if enlarged.ndim == 3 and enlarged.shape[0] == 3 and enlarged.shape[1] % 8 == 0:
                return enlarged.shape[1] // 8
        raise CourseError(
            f"{name} is a model of ncnn, but none that enlarges pictures", "name another folder"
        )

    def _upscale(self, pictures: list[Any], first: int) -> list[Any]:
        return [self._enlarged(picture) for picture in pictures]

    def _enlarged(self, picture: Any) -> Any:
        import numpy as np
        from PIL import Image

        pixels = np.asarray(picture)
        height, width = pixels.shape[:2]
        around = ((OVERLAP, OVERLAP), (OVERLAP, OVERLAP), (0, 0))
        pixels = np.pad(pixels, around, "edge")  # otherwise the network would see black beyond the border
        result = np.empty((height * self.scale, width * self.scale, 3), np.uint8)
        cut = slice(OVERLAP * self.scale, -OVERLAP * self.scale)
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                bottom, right = min(top + TILE, height), min(left + TILE, width)
                tile = pixels[top : bottom + 2 * OVERLAP, left : right + 2 * OVERLAP].transpose(2, 0, 1)
                part = self._run(tile.astype(np.float32) / np.float32(255))[:, cut, cut]
                rows = slice(top * self.scale, bottom * self.scale)
                columns = slice(left * self.scale, right * self.scale)
                result[rows, columns] = (part.clip(0, 1) * 255).round().transpose(1, 2, 0)
        return Image.fromarray(result)

    def _run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output of the network for one tile, (3, height, width)."""
        import ncnn
        import numpy as np

        extractor = self.net.create_extractor()
        extractor.set_light_mode(True)  # frees what later layers do not need
        array = np.ascontiguousarray(values)  # ncnn.Mat does not keep it alive; its clone has its own memory
        extractor.input(self.net.input_names()[0], ncnn.Mat(array).clone())
        failed, output = extractor.extract(self.net.output_names()[0])
        if failed:
            raise CourseError(f"ncnn could not compute {self.name}", "free memory, and try again")
        result = np.array(output)
        if not np.isfinite(result).all():
            raise no_numbers(self.name, "download both files again")
        return result


def _count(layers: str) -> int:
    """Count the weights (field 6) and biases (field 0, where 5 is 1) of the convolutions in a .param file."""
    count = 0
    for line in layers.splitlines():
        if line.startswith("Convolution"):
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            count += int(fields["6"]) + int(fields["0"]) * (fields.get("5") == "1")
    return count
