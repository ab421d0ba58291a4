"""Face embeddings with dlib: find the face, align it by five points, and embed it by a ResNet.

King 2017, https://github.com/davisking/dlib-models. The detector (a linear classifier of the directions of
edges) is part of dlib. It finds frontal faces at least 80 pixels wide or, if the picture has none of these,
at least 40.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError
from course_lib.models.files.pictures import packaged_folder
from course_lib.models.schema.spec import ModelSpec
from course_lib.vision.packaged import PackagedModel, library, only_file

# The lowest score of a detection. In a portrait by NASA, the face scores 0.9 to 1.5, even rotated by 30
# degrees or darkened, and folds of clothing score up to 0.15. A face of 37 pixels scores 0.4.
MIN_SCORE = 0.2
PARAMETERS = 5_614_592  # of the ResNet; dlib's class loads only this network


class DlibFaces(PackagedModel):
    """dlib's face recognition: a vector of 128 numbers for the one face in each picture.

    dlib compares the vectors before they are scaled to length 1, with a threshold of 0.6 for their distance.
    Here they have length 1, so another threshold must be chosen.
    """

    task, driver = "face-embedding", "dlib"
    capabilities = frozenset({"embed_faces"})

    def __init__(self, spec: ModelSpec, network: Any, points: Any, weight_bytes: int) -> None:
        import dlib

        super().__init__(spec, PARAMETERS, weight_bytes)
        self.network, self.points = network, points
        self.detector = dlib.get_frontal_face_detector()

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Load the model. Raises CourseError for files that are missing, damaged, or of another model."""
        dlib, folder = library(spec, "dlib-bin"), packaged_folder(spec)
        network, points = only_file(folder, "*resnet*.dat"), only_file(folder, "*landmarks*.dat")
        return cls(
            spec,
            _read(dlib.face_recognition_model_v1, network),
            _read(dlib.shape_predictor, points),
            network.stat().st_size,
        )

    def close(self) -> None:
        self.network = self.points = self.detector = None

    def _is_closed(self) -> bool:
        return self.network is None

    def _embed_faces(self, pictures: list[Any], first: int) -> Any:
        import numpy as np

        faces = [self._face(np.asarray(picture), i) for i, picture in enumerate(pictures, first)]
        return np.array(self.network.compute_face_descriptor(faces))

    def _face(self, pixels: Any, place: int) -> Any:
        """Return the one face of a picture, aligned, 150 x 150 pixels.

        place: the picture's position in the call, for the error. Raises InputError for no or several faces.
        """
        import dlib

        for twice_as_large in (0, 1):
            found, _, _ = self.detector.run(pixels, twice_as_large, MIN_SCORE)
            if found:
                break
        if len(found) == 1:
            return dlib.get_face_chip(pixels, self.points(pixels, found[0]))
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        what = f"images[{place}], a picture of {size} pixels, has {len(found) or 'no'} face"
        what += "s" * (len(found) > 1) + " that dlib finds, where one is expected"
        raise InputError(what, "crop the picture to one face, seen from the front")


def _read(make: Any, path: Path) -> Any:
    """Read a file with a class of dlib. Raises CourseError if it is damaged, or made for another class."""
    try:
        return make(str(path))
    except (RuntimeError, MemoryError) as error:
        what = f"dlib cannot read {path.name}: {' '.join(str(error).split()):.200}"
        raise CourseError(what, "download it again") from error
