"""Drawn pictures: reproducible, with captions that state their facts, and splits that share none."""

import numpy as np
import pytest
from bankworld.pictures import KINDS, SPLITS, draw_picture, kept_back
from bankworld.pictures.haneul import build_pictures
from PIL import Image

from course_lib import data
from course_lib.measure.pictures import facts_right


def pixels(image):
    return np.asarray(image.convert("RGB"), np.float64)


def test_the_committed_pictures_are_drawn_again_from_their_seeds(tmp_path):
    drawn, committed = build_pictures(), data.HANEUL / "pictures"
    assert drawn.keys() | {"manifest.json"} == {path.name for path in committed.iterdir()}
    assert drawn["pictures.jsonl"] == (committed / "pictures.jsonl").read_bytes()
    for name in drawn.keys() - {"pictures.jsonl"}:
        (tmp_path / name).write_bytes(drawn[name])
        with Image.open(tmp_path / name) as new, Image.open(committed / name) as old:
            assert np.abs(pixels(new) - pixels(old)).mean() < 0.5, name  # another FreeType rounds otherwise


def test_the_committed_pictures_load_by_kind_with_their_captions():
    assert set(data.PICTURES) == set(KINDS)
    by_kind = {kind: data.load_pictures(kind) for kind in data.PICTURES}
    assert {len(pictures) for pictures in by_kind.values()} == {30}
    assert [p for pictures in by_kind.values() for p in pictures] == data.load_pictures()
    picture = by_kind["ticket"][0]
    assert picture.caption == "A ticket: number {number}, counter {counter}.".format(**picture.facts)
    with pytest.raises(ValueError, match="photo"):
        data.load_pictures("photo")


def test_every_fact_of_a_caption_can_be_read_back():
    for index in range(80):
        picture = draw_picture("validation", index, 16)
        stated = facts_right(picture.caption, KINDS[picture.kind].CAPTION, picture.facts)
        assert stated and all(stated.values()), picture.caption


def test_combinations_that_are_kept_back_are_drawn_in_their_split_alone():
    shares = {split: [] for split in SPLITS}
    for split in SPLITS:
        for index in range(100):
            picture = draw_picture(split, index, 16)
            shares[split].append(kept_back(picture.kind, picture.facts))
    assert {split: set(share) for split, share in shares.items()} == {
        "train": {False},
        "validation": {False},
        "test": {False},
        "combinations": {True},
    }
    with pytest.raises(ValueError, match="exam"):
        draw_picture("exam", 0)


def test_the_splits_have_other_pictures_and_one_seed_has_one_picture():
    drawn = {split: [draw_picture(split, i, 48).image.tobytes() for i in range(40)] for split in SPLITS}
    assert len(set().union(*drawn.values())) == 40 * len(SPLITS)
    assert drawn["train"][7] == draw_picture("train", 7, 48).image.tobytes()


def test_a_picture_is_the_same_at_any_size():
    for index in range(8):
        small, large = (draw_picture("test", index, size).image for size in (96, 384))
        coarse = [pixels(image.resize((24, 24), Image.Resampling.BOX)) for image in (small, large)]
        assert np.abs(coarse[0] - coarse[1]).mean() < 15  # pictures of different facts are over 50 apart
