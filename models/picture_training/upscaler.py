"""Train haneul-upscaler: a small Swin2SR, a transformer, that doubles the width and height of a picture.

`python -m picture_training.upscaler --resume` trains it, or continues an interrupted training, and writes
models/haneul-upscaler. The package bankworld (in datasets/) draws the pictures.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bankworld.pictures import draw_picture
from PIL import Image
from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution
from transformers.models.swin2sr.image_processing_pil_swin2sr import Swin2SRImageProcessorPil

from course_lib import data
from course_lib.atomic import atomic_folder
from course_lib.measure import bootstrap_interval
from course_lib.measure.pictures import psnr, ssim
from course_lib.models import load
from picture_training.publish import publish, read_options
from picture_training.run import Run, optimisers
from picture_training.tensors import from_zero

NAME = "haneul-upscaler"
FOLDER = data.MODELS / NAME
WIDTH, CROP = 48, 32  # channels; side in pixels of the small squares that are enlarged in training
BATCH, STEPS = 16, 1800  # pictures in a step


def new_model() -> Swin2SRForImageSuperResolution:
    """Return an untrained model, whose output is at first that of bicubic interpolation."""
    torch.manual_seed(0)
    config = Swin2SRConfig(
        image_size=CROP,
        patch_size=1,
        embed_dim=WIDTH,
        depths=[2, 2],
        num_heads=[3, 3],
        window_size=8,
        mlp_ratio=2.0,
        upscale=2,
        img_range=1.0,
        upsampler="pixelshuffledirect",
        drop_path_rate=0.0,
    )
    model = Swin2SRForImageSuperResolution(config)
    begin_with_bicubic(model)
    return model


@torch.no_grad()
def begin_with_bicubic(model: Swin2SRForImageSuperResolution) -> None:
    """Set the first and the last convolution to bicubic interpolation; the layers between add 0 at first.

    A convolution makes each pixel a weighted sum of its neighbours. Bicubic interpolation makes a pixel from
    4 x 4 pixels (Keys 1981, a = -0.5, as in Pillow). Its four weights in a direction are split into two
    convolutions, of 3 and of 2 weights, by factoring them as a polynomial.
    """
    first, last = model.swin2sr.first_convolution, model.upsample.conv
    for tensor in (last.weight, last.bias, first.bias, *model.swin2sr.conv_after_body.parameters()):
        tensor.zero_()
    weights = [-0.0234375, 0.2265625, 0.8671875, -0.0703125]  # of the pixels 1.75, 0.75, 0.25 and 1.25 away
    root = next(z.real for z in np.roots(weights[::-1]) if abs(z.imag) < 1e-9)
    linear = [root / (root - 1), 1 / (1 - root), 0.0]  # of sum 1
    square = np.polynomial.polynomial.polydiv(weights, linear[:2])[0].tolist()
    rows = [torch.tensor([square, linear]), torch.tensor([square[::-1], linear[::-1]])]
    for i, (colour, down, right) in enumerate(np.ndindex(3, 2, 2)):
        first.weight[i].zero_()
        first.weight[i, colour] = torch.outer(rows[down][0], rows[right][0])
        last.weight[i, i] = torch.outer(rows[down][1], rows[right][1])


def make_small(image: Image.Image) -> Image.Image:
    """Return the picture at half its width and height, as in training."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def pairs_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return small squares of a step's pictures, and the large originals.

    The pictures are new, and of several sizes.
    """
    rng = random.Random(f"{NAME}/{step}")
    small, large = [], []
    for i in range(BATCH):
        picture = draw_picture("train", step * BATCH + i, 2 * rng.randint(48, 96)).image
        half = make_small(picture)
        x, y = rng.randint(0, half.width - CROP), rng.randint(0, half.height - CROP)
        small.append(half.crop((x, y, x + CROP, y + CROP)))
        large.append(picture.crop((2 * x, 2 * y, 2 * (x + CROP), 2 * (y + CROP))))
    return from_zero(small), from_zero(large)


def loss_of(model: Swin2SRForImageSuperResolution, step: int) -> torch.Tensor:
    """Return the mean absolute error of the colours, which go from 0 to 1."""
    small, large = pairs_of(step)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        drawn = model(pixel_values=small).reconstruction
    return (drawn.float() - large).abs().mean()


def evaluate(folder: Path, count: int = 200) -> dict[str, list[float]]:
    """Compare bicubic interpolation with the model on test pictures, by likeness to the originals.

    Returns measure (PSNR in dB, SSIM up to 1) -> means of both, of their difference, the ends of its
    interval, and the smallest difference.
    """
    model: Any = load(folder, task="image-upscale")
    large = [draw_picture("test", index, 128).image for index in range(count)]
    small = [make_small(picture) for picture in large]
    by_model = model.upscale(small)
    bicubic = [picture.resize((128, 128), Image.Resampling.BICUBIC) for picture in small]
    rows = {}
    for measure in (psnr, ssim):
        before, after = (
            np.array([measure(*pair) for pair in zip(made, large, strict=True)])
            for made in (bicubic, by_model)
        )
        interval = bootstrap_interval(after - before)
        means = [before.mean(), after.mean(), (after - before).mean(), *interval, (after - before).min()]
        rows[measure.__name__] = [round(float(mean), 4) for mean in means]
    return rows


def write(run: Run, model: Swin2SRForImageSuperResolution) -> None:
    """Write models/haneul-upscaler in float16, with its model card.

    An older version stays until all is written.
    """
    with atomic_folder(FOLDER, replace=True) as partial:
        copy.deepcopy(model).half().save_pretrained(partial)
        Swin2SRImageProcessorPil().save_pretrained(partial)
        rows = evaluate(partial)
        table = "\n".join(
            "| {} | {:.{n}f} | {:.{n}f} | {:+.{n}f} ({:+.{n}f} to {:+.{n}f}) | {:+.{n}f} |".format(
                name.upper(), *row, n=2 if name == "psnr" else 3
            )
            for name, row in rows.items()
        )
        publish(run, partial, rows, table=table, crop=CROP, batch=BATCH, pictures=run.step * BATCH)


def main() -> None:
    """Train with rates 0.005 for matrices, 0.0005 for the rest ("bias_table": of relative places)."""
    options = read_options(__doc__, STEPS)
    model = new_model()
    run = Run(
        NAME,
        model,
        optimisers(model, 5e-3, 5e-4, embeddings="bias_table"),
        options.steps,
        resume=options.resume,
    )
    run.train(lambda step: loss_of(model, step))
    write(run, model)


if __name__ == "__main__":
    main()
