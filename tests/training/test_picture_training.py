"""The training of the captioner and the upscaler: what it begins with, and that it goes on where it was."""

import functools

import numpy as np
import pytest
import torch
from bankworld.pictures import draw_picture
from picture_training import captioner, run, upscaler
from picture_training.tensors import from_zero

from course_lib.errors import CourseError


def test_the_captioners_tokens_spell_every_caption():
    tokenizer = captioner.new_tokenizer()
    for index in range(60):
        caption = draw_picture("combinations", index, 8).caption
        ids = tokenizer(caption).input_ids
        assert tokenizer.unk_token_id not in ids and len(ids) < captioner.MAX_TOKENS
        assert tokenizer.decode(ids, skip_special_tokens=True) == caption


def test_near_squares_of_the_picture_begin_with_like_positions():
    rows = captioner.sines(8, 32)
    likeness = rows @ rows.T
    assert all(likeness[9].topk(5).indices[i] in (9, 8, 10, 1, 17) for i in range(5))


def test_the_upscaler_begins_as_bicubic_interpolation():
    picture = draw_picture("validation", 3, 128).image
    small = from_zero([upscaler.make_small(picture)])
    with torch.no_grad():
        drawn = upscaler.new_model()(pixel_values=small).reconstruction
    bicubic = torch.nn.functional.interpolate(small, scale_factor=2, mode="bicubic", antialias=True)
    assert (drawn - bicubic)[:, :, 6:-6, 6:-6].abs().max() < 1e-5  # at the border it reads zeros


def test_a_step_enlarges_squares_to_what_was_made_small():
    small, large = upscaler.pairs_of(5)
    assert small.shape == (upscaler.BATCH, 3, 32, 32) and large.shape[2:] == (64, 64)
    means = torch.nn.functional.avg_pool2d(large, 2)[:, :, 4:-4, 4:-4]
    assert (small[:, :, 4:-4, 4:-4] - means).abs().mean() < 0.03
    assert all(torch.equal(a, b) for a, b in zip((small, large), upscaler.pairs_of(5), strict=True))


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(upscaler, "BATCH", 2)
    ended = []
    for name, stops in (("whole", [4]), ("halves", [2, 4])):
        monkeypatch.setattr(run, "RUNS", tmp_path / name)
        for stop in stops:
            model = upscaler.new_model()
            optimisers = run.optimisers(model, 1e-3, 1e-3, "bias_table")
            training = run.Run("upscaler", model, optimisers, 4, resume=stop != stops[0])
            training.train(functools.partial(upscaler.loss_of, model), until=stop)
        ended.append(torch.cat([p.detach().flatten() for p in model.parameters()]).numpy())
        assert training.step == 4 and "loss" in training.log.read_text()
    assert np.array_equal(*ended)


def test_a_checkpoint_behind_the_last_step_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "RUNS", tmp_path)
    model = torch.nn.Linear(1, 1)
    first = run.Run("line", model, run.optimisers(model, 1e-3, 1e-3, "none"), 3, resume=False)
    first.train(lambda step: model(torch.ones(1, 1)).sum())
    with pytest.raises(CourseError, match="at step 3, and the training has 2"):
        run.Run("line", model, run.optimisers(model, 1e-3, 1e-3, "none"), 2, resume=True)
