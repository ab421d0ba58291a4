"""Train haneul-painter from scratch: a diffusion model that draws pictures of 32 x 32 pixels from prompts.

`python -m picture_training.painter --resume` trains it, or continues an interrupted training, and writes
models/haneul-painter. Such a model learns to remove noise from pictures, and draws from noise alone. A T5
encoder, a transformer, reads the prompt. A U-Net, a network of convolutions, predicts v, a mixture of noise
and picture (Salimans and Ho 2022, arXiv:2202.00512). One prompt in ten is replaced by an empty one: guidance
later enlarges what a prompt changes (Ho and Salimans 2022, arXiv:2207.12598). The package bankworld (in
datasets/) draws the training pictures. The architecture is that of DeepFloyd IF, which diffusers can run.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch
from bankworld.pictures.things import EVERYTHING, SEEN, SIZE, draw_thing
from diffusers import DPMSolverMultistepScheduler, IFPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from course_lib import data
from course_lib.atomic import atomic_folder
from picture_training.painter_card import evaluate
from picture_training.publish import read_options
from picture_training.run import Run
from picture_training.tensors import from_minus_one

NAME = "haneul-painter"
FOLDER = data.MODELS / NAME
BATCH, STEPS, LEARNING_RATE = 32, 2600, 2e-3  # BATCH: pictures in a step
TEXT_WIDTH, MAX_TOKENS = 64, 77  # numbers in a token's vector; tokens to which every prompt is filled up
DROPPED = 0.1  # share of the prompts that are replaced by an empty one
EMA = 0.998  # decay of the moving average of the weights, about the last 500 steps; the average is published
TIMES = 1000  # noise levels, from nearly none to nothing but noise


def new_tokenizer() -> T5Tokenizer:
    """Return a tokenizer with one token for each word of the prompts."""
    words = sorted({word for thing in EVERYTHING for word in thing.prompt.split()})
    special = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    return T5Tokenizer(
        vocab=[*special, *((f"▁{word}", -1.0) for word in words)], extra_ids=0, model_max_length=MAX_TOKENS
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Return the sampler, which removes noise step by step: DPM-Solver++ of second order.

    The noise levels follow a squared cosine.
    """
    return DPMSolverMultistepScheduler(
        num_train_timesteps=TIMES,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


class Painter(torch.nn.Module):
    """The text encoder and the U-Net, which are trained together."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=words,
                d_model=TEXT_WIDTH,
                d_kv=16,
                num_heads=4,
                d_ff=2 * TEXT_WIDTH,
                num_layers=1,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=SIZE,
            out_channels=6,  # DeepFloyd IF also expects a variance; its three channels are not used
            layers_per_block=1,
            block_out_channels=(16, 32, 96),
            down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            in_channels=3,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,  # in fact the number of heads, in spite of its name
            norm_num_groups=8,
            time_embedding_dim=128,
            resnet_time_scale_shift="scale_shift",
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
        )

    def forward(
        self, noisy: torch.Tensor, times: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the predicted v: (pictures, 3, 32, 32)."""
        text = self.text_encoder(ids, attention_mask=mask).last_hidden_state
        return self.unet(noisy, times, text).sample[:, :3]


class Averaged(torch.nn.Module):
    """A painter and the exponential moving average of its weights."""

    def __init__(self, painter: Painter) -> None:
        super().__init__()
        self.painter = painter
        self.average = AveragedModel(painter, multi_avg_fn=get_ema_multi_avg_fn(EMA))
        self.average.requires_grad_(False)


def loss_of(both: Averaged, tokenizer: T5Tokenizer, alphas: torch.Tensor, step: int) -> torch.Tensor:
    """Return the mean squared error of v on a step's pictures, which are all new.

    First updates the moving average with the weights of the step before. alphas: the share of the picture in
    the variance, for each noise level.
    """
    if step:
        both.average.update_parameters(both.painter)
    rng = random.Random(f"painter/{step}")
    things = [rng.choice(SEEN) for _ in range(BATCH)]
    pictures = from_minus_one([draw_thing(thing, rng) for thing in things])
    prompts = ["" if rng.random() < DROPPED else thing.prompt for thing in things]
    text = tokenizer(prompts, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    generator = torch.Generator().manual_seed(step)
    times = ((torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) * TIMES / BATCH).long()
    noise = torch.randn(pictures.shape, generator=generator)
    alpha = alphas[times][:, None, None, None]
    signal, noisiness = alpha.sqrt(), (1 - alpha).sqrt()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v = both.painter(signal * pictures + noisiness * noise, times, text.input_ids, text.attention_mask)
    return torch.nn.functional.mse_loss(v.float(), signal * noise - noisiness * pictures)


def pipeline(painter: Any, tokenizer: T5Tokenizer) -> IFPipeline:
    """Return the pipeline of diffusers that runs and saves the painter."""
    return IFPipeline(
        tokenizer=tokenizer,
        text_encoder=painter.text_encoder,
        unet=painter.unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def publish(painter: Any, tokenizer: T5Tokenizer, log: Path) -> None:
    """Write models/haneul-painter in float16, next to its judge.

    An older version stays until all is written.
    """
    with atomic_folder(FOLDER, replace=True) as partial:
        shutil.copytree(FOLDER / "judge", partial / "judge")
        pipeline(painter.eval(), tokenizer).to(dtype=torch.float16).save_pretrained(partial)
        evaluate(partial, log)


def new_run(steps: int, *, resume: bool) -> tuple[Run, Averaged, T5Tokenizer]:
    """Return a training run, the painter with its average, and the tokenizer."""
    tokenizer = new_tokenizer()
    torch.manual_seed(0)
    both = Averaged(Painter(len(tokenizer)))
    both.painter.unet.set_attn_processor(AttnProcessor())  # faster on a CPU for such small heads
    optimiser = torch.optim.AdamW(
        both.painter.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0
    )
    return Run(NAME, both, [optimiser], steps, resume=resume), both, tokenizer


def main() -> None:
    options = read_options(__doc__, STEPS, pausable=True)
    run, both, tokenizer = new_run(options.steps, resume=options.resume)
    alphas = new_scheduler().alphas_cumprod
    run.train(lambda step: loss_of(both, tokenizer, alphas, step), options.until)
    if run.step == run.steps:
        publish(both.average.module, tokenizer, run.log)


if __name__ == "__main__":
    main()
