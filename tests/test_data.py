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


@pytest.mark.parametrize("folder", sorted(data.HANEUL.rglob("manifest.json")), ids=lambda p: p.parent.name)
def test_the_manifest_names_every_generated_file(folder):
    folder = folder.parent
    named = set(json.loads((folder / "manifest.json").read_text())["sha256"])
    apart = {path.parent for path in folder.glob("*/manifest.json")} | {folder / "source"}
    files = (p for p in folder.rglob("*") if p.is_file() and not apart & set(p.parents))
    assert named == {p.relative_to(folder).as_posix() for p in files} - {"manifest.json"}
