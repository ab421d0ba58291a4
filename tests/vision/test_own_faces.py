"""haneul-faces: the committed weights keep what the card says."""

import numpy as np

from course_lib import data, load
from course_lib.measure.verification import all_pairs, far_and_tar, threshold_at


def test_faces_are_told_apart_on_identities_of_the_sheets():
    model, pairs = load("haneul-faces"), {}
    for split in ("validation", "test"):
        faces = data.load_faces(split)
        embeddings = model.embed_faces([face.picture for face in faces])
        assert embeddings.shape == (240, 128) and np.allclose(
            np.linalg.norm(embeddings, axis=1), 1, atol=1e-5
        )
        pairs[split] = all_pairs(embeddings, [face.person for face in faces])
    far, tar = far_and_tar(pairs["test"], threshold_at(pairs["validation"], 0.01))
    assert far.value < 0.03 and tar.value > 0.97
