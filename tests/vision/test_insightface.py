"""InsightFace's files: faces are found, turned upright and embedded; none and two faces are refused."""

import numpy as np
import onnx
import pytest
from PIL import Image
from skimage.transform import SimilarityTransform

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.vision import insightface
from course_lib.vision.insightface import POINTS, similarity, upright, without_overlaps
from tests.vision import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    tiny.buffalo_l(folder := tmp_path_factory.mktemp("faces") / "buffalo_l")
    return load(folder, task="face-embedding", architecture="buffalo_l")


def test_a_face_is_found_where_it_is(model):
    boxes, points = model.faces(tiny.spots((5, 6)))
    assert boxes.tolist() == [[5 * 32 - 32, 6 * 32 - 32, 5 * 32 + 32, 6 * 32 + 32]]
    assert points.shape == (1, 5, 2)
    half, _ = model.faces(tiny.spots((5, 6)).resize((320, 320)))
    assert np.allclose(half * 2, boxes)
    wide, _ = model.faces(tiny.spots((5, 6), size=(640, 320)))
    assert np.allclose(wide, boxes)


def test_none_and_two_faces_are_refused(model):
    with pytest.raises(CourseError, match=r"finds no faces in images\[0\], of 640 x 640"):
        model.embed_faces(tiny.spots())
    with pytest.raises(CourseError, match=r"finds 2 faces .*128-160-192-224") as caught:
        model.embed_faces([tiny.spots((5, 6)), tiny.spots((5, 6), (15, 3))])
    assert "crop(box)" in caught.value.fix
    with pytest.raises(CourseError, match=r"no faces in images\[9\]"):  # of the second batch
        model.embed_faces([*[tiny.spots((5, 6))] * 9, tiny.spots()])


def test_weights_beside_an_onnx_file_are_saved_with_it(tmp_path):
    tiny.buffalo_l(tmp_path / "whole")
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "notes.txt").write_text("not part of the model")
    embedder = onnx.load(tmp_path / "whole" / "w600k_r50.onnx")
    path = tmp_path / "split" / "e.onnx"
    onnx.save(embedder, path, save_as_external_data=True, location="e.data", size_threshold=0)
    model = load(tmp_path / "split", task="face-embedding", architecture="buffalo_l")
    again = load(model.save(tmp_path / "saved"), task="face-embedding", architecture="buffalo_l")
    face = tiny.spots((1, 1), size=(112, 112))
    assert np.array_equal(again.embed_faces(face), model.embed_faces(face))
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["e.data", "e.onnx"]
    assert again.weight_bytes > 3_000_000
    with pytest.raises(CourseError, match="cannot be written"):
        model.save(tmp_path / "split" / "notes.txt" / "saved")


def test_vectors_have_length_1_and_do_not_depend_on_the_place(model):
    vectors = model.embed_faces([tiny.spots((5, 6)), tiny.spots((9, 12))])
    assert vectors.shape == (2, 24) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert vectors[0] @ vectors[1] > 0.999
    assert model.embed_faces(tiny.spots((5, 6))).shape == (1, 24)


def test_an_embedder_alone_takes_upright_faces(model, tmp_path):
    alone = load(model.files[1], task="face-embedding")
    assert alone.driver == "onnxruntime" and not alone.detects and model.detects
    assert alone.embed_faces([tiny.spots((5, 6))]).shape == (1, 24)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_on_which_onnxruntime_does_not_run_is_refused(device, model, monkeypatch):
    monkeypatch.setattr(insightface, "select_device", lambda spec: device)
    with pytest.raises(CourseError, match=rf"device='{device}': onnxruntime .* on the CPU\n.*device=\"cpu\""):
        load(model.files[1], task="face-embedding", device=device)


def test_the_similarity_transform_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    (a, b), (x, y) = similarity(before, after)
    oracle = SimilarityTransform.from_estimate(before, after).params
    assert np.allclose([[a, -b, x], [b, a, y]], oracle[:2])


def test_a_turned_face_becomes_upright():
    small = np.random.default_rng(0).integers(0, 255, (10, 10, 3), dtype=np.uint8)
    face = Image.fromarray(small).resize((112, 112))
    turned, centre = face.rotate(30, Image.Resampling.BICUBIC, fillcolor="white"), 55.5
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = (np.array(POINTS) - centre) @ turn.T + centre
    middle = (slice(30, 82), slice(30, 82))

    def difference(picture):
        return np.abs(np.asarray(picture, float)[middle] - np.asarray(face, float)[middle]).mean()

    assert difference(upright(turned, points)) < 1.5  # half a pixel beside it would be 3
    assert difference(turned) > 50


def test_of_boxes_that_overlap_the_surest_is_kept():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]], float)
    assert without_overlaps(boxes, np.array([0.6, 0.9, 0.7])) == [1, 2]
