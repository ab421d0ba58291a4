"""The course's own picture models reach, on committed pictures, what their cards state of other ones."""

import json

import pytest
from PIL import Image

from course_lib.data import MODELS, load_pictures
from course_lib.measure.pictures import facts_right, psnr
from course_lib.models import load


def evaluation(name):
    return json.loads((MODELS / name / "evaluation.json").read_text("utf-8"))


def test_the_captioner_reads_the_facts_of_unseen_pictures():
    pictures = load_pictures()[::5]
    captions = load("haneul-captioner").caption([picture.path for picture in pictures])
    right = [
        stated
        for picture, caption in zip(pictures, captions, strict=True)
        for stated in facts_right(caption, picture.template, picture.facts).values()
    ]
    assert sum(right) >= 0.95 * len(right)


def test_the_captioners_card_states_what_was_asked_of_it():
    rows = evaluation("haneul-captioner")
    for split in ("test", "combinations"):
        for fact in ("product", "number", "place"):
            share, low, high, count = rows[split][fact]
            assert share >= 0.9 and low <= share <= high and count >= 75, (split, fact)


def test_the_upscaler_gains_on_bicubic_interpolation():
    larger = [Image.open(picture.path).convert("RGB") for picture in load_pictures()[::15]]
    small = [picture.resize((64, 64), Image.Resampling.BICUBIC) for picture in larger]
    model = load("haneul-upscaler")
    gains = [
        psnr(made, picture) - psnr(given.resize((128, 128), Image.Resampling.BICUBIC), picture)
        for made, given, picture in zip(model.upscale(small), small, larger, strict=True)
    ]
    mean, low = evaluation("haneul-upscaler")["psnr"][2:4]
    assert model.scale == 2 and low > 1.5 and min(gains) > 0
    assert sum(gains) / len(gains) == pytest.approx(mean, abs=1)
