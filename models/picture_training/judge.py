"""The judge of haneul-painter: a classifier that says in a prompt's words what a picture of 32x32 shows.

`python -m picture_training.judge` trains it on drawings of all prompts, those included that the painter never
sees, and writes models/haneul-painter/judge. `course_lib.vision.Judge` runs it.
"""

from __future__ import annotations

import argparse
import itertools
import random

import torch
from bankworld.pictures.things import EVERYTHING, Thing, draw_thing
from transformers import ResNetConfig, ResNetForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from course_lib import data
from course_lib.atomic import atomic_folder
from picture_training.run import Run
from picture_training.tensors import from_minus_one

NAME = "haneul-judge"
FOLDER = data.MODELS / "haneul-painter" / "judge"
PIXELS = 64  # pictures are enlarged to this, for the ResNet's first layers divide it by four
BATCH, STEPS, RATE = 64, 700, 3e-3


def phrases(thing: Thing) -> tuple[str, str, str]:
    """The three parts of a prompt, one from each group of labels: "a blue", "card", "with two stars"."""
    article, colour, kind, rest = thing.prompt.split(" ", 3)
    return f"{article} {colour}", kind, rest


GROUPS = [  # the labels, of which a picture has one from each group
    list(dict.fromkeys(phrases(thing)[group] for thing in EVERYTHING)) for group in range(3)
]


def new_judge() -> ResNetForImageClassification:
    labels = list(itertools.chain(*GROUPS))
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 48, 64],
        depths=[1, 1, 2],
        layer_type="basic",
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    config.groups = [len(group) for group in GROUPS]
    return ResNetForImageClassification(config)


def loss_of(model: ResNetForImageClassification, step: int) -> torch.Tensor:
    """Cross-entropy of the three parts, on drawings with a little noise, as the painter's have it."""
    rng = random.Random(f"judge/{step}")
    things = [rng.choice(EVERYTHING) for _ in range(BATCH)]
    generator = torch.Generator().manual_seed(step)
    pixels = from_minus_one([draw_thing(thing, rng) for thing in things])
    pixels += (
        torch.randn(pixels.shape, generator=generator) * 0.1 * torch.rand(BATCH, 1, 1, 1, generator=generator)
    )
    pixels = torch.nn.functional.interpolate(pixels, size=PIXELS, mode="bilinear")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(pixels).logits.float()
    loss = logits.new_zeros(())
    for group, part in enumerate(logits.split(model.config.groups, dim=1)):
        right = torch.tensor([GROUPS[group].index(phrases(thing)[group]) for thing in things])
        loss = loss + torch.nn.functional.cross_entropy(part, right)
    return loss


def publish(model: ResNetForImageClassification) -> None:
    """Write the judge in 16 bits. Until all of it is there, an older one stays."""
    processor = ViTImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS}, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    with atomic_folder(FOLDER, replace=True) as partial:
        model.eval().half().save_pretrained(partial)
        processor.save_pretrained(partial)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = new_judge()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    run = Run(NAME, model, [optimiser], STEPS, resume=options.resume)
    run.train(lambda step: loss_of(model, step))
    publish(model)


if __name__ == "__main__":
    main()
