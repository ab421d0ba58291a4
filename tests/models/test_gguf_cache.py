"""A model folder is converted to GGUF once; whatever happens to the cache, the file is right."""

import json
import os
import shutil
import time

import pytest

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.gguf import cache, cached_export, export, writer

MODEL = MODELS / "haneul-300k"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of an empty cache."""
    monkeypatch.setenv("COURSE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


@pytest.fixture
def written(monkeypatch):
    """The types of the files that are written, in order."""
    types, write = [], writer.write
    monkeypatch.setattr(writer, "write", lambda *a: (types.append(a[2]), write(*a)))
    return types


def age(path, days):
    os.utime(path, times=(time.time() - days * 86400,) * 2)


def test_the_second_load_writes_nothing(folder, written):
    replies = [
        load(MODEL, driver="llamacpp", quantization=q).generate(["Hello"], max_output_length=4)
        for q in ("q8_0", "q8_0", "none", "q8_0")
    ]
    assert written == ["q8_0", "f32"] and replies[0] == replies[1] == replies[3]
    assert len(list(folder.iterdir())) == 2


def test_it_is_the_file_that_export_writes(folder, tmp_path):
    expected = export(MODEL, tmp_path / "m.gguf", "q4_0").read_bytes()
    assert cached_export(MODEL, "q4_0", tmp_path).read_bytes() == expected


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_changed_content_gives_another_file(name, folder, tmp_path, written):
    copy = shutil.copytree(MODEL, tmp_path / MODEL.name)
    first = cached_export(MODEL, "f16", tmp_path)
    assert cached_export(copy, "f16", tmp_path) == first
    raw = (copy / name).read_bytes()
    (copy / name).write_bytes(raw[:-4] + b"\0\0\0\0" if name.startswith("model") else raw + b" ")
    second = cached_export(copy, "f16", tmp_path)
    assert second != first and first.exists() and written == ["f16", "f16"]


def test_a_model_of_another_name_and_code_that_was_changed_give_another_file(folder, tmp_path, monkeypatch):
    first = cached_export(MODEL, "f16", tmp_path)
    assert cached_export(shutil.copytree(MODEL, tmp_path / "mine"), "f16", tmp_path) != first
    monkeypatch.setattr(cache, "_writer_version", lambda: ("another",))
    assert cached_export(MODEL, "f16", tmp_path) != first


def test_a_truncated_file_is_written_anew(folder, tmp_path, written):
    path = cached_export(MODEL, "q8_0", tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert cached_export(MODEL, "q8_0", tmp_path).read_bytes() == whole and len(written) == 2


def test_processes_that_write_at_once_leave_one_file(folder, tmp_path, monkeypatch):
    """Another process, which the lock of this one does not stop, does all of its work in between."""
    paths = []

    def write(*arguments, original=writer.write):
        original(*arguments)
        if not paths:
            paths.append(None)
            assert list(folder.glob("*.gguf")) == []  # nobody sees a file that is not complete
            paths[0] = cache._write(
                MODEL, "q8_0", folder, cache._key(MODEL.name, "q8_0", cache._sources(MODEL))
            )

    monkeypatch.setattr(writer, "write", write)
    paths.append(cached_export(MODEL, "q8_0", tmp_path))
    assert paths[0] == paths[1] and list(folder.iterdir()) == [paths[0]]
    assert paths[0].read_bytes() == export(MODEL, tmp_path / "m.gguf", "q8_0").read_bytes()


def test_a_cache_that_cannot_be_written_is_done_without(folder, tmp_path, written):
    folder.parent.write_text("a file lies where the folder should be")
    assert cached_export(MODEL, "q8_0", tmp_path) == tmp_path / "haneul-300k.gguf"
    engine = load(MODEL, driver="llamacpp", quantization="q8_0")
    assert engine.file.exists() and folder.parent not in engine.file.parents
    engine.close()
    assert not engine.file.exists()


def test_a_full_disk_leaves_nothing_in_the_cache(folder, tmp_path, monkeypatch):
    def full(source, target, kind, write=writer.write):
        if folder in target.parents:
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(source, target, kind)

    monkeypatch.setattr(writer, "write", full)
    assert cached_export(MODEL, "q8_0", tmp_path).parent == tmp_path and list(folder.iterdir()) == []


def test_what_was_not_used_for_longest_goes_first(folder, tmp_path, monkeypatch):
    old, used, third = (cached_export(MODEL, t, tmp_path) for t in ("q8_0", "f16", "bf16"))
    for path, days in ((old, 3), (used, 4), (third, 2)):
        age(path, days)
    assert cached_export(MODEL, "f16", tmp_path) == used  # its use counts, not its age
    left = folder / "partial-of-a-killed-process"
    left.mkdir()
    age(left, 2)
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3 * used.stat().st_size)
    newest = cached_export(MODEL, "q4_0", tmp_path)
    assert set(folder.iterdir()) == {newest, used, third}
    monkeypatch.setattr(cache, "LIMIT_BYTES", 10**5)  # smaller than this model, which is then not cached
    assert cached_export(MODEL, "f32", tmp_path).parent == tmp_path


def test_what_cannot_be_exported_is_told_as_export_tells_it(folder, tmp_path):
    copy = shutil.copytree(MODEL, tmp_path / "m")
    config = json.loads((copy / "config.json").read_text()) | {"hidden_act": "gelu"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CourseError, match="activation 'gelu'"):
        cached_export(copy, "f32", tmp_path)
    with pytest.raises(ValueError, match="weight_type='q3'"):
        cached_export(MODEL, "q3", tmp_path)
    assert list(folder.glob("*")) == []
