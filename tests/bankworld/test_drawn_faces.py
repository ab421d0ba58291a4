"""Drawn faces: identities that stay, views that change, and the sheets in datasets/haneul/faces."""

import json
import random
from io import BytesIO

import numpy as np
import pytest
from bankworld.pictures.face_sheets import IDENTITIES, SPLITS, VIEWS, build_faces
from bankworld.pictures.faces import LIGHTS, PIXELS, draw_face, draw_identity, draw_view, face
from PIL import Image

from course_lib import data
from course_lib.errors import CourseError


def pixels(picture):
    return np.asarray(picture, float)


def test_a_face_is_a_function_of_its_split_identity_and_number():
    one, view = face("train", 3, 5)
    again, same_view = face("train", 3, 5)
    assert one.size == (PIXELS, PIXELS) and view == same_view and (pixels(one) == pixels(again)).all()
    for other in (face("test", 3, 5), face("train", 4, 5), face("train", 3, 6)):
        assert (pixels(one) != pixels(other[0])).any()


def test_no_identity_is_in_two_splits():
    drawn = [
        draw_identity(split, number) for split in ("train", "validation", "test") for number in range(200)
    ]
    assert len(set(drawn)) == len(drawn)
    with pytest.raises(ValueError, match="'tset' is none of"):
        draw_identity("tset", 0)


def test_views_have_glasses_and_light_as_asked():
    views = [draw_view(random.Random(seed)) for seed in range(600)]
    assert 0.28 < np.mean([v.glasses for v in views]) < 0.39
    assert all(v.glasses for v in views if v.dark_lenses) and any(v.dark_lenses for v in views)
    assert {v.light for v in views} == set(LIGHTS)
    view = draw_view(random.Random(1), glasses=True, light="dim")
    assert view.glasses and view.light == "dim"
    assert not draw_view(random.Random(1), glasses=False).dark_lenses


def test_glasses_change_the_eyes_and_nothing_below_them():
    identity = draw_identity("train", 0)
    bare, worn = (draw_view(random.Random(4), glasses=glasses) for glasses in (False, True))
    change = np.abs(pixels(draw_face(identity, bare, 7)) - pixels(draw_face(identity, worn, 7))).sum(2)
    assert change[20:42].max() > 50 and change[50:].max() == 0


def test_light_darkens_the_side_that_it_says():
    identity = draw_identity("train", 1)
    left, right, dim, even = (
        pixels(draw_face(identity, draw_view(random.Random(2), light=light), 7)).mean((0, 2))
        for light in ("left", "right", "dim", "even")
    )
    assert left[:20].mean() > right[:20].mean() and left[-20:].mean() < right[-20:].mean()
    assert dim.mean() < 0.75 * even.mean()


def test_the_sheets_are_these_drawings():
    """Other versions of Pillow may write other bytes, but not another picture."""
    built = build_faces()
    assert (data.FACES / "faces.jsonl").read_bytes() == built["faces.jsonl"]
    for split in SPLITS:
        there, here = Image.open(data.FACES / f"{split}.jpg"), Image.open(BytesIO(built[f"{split}.jpg"]))
        assert there.size == here.size == (VIEWS * PIXELS, IDENTITIES * PIXELS)
        assert np.abs(pixels(there) - pixels(here)).mean() < 2


def test_loaded_faces_are_cut_from_the_sheets_and_know_what_they_show():
    faces = data.load_faces()
    assert len(faces) == len(SPLITS) * IDENTITIES * VIEWS
    assert {f.split for f in faces} == set(SPLITS) and faces[7].person == 1
    assert data.load_faces("test") and all(f.split == "test" for f in data.load_faces("test"))
    drawn, view = face("validation", 1, 1)
    assert (faces[7].glasses, faces[7].dark_lenses, faces[7].light) == (
        view.glasses,
        view.dark_lenses,
        view.light,
    )
    assert np.abs(pixels(faces[7].picture) - pixels(drawn)).mean() < 12  # what JPEG takes away


def test_an_unknown_split_and_an_altered_sheet_are_refused(tmp_path):
    with pytest.raises(ValueError, match="split='train'"):
        data.load_faces("train")
    for path in data.FACES.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    rows[0]["glasses"] = not rows[0]["glasses"]
    (tmp_path / "faces.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CourseError, match=r"faces\.jsonl is not the published file"):
        data.load_faces(folder=tmp_path)
