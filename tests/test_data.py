"""Loading: what a damaged file says, and that an unknown split is refused."""

import json
import shutil

import pytest

from course_lib import data
from course_lib.errors import CourseError


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(data.HANEUL, tmp_path / "haneul", ignore=shutil.ignore_patterns("source"))
    return tmp_path / "haneul"


def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(
            content[: len(content) // 2] if how == "truncated" else content.replace(b"KRW", b"USD", 1)
        )


@pytest.mark.parametrize("how", ["missing", "truncated", "altered"])
def test_a_damaged_file_is_named_with_its_cure(copy, how):
    damage(copy / "passages.jsonl", how)
    with pytest.raises(CourseError, match=r"passages\.jsonl.*\n.*git checkout"):
        data.load_passages(copy)


def test_a_damaged_manifest_is_named(copy):
    (copy / "manifest.json").write_text("{")
    with pytest.raises(CourseError, match="manifest"):
        data.load_passages(copy)


def test_an_unknown_split_or_kind_is_refused():
    with pytest.raises(ValueError, match="dev"):
        data.load_questions("dev")
    with pytest.raises(ValueError, match="easy"):
        data.load_questions(kind="easy")


def test_splits_add_up():
    assert sum(len(data.load_questions(s)) for s in data.SPLITS) == len(data.load_questions())
    assert sum(len(data.load_messages(s)) for s in data.SPLITS) == len(data.load_messages())


@pytest.mark.parametrize("folder", [data.HANEUL, data.HANEUL / "pictures", data.FACES], ids=lambda f: f.name)
def test_the_manifest_names_every_generated_file(folder):
    """Pictures and faces have manifests of their own."""
    named = set(json.loads((folder / "manifest.json").read_text())["sha256"])
    found = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    generated = {p.as_posix() for p in found if p.parts[0] not in ("source", "pictures", "faces")}
    assert named == generated - {"manifest.json"}
