"""Train the judge: a classifier that describes pictures of haneul-painter in the words of its prompts.

`python -m picture_training.judge` trains it on drawings of all prompts, including those that the painter does
not see in training, and writes models/haneul-painter/judge. It is a small ResNet, a network of convolutions.
`course_lib.vision.Judge` uses it. The package bankworld (in datasets/) draws the pictures, of 32 x 32 pixels.
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
PIXELS = 64  # side to which pictures are enlarged, because the ResNet's first layers divide it by four
BATCH, STEPS, LEARNING_RATE = 64, 700, 3e-3  # BATCH: pictures in a step


def phrases(thing: Thing) -> tuple[str, str, str]:
    """Return the three parts of a prompt, which are its labels: "a blue", "card", "with two stars"."""
    article, colour, kind, rest = thing.prompt.split(" ", 3)
    return f"{article} {colour}", kind, rest


GROUPS = [  # the three groups of labels; a picture has one label of each group
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
    """Return the sum of -log(probability of a right label) over the three, a mean over a step's drawings.

    The drawings get noise like that in the painter's pictures.
    """
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
    """Write the judge in float16. An older version stays until all is written."""
    processor = ViTImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS}, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    with atomic_folder(FOLDER, replace=True) as partial:
        model.eval().half().save_pretrained(partial)
        processor.save_pretrained(partial)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = new_judge()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    run = Run(NAME, model, [optimiser], STEPS, resume=options.resume)
    run.train(lambda step: loss_of(model, step))
    publish(model)


if __name__ == "__main__":
    main()
