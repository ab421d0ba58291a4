"""Train haneul-faces from scratch: a small network (ResNet) that turns a drawn face into a vector.

`python -m picture_training.faces --resume` trains it, or continues an interrupted training, and writes
models/haneul-faces. The loss is ArcFace (Deng et al. 2019, arXiv:1801.07698), by which two pictures of one
face get vectors with a small angle between them. The package bankworld (in datasets/) draws the faces.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from bankworld.pictures.faces import PIXELS, face
from transformers import ResNetConfig, ResNetModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from course_lib import data
from course_lib.atomic import atomic_folder
from picture_training.face_card import evaluate
from picture_training.publish import read_options
from picture_training.run import Run
from picture_training.tensors import from_minus_one

NAME = "haneul-faces"
FOLDER = data.MODELS / NAME
IDENTITIES, BATCH, STEPS, LEARNING_RATE = 1000, 64, 5000, 3e-3  # drawn persons, pictures in a step
SCALE, MARGIN = 24.0, 0.25  # of ArcFace: factor of the cosines; final margin in radians
WIDTH = 128  # dimensions of an embedding


class ArcFace(torch.nn.Module):
    """The embedder and, for training only, a direction in its vector space for each identity."""

    def __init__(self) -> None:
        super().__init__()
        self.embedder = ResNetModel(
            ResNetConfig(
                embedding_size=32, hidden_sizes=[32, 64, WIDTH], depths=[2, 2, 2], layer_type="basic"
            )
        )
        self.directions = torch.nn.Parameter(torch.randn(IDENTITIES, WIDTH) * 0.05)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return embeddings (vectors) of length 1: (pictures, 128)."""
        pooled = self.embedder(pixels).pooler_output.flatten(1).float()
        return torch.nn.functional.normalize(pooled)

    def loss(self, embeddings: torch.Tensor, identities: torch.Tensor, margin: float) -> torch.Tensor:
        """Return the mean of -log(probability of the right identity), by the angles to the directions.

        The angle to the right direction is enlarged by `margin`, which forces the embeddings closer together.
        """
        cosines = embeddings @ torch.nn.functional.normalize(self.directions).T
        right = cosines.gather(1, identities[:, None]).clamp(-0.999, 0.999)
        harder = torch.cos(torch.acos(right) + margin)
        logits = cosines.scatter(1, identities[:, None], harder) * SCALE
        return torch.nn.functional.cross_entropy(logits, identities)


def margin_at(step: int, steps: int) -> float:
    """Return the margin of a step.

    0 in the first third, where it would hinder learning, then up to MARGIN.
    """
    return MARGIN * min(1.0, max(0.0, 3 * step / steps - 1))


def loss_of(model: ArcFace, step: int, steps: int) -> torch.Tensor:
    """Return the loss on a step's pictures, which are all new. steps: of the whole training."""
    rng = random.Random(f"arcface/{step}")
    identities = [rng.randrange(IDENTITIES) for _ in range(BATCH)]
    pictures = [face("train", identity, rng.getrandbits(32))[0] for identity in identities]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = model(from_minus_one(pictures))
    return model.loss(embeddings, torch.tensor(identities), margin_at(step, steps))


def new_run(steps: int, *, resume: bool) -> tuple[Run, ArcFace]:
    """Return a training run and its model."""
    torch.manual_seed(0)
    model = ArcFace()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    return Run(NAME, model, [optimiser], steps, resume=resume), model


def publish(model: ArcFace, log: Path) -> None:
    """Write models/haneul-faces in float16, with its model card.

    An older version stays until all is written.
    """
    size = {"height": PIXELS, "width": PIXELS}
    processor = ViTImageProcessorPil(size=size, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    with atomic_folder(FOLDER, replace=True) as partial:
        model.embedder.eval().half().save_pretrained(partial)
        processor.save_pretrained(partial)
        evaluate(partial, log)


def main() -> None:
    options = read_options(__doc__, STEPS, pausable=True)
    run, model = new_run(options.steps, resume=options.resume)
    run.train(lambda step: loss_of(model, step, run.steps), options.until)
    if run.step == run.steps:
        publish(model, run.log)


if __name__ == "__main__":
    main()
