"""Training of haneul-painter, its judge and haneul-faces: losses, averages, steps that can be repeated."""

import pytest
import torch
from bankworld.pictures.things import EVERYTHING, Thing
from picture_training import faces, judge, painter


@pytest.fixture(scope="module")
def tokenizer():
    return painter.new_tokenizer()


def test_each_word_is_one_token_and_the_empty_prompt_is_none(tokenizer):
    for thing in EVERYTHING:
        ids = tokenizer(thing.prompt).input_ids
        assert len(ids) == len(thing.prompt.split()) + 1 and tokenizer.unk_token_id not in ids
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]
    assert tokenizer("a teal card").input_ids.count(tokenizer.unk_token_id) == 1


def test_a_step_of_the_painter_depends_on_its_number_alone_and_moves_the_average(monkeypatch, tokenizer):
    monkeypatch.setattr(painter, "BATCH", 4)
    torch.manual_seed(0)
    both, alphas = painter.Averaged(painter.Painter(len(tokenizer))), painter.new_scheduler().alphas_cumprod
    first, again, other = (painter.loss_of(both, tokenizer, alphas, step) for step in (0, 0, 7))
    assert first == again != other and torch.isfinite(first)
    assert both.average.n_averaged == 1  # step 0 has no step before it
    weight, average = both.painter.unet.conv_in.weight, both.average.module.unet.conv_in.weight
    assert torch.equal(weight, average)
    before = average.clone()
    with torch.no_grad():
        weight += 1
    painter.loss_of(both, tokenizer, alphas, 8)
    torch.testing.assert_close(average, before + 1 - painter.EMA)
    assert not average.requires_grad


def test_the_loss_is_that_of_v(monkeypatch, tokenizer):
    """v = a noise - b picture, from which picture = a noisy - b v (Salimans and Ho 2022, appendix D)."""
    monkeypatch.setattr(painter, "BATCH", 4)
    seen = {}

    class Knows(torch.nn.Module):
        def forward(self, noisy, times, ids, mask):
            seen.update(noisy=noisy, times=times, ids=ids)
            return torch.zeros_like(noisy)

    class Both:
        painter = Knows()

    alphas = painter.new_scheduler().alphas_cumprod
    loss = painter.loss_of(Both(), tokenizer, alphas, 0)
    a, b = (
        alphas[seen["times"]].sqrt()[:, None, None, None],
        (1 - alphas[seen["times"]]).sqrt()[:, None, None, None],
    )
    generator = torch.Generator().manual_seed(0)
    torch.rand(4, generator=generator)  # which chose the times
    noise = torch.randn(4, 3, 32, 32, generator=generator)
    picture = (seen["noisy"] - b * noise) / a
    inside = (seen["times"] < 700)[:, None, None, None].expand_as(picture)
    assert picture[inside].abs().max() < 1.001, "what remains without the noise is a picture"
    torch.testing.assert_close(loss, (a * noise - b * picture).square().mean(), rtol=1e-3, atol=1e-4)


def test_one_prompt_in_ten_is_left_out(monkeypatch, tokenizer):
    monkeypatch.setattr(painter, "BATCH", 400)
    lengths = []

    class Counts(torch.nn.Module):
        def forward(self, noisy, times, ids, mask):
            lengths.extend(mask.sum(1).tolist())
            return torch.zeros_like(noisy)

    class Both:
        painter = Counts()

    painter.loss_of(Both(), tokenizer, painter.new_scheduler().alphas_cumprod, 0)
    assert 0.06 < lengths.count(1) / len(lengths) < 0.14


def test_arcface_is_softmax_over_scaled_cosines_with_a_larger_right_angle():
    torch.manual_seed(0)
    model = faces.ArcFace()
    embeddings = torch.nn.functional.normalize(torch.randn(6, faces.WIDTH))
    identities = torch.arange(6)
    cosines = embeddings @ torch.nn.functional.normalize(model.directions).T
    plain = torch.nn.functional.cross_entropy(faces.SCALE * cosines, identities)
    torch.testing.assert_close(model.loss(embeddings, identities, 0.0), plain, rtol=1e-4, atol=1e-4)
    moved = cosines.clone()
    rows = torch.arange(6)
    moved[rows, identities] = torch.cos(torch.acos(cosines[rows, identities]) + 0.3)
    expected = torch.nn.functional.cross_entropy(faces.SCALE * moved, identities)
    torch.testing.assert_close(model.loss(embeddings, identities, 0.3), expected, rtol=1e-4, atol=1e-4)
    assert expected > plain


def test_the_margin_is_0_at_first_and_whole_at_the_end():
    assert faces.margin_at(0, 900) == faces.margin_at(300, 900) == 0
    assert faces.margin_at(450, 900) == pytest.approx(faces.MARGIN / 2)
    assert faces.margin_at(600, 900) == faces.margin_at(900, 900) == faces.MARGIN


def test_the_margin_moves_with_the_steps_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(faces, "BATCH", 2)
    margins = []

    class Margins(faces.ArcFace):
        def loss(self, embeddings, identities, margin):
            margins.append(margin)

    model = Margins()
    for step in (0, 45, 90):
        faces.loss_of(model, step, 90)
    assert margins == [0, pytest.approx(faces.MARGIN / 2), faces.MARGIN]


def test_the_judges_labels_make_every_prompt_once():
    assert [len(group) for group in judge.GROUPS] == [6, 4, 18]
    for thing in EVERYTHING:
        parts = judge.phrases(thing)
        assert " ".join(parts) == thing.prompt
        assert all(part in group for part, group in zip(parts, judge.GROUPS, strict=True))
    assert judge.phrases(Thing("orange", "coin", 1, "star")) == ("an orange", "coin", "with a star")
