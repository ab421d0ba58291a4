"""A folder is replaced as a whole or not at all."""

import pytest

from course_lib.atomic import atomic_folder


def test_a_folder_that_cannot_be_replaced_stays(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("older")
    with pytest.raises(FileNotFoundError), atomic_folder(folder, replace=True) as partial:
        partial.rmdir()  # the last step, renaming it, must fail
    assert (folder / "weights").read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    with atomic_folder(folder, replace=True) as partial:
        (partial / "weights").write_text("newer")
    assert (folder / "weights").read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
