"""Train haneul-captioner, which describes pictures, from scratch.

Its encoder, a small ViT (vision transformer), reads a picture as a square of patches; its decoder, a small
GPT-2, writes the caption. `python -m picture_training.captioner --resume` trains it, or continues an
interrupted training, and writes models/haneul-captioner. The package bankworld (in datasets/) draws the
pictures and their captions.
"""

from __future__ import annotations

import calendar
import copy
from pathlib import Path

import torch
from bankworld.pictures import CAPTIONS, cards, draw_picture, signs
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from course_lib import data
from course_lib.atomic import atomic_folder
from picture_training.captions import evaluate, tables
from picture_training.publish import publish, read_options
from picture_training.run import Run, optimisers
from picture_training.tensors import from_minus_one

NAME = "haneul-captioner"
FOLDER = data.MODELS / NAME
PIXELS, PATCH, WIDTH = 96, 12, 128  # sides of an input picture and of a patch; hidden size
SIZES = (96, 128, 128, 160)  # sides in pixels of the drawn pictures, before they are resized to PIXELS
BATCH, STEPS = 64, 2400  # pictures in a step
# Tokens that fill a short caption, begin and end one, and stand for an unknown word.
PAD, BOS, EOS, UNKNOWN = "<|pad|>", "<|bos|>", "<|end|>", "<|unknown|>"
MAX_TOKENS = 32  # of a caption


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each word, digit and punctuation mark of the captions."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),  # cuts at spaces, which it keeps as "▁"
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
        ]
    )
    tokenizer.decoder = decoders.Metaspace()
    words = [*CAPTIONS.values(), *cards.COLOURS, *cards.products(), *signs.places(), "0123456789"]
    text = " ".join([*words, *calendar.month_name]).replace("{", "").replace("}", "")
    trainer = trainers.WordLevelTrainer(special_tokens=[PAD, BOS, EOS, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator([text, *words], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def sines(side: int, width: int) -> torch.Tensor:
    """Return a vector for each place in a square of patches, (side * side, width), of sines and cosines."""
    rates = 100 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], 1)  # (side, width / 2)
    rows, columns = one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)


def new_model(tokenizer: PreTrainedTokenizerFast, patch: int = PATCH) -> VisionEncoderDecoderModel:
    """Return an untrained model. patch: side of a patch in pixels."""
    torch.manual_seed(0)
    heads = WIDTH // 32
    encoder = ViTConfig(
        image_size=PIXELS,
        patch_size=patch,
        hidden_size=WIDTH,
        num_hidden_layers=5,
        num_attention_heads=heads,
        intermediate_size=4 * WIDTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    decoder = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=MAX_TOKENS,
        n_embd=WIDTH,
        n_layer=2,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = tokenizer.bos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = tokenizer.eos_token_id
    model = VisionEncoderDecoderModel(config)
    model.set_attn_implementation("eager")  # computed step by step: faster on a CPU than fused
    positions = model.encoder.embeddings.position_embeddings
    with torch.no_grad():
        positions[0, 1:].copy_(0.5 * sines(PIXELS // patch, WIDTH))
    return model


def pixels_of(images: list[Image.Image]) -> torch.Tensor:
    """Return RGB pictures as the model reads them: (pictures, 3, PIXELS, PIXELS), from -1 to 1."""
    return from_minus_one([image.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR) for image in images])


def loss_of(model: VisionEncoderDecoderModel, tokenizer: PreTrainedTokenizerFast, step: int) -> torch.Tensor:
    """Return the loss of a step, the mean of -log(probability of a caption's next token).

    The pictures of a step are new and of several sizes.
    """
    pictures = [draw_picture("train", step * BATCH + i, SIZES[i % len(SIZES)]) for i in range(BATCH)]
    ids = tokenizer([p.caption for p in pictures], padding=True, return_tensors="pt").input_ids
    labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(pixel_values=pixels_of([p.image for p in pictures]), labels=labels).loss


def save(model: VisionEncoderDecoderModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in 16 bits (bfloat16), its tokenizer, and the processor, which resizes pictures."""
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": PIXELS, "width": PIXELS}).save_pretrained(folder)


def write(run: Run, model: VisionEncoderDecoderModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write models/haneul-captioner with its model card. An older version stays until all is written."""
    with atomic_folder(FOLDER, replace=True) as partial:
        save(model, tokenizer, partial)
        rows = evaluate(partial)
        publish(
            run,
            partial,
            rows,
            **tables(rows),
            tokens=len(tokenizer),
            grid=PIXELS // PATCH,
            patch=PATCH,
            batch=BATCH,
            pictures=run.step * BATCH,
        )


def main() -> None:
    """Train with rates 0.01 for matrices and 0.002 for the rest; "wte" are the decoder's token embeddings."""
    options = read_options(__doc__, STEPS)
    tokenizer = new_tokenizer()
    model = new_model(tokenizer)
    run = Run(
        NAME, model, optimisers(model, 1e-2, 2e-3, embeddings="wte"), options.steps, resume=options.resume
    )
    run.train(lambda step: loss_of(model, tokenizer, step))
    write(run, model, tokenizer)


if __name__ == "__main__":
    main()
