"""PSNR and SSIM against scikit-image's, BLEU against sacrebleu's; facts of a caption."""

import math

import numpy as np
import pytest
from PIL import Image
from sacrebleu import corpus_bleu
from skimage import metrics

from course_lib.data import load_pictures
from course_lib.measure.pictures import bleu, facts_right, psnr, ssim

RNG = np.random.default_rng(0)
CARD = "A card in {colour}: {product}, number {number}."
FACTS = {"colour": "blue", "product": "Haneul Blue Plus Current Account", "number": "0417"}


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("noise", [2, 40])
def test_psnr_and_ssim_are_those_of_scikit_image(mode, noise):
    smooth = Image.fromarray(RNG.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize((47, 31))
    noisy = np.clip(np.asarray(smooth) + RNG.normal(0, noise, (31, 47, 3)), 0, 255).astype(np.uint8)
    a, b = Image.fromarray(noisy).convert(mode), smooth.convert(mode)
    of_skimage = metrics.structural_similarity(
        np.asarray(a),
        np.asarray(b),
        data_range=255,
        gaussian_weights=True,
        use_sample_covariance=False,
        channel_axis=2 if mode == "RGB" else None,
    )
    assert ssim(a, b) == pytest.approx(of_skimage, abs=1e-12)
    assert psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(np.asarray(b), np.asarray(a)))


def test_equal_pictures_and_pictures_that_cannot_be_compared():
    picture = Image.new("RGB", (20, 20), "red")
    assert psnr(picture, picture) == math.inf and ssim(picture, picture) == 1
    for other in (Image.new("RGB", (20, 21)), Image.new("L", (20, 20))):
        for measure in (psnr, ssim):
            with pytest.raises(ValueError, match="20 x 20 RGB and 20 x 2"):
                measure(picture, other)
    with pytest.raises(ValueError, match="10 x 30; SSIM needs at least 11 x 11"):
        ssim(*[Image.new("RGB", (10, 30))] * 2)


@pytest.mark.parametrize(
    "caption, wrong",
    [
        (CARD.format(**FACTS), set()),
        (CARD.format(**FACTS | {"number": "417"}), {"number"}),
        (
            CARD.format(**FACTS | {"product": "Haneul Blue Current Account", "colour": "red"}),
            {"product", "colour"},
        ),
        ("A blue card: Haneul Blue Plus Current Account, number 0417.", set(FACTS)),
        (CARD.format(**FACTS) + " Yes.", {"number"}),
        ("", set(FACTS)),
    ],
)
def test_a_fact_is_right_only_at_its_place(caption, wrong):
    assert {fact for fact, right in facts_right(caption, CARD, FACTS).items() if not right} == wrong


TRUTHS = [picture.caption for picture in load_pictures()]


@pytest.mark.parametrize(
    "captions",
    [
        TRUTHS,
        TRUTHS[1:] + TRUTHS[:1],  # of another picture
        [" ".join(truth.split()[:4]) for truth in TRUTHS],  # shorter
        [
            truth.replace("number ", "number number number ") for truth in TRUTHS
        ],  # a word more often than there
    ],
)
def test_bleu_is_that_of_sacrebleu(captions):
    assert bleu(captions, TRUTHS) == pytest.approx(corpus_bleu(captions, [TRUTHS]).score, abs=1e-9)


def test_bleu_is_0_without_a_run_of_four_words_in_common_and_needs_pairs():
    for captions in (["A card in blue", "no"], ["", ""]):
        unsmoothed = corpus_bleu(captions, [["A card in red", "No."]], smooth_method="none").score
        assert bleu(captions, ["A card in red", "No."]) == unsmoothed == 0
    for captions in ([], ["a"]):
        with pytest.raises(ValueError, match="BLEU needs pairs"):
            bleu(captions, ["a", "b"])
