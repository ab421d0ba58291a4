"""InsightFace's models (buffalo_l and others) with onnxruntime: find a face, align it upright, and embed it.

The steps are those of the package insightface: SCRFD finds faces (Guo et al. 2021, arXiv:2105.04714). A
similarity transform moves five points of the face (eyes, nose, corners of the mouth) to fixed positions.
ArcFace embeds the result (Deng et al. 2019, arXiv:1801.07698).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from course_lib.errors import CourseError
from course_lib.models.drivers.pretrained import library_errors, select_device
from course_lib.models.files.pictures import resolve_pictures
from course_lib.models.schema.spec import ModelSpec
from course_lib.vision.engine import PictureModel, write_folder
from course_lib.vision.packaged import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 112  # side of an aligned face in pixels
# The positions of its left eye, right eye, nose and corners of the mouth, as in the training of such models.
POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
STRIDES = (8, 16, 32)  # the detector looks for faces on three grids with these distances in pixels
CONFIDENCE, OVERLAP = 0.5, 0.4  # the lowest score of a face; two boxes that overlap more count as one face
DETECTOR_SIDE = 640  # side in pixels of the detector's input
CUDA = "CUDAExecutionProvider"  # what onnxruntime calls its code for NVIDIA GPUs


class InsightFace(PictureModel):
    """A model that turns aligned faces into vectors, with a detector of faces if the files contain one."""

    task, driver = "face-embedding", "onnxruntime"
    capabilities = frozenset({"embed_faces"})
    shown = ("weight_bytes", "device", "detects")  # attributes in the model's repr

    def __init__(self, spec: ModelSpec, files: list[Path], sessions: list[Any]) -> None:
        super().__init__(spec)
        self.files = files
        self.detector = _only(spec, sessions, _is_detector, "detector", needed=False)
        self.embedder = _only(spec, sessions, _is_embedder, "embedder of faces", needed=True)

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the models. Raises CourseError for files that are missing, damaged, or of another kind."""
        onnxruntime, path = library(spec, "onnxruntime"), resolve_pictures(spec.source)
        files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
        providers = ["CPUExecutionProvider"]
        if select_device(spec) == "cuda" and CUDA in onnxruntime.get_available_providers():
            providers.insert(0, CUDA)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        sessions = []
        for file in files:
            with library_errors(f"{file.name} is no ONNX model, or a damaged one", "get the file again"):
                sessions.append(onnxruntime.InferenceSession(str(file), options, providers=providers))
        if spec.device not in ("auto", "cpu") and not all(_runs_on(spec.device, one) for one in sessions):
            what = (
                f"device={spec.device!r}: onnxruntime {onnxruntime.__version__} runs {spec.name} on the CPU"
            )
            raise CourseError(what, 'load(..., device="cpu")')
        return cls(spec, [*files, *external_data(files)], sessions)

    @property
    def detects(self) -> bool:
        """Whether the model finds faces; otherwise each picture must already be an aligned face."""
        return self.detector is not None

    @property
    def weight_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def device(self) -> str:
        self._check_open()
        return "cuda" if _runs_on("cuda", self.embedder) else "cpu"

    def save(self, folder: Path | str) -> Path:
        """Copy the files to a new folder."""
        self._check_open()
        return write_folder(folder, lambda partial: [shutil.copy(file, partial) for file in self.files])

    def close(self) -> None:
        self.detector = self.embedder = None

    def _is_closed(self) -> bool:
        return self.embedder is None

    def faces(self, picture: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the faces that the detector finds in an RGB picture, the most certain first.

        The results are boxes (faces, 4: left, top, right, bottom) and points (faces, 5, 2), in pixels.
        """
        ratio = DETECTOR_SIDE / max(picture.size)
        small = picture.resize([max(1, round(side * ratio)) for side in picture.size])
        square = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.float32)
        square[: small.height, : small.width] = np.asarray(small)
        outputs = _run(self.detector, (square - 127.5) / 128)  # scaled as in the training
        boxes, points, scores = decode(outputs)
        kept = without_overlaps(boxes, scores)
        return boxes[kept] / ratio, points[kept] / ratio

    def _embed_faces(self, pictures: list[Any], first: int) -> Any:
        faces = [self._upright(picture, i) for i, picture in enumerate(pictures, first)]
        values = [(np.asarray(face, np.float32) - 127.5) / 127.5 for face in faces]
        return np.concatenate([_run(self.embedder, value)[0].reshape(1, -1) for value in values])

    def _upright(self, picture: Any, place: int) -> Any:
        """Return the only face of a picture, aligned, 112 x 112.

        place: the picture's position in the call, for the error. Raises CourseError for a picture with no or
        several faces.
        """
        if self.detector is None:
            return picture.resize((SIDE, SIDE))
        boxes, points = self.faces(picture)
        if len(boxes) != 1:
            found = ", ".join("-".join(f"{value:.0f}" for value in box) for box in boxes[:4])
            what = f"{self.name} finds {len(boxes) or 'no'} face{'s' * (len(boxes) != 1)} "
            what += f"in images[{place}], of {picture.width} x {picture.height} pixels"
            what += f" at {found}" * bool(found)
            raise CourseError(what, "give a picture with one face, or cut one out with picture.crop(box)")
        return upright(picture, points[0])


def external_data(files: list[Path]) -> list[Path]:
    """Return the files beside ONNX models that the models name, because they contain weights."""
    beside = {p for file in files for p in file.parent.iterdir() if p.is_file() and p.suffix != ".onnx"}
    contents = [file.read_bytes() for file in files] if beside else []
    return sorted(p for p in beside if any(p.name.encode() in content for content in contents))


def decode(outputs: list[NDArray[np.float32]]) -> tuple[Any, Any, Any]:
    """Return boxes (faces, 4), points (faces, 5, 2) and scores from SCRFD's outputs, in pixels of its input.

    outputs: for each stride the scores, then for each stride the distances to the four sides of the box, then
    for each stride those to the five points, in units of the stride. Each grid position has two candidates.
    """
    boxes, points, scores = [], [], []
    for i, stride in enumerate(STRIDES):
        score, sides, marks = (outputs[i + 3 * kind].reshape(-1, n) for kind, n in enumerate((1, 4, 10)))
        cells = DETECTOR_SIDE // stride
        ys, xs = np.divmod(np.repeat(np.arange(cells * cells), len(score) // cells**2), cells)
        centres = np.stack([xs, ys], 1) * float(stride)
        sure = score[:, 0] >= CONFIDENCE
        centre, side = centres[sure], sides[sure] * stride
        boxes.append(np.concatenate([centre - side[:, :2], centre + side[:, 2:]], 1))
        points.append(centre[:, None] + marks[sure].reshape(-1, 5, 2) * stride)
        scores.append(score[sure, 0])
    return np.concatenate(boxes), np.concatenate(points), np.concatenate(scores)


def without_overlaps(boxes: Any, scores: Any) -> list[int]:
    """Return the indices of the boxes to keep, the most certain first.

    Of two boxes that overlap, the more certain one is kept (non-maximum suppression).
    """
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i in np.argsort(-scores):
        low, high = np.maximum(boxes[kept, :2], boxes[i, :2]), np.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        if not (shared / np.maximum(areas[kept] + areas[i] - shared, 1e-9) > OVERLAP).any():
            kept.append(int(i))
    return kept


def upright(picture: Any, points: Any) -> Any:
    """Return the aligned face: rotated, moved and scaled so that its points (5, 2) lie at POINTS."""
    from PIL import Image

    # Pillow's coordinates refer to the corner of a pixel, the points to its centre.
    (a, b), (x, y) = similarity(np.array(POINTS) + 0.5, np.asarray(points, float) + 0.5)
    matrix = (a, -b, x, b, a, y)  # maps a position in the result to one in the picture
    return picture.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def similarity(before: Any, after: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the rotation, scale and shift that bring points (n, 2) closest to others, by least squares.

    They are (a, b), (x, y): a point (u, v) moves to (a u - b v + x, b u + a v + y) (Umeyama 1991).
    """
    z, w = before @ (1, 1j), after @ (1, 1j)  # as complex numbers, rotation and scale are one factor
    factor = np.vdot(z - z.mean(), w - w.mean()) / np.vdot(z - z.mean(), z - z.mean()).real
    shift = w.mean() - factor * z.mean()
    return (factor.real, factor.imag), (shift.real, shift.imag)


def _run(session: Any, values: Any) -> list[Any]:
    """Return the outputs of an ONNX model for one picture (height, width, 3)."""
    batch = np.ascontiguousarray(values.transpose(2, 0, 1)[None].astype(np.float32))
    outputs: list[Any] = session.run(None, {session.get_inputs()[0].name: batch})
    return outputs


def _runs_on(device: str, session: Any) -> bool:
    return device == "cuda" and CUDA in session.get_providers()


def _is_detector(session: Any) -> bool:
    return len(session.get_outputs()) == 3 * len(STRIDES)


def _is_embedder(session: Any) -> bool:
    return len(session.get_outputs()) == 1 and list(session.get_inputs()[0].shape[2:]) == [SIDE, SIDE]


def _only(spec: ModelSpec, sessions: list[Any], fits: Any, kind: str, *, needed: bool) -> Any:
    """Return the only model of a kind, or None.

    Raises CourseError if there are several, or if there is none but one is needed.
    """
    found = [session for session in sessions if fits(session)]
    if len(found) > 1 or (needed and not found):
        what = f"{spec.name} has {len(found)} ONNX models of the kind {kind}; one is used"
        raise CourseError(what, "name a folder with InsightFace's files, such as those of buffalo_l")
    return found[0] if found else None
