"""The judge: a classifier that tells from which prompt a picture of haneul-painter was probably drawn.

haneul-painter is the course's small model that draws pictures from prompts of a few fixed words. The judge
was trained separately. If it names the prompt that the painter was given, the picture shows what was asked
for, unless the judge errs; the painter's model card states how often it does.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.models import catalog
from course_lib.models.drivers.arguments import InputError
from course_lib.quiet import quiet
from course_lib.vision.pictures import as_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAINTER = "haneul-painter"  # the judge is in this model's folder
BATCH = 32  # pictures that are computed together


class Judge:
    """The classifier.

    folder: of another judge. groups: the words for each part of a prompt; a picture has one of each group.
    Raises CourseError if a file is missing or altered.
    """

    def __init__(self, folder: Path | None = None) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        folder = folder or catalog.verify_shipped(PAINTER) / "judge"
        with quiet():
            self._processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True)
        self._model: Any = model.float().eval()
        labels = iter(model.config.id2label[i] for i in range(model.config.num_labels))
        self.groups = [list(itertools.islice(labels, count)) for count in model.config.groups]

    def seen(self, pictures: Any) -> list[str]:
        """Return the prompt that describes each picture best; even a random picture gets one."""
        parts = self._run(pictures)[0].split([len(group) for group in self.groups], dim=1)
        best = zip(*(part.argmax(1).tolist() for part in parts), strict=True)
        return [" ".join(group[i] for group, i in zip(self.groups, row, strict=True)) for row in best]

    def features(self, pictures: Any) -> NDArray[Any]:
        """Return the input of the classifier's last layer, (pictures, 64), to compare sets of pictures."""
        return self._run(pictures)[1].numpy()

    def prompts(self) -> list[str]:
        """Return every prompt that haneul-painter knows."""
        return [" ".join(parts) for parts in itertools.product(*self.groups)]

    def _run(self, pictures: Any) -> tuple[Any, Any]:
        """Return the scores of the labels (pictures, labels) and the features (pictures, 64)."""
        import torch

        logits, features = [], []
        images = as_pictures(pictures)
        if not images:
            raise InputError("there is no picture to judge", "give [picture]")
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                pixels = self._processor(images=images[start : start + BATCH], return_tensors="pt")
                pooled = self._model.resnet(pixels["pixel_values"]).pooler_output
                features.append(pooled.flatten(1))
                logits.append(self._model.classifier(pooled))
        return torch.cat(logits), torch.cat(features)
