"""A disk that fills while something is learnt: a clear line, and nothing that was learnt before is lost."""

import os
import resource
import subprocess

import pytest

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.gguf import export, export_adapter
from course_lib.tuning import training as module
from course_lib.tuning.optimiser import MixedPrecisionAdamW, checkpoint_metadata
from course_lib.tuning.run_folder import CHECKPOINT
from course_lib.tuning.training import train
from tests.tuning.conftest import EXAMPLES, SHORT, VALIDATION, WEIGHTS, at_call, llama

SETTINGS = {"config": SHORT, "save_seconds": 0, "validation": VALIDATION, "eval_steps": 2}
PAGE = 4096


class SmallDisk:
    """A file system of 2 MB, which can be filled up to some bytes, and emptied."""

    def __init__(self, folder):
        self.folder, self.filler = folder, folder / "filler"

    def fill(self, but=0):
        self.free()
        with self.filler.open("wb") as file:
            free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
            file.write(bytes(free - but))

    def free(self):
        self.filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def longest_file():
    """A function that limits the size of this process's files, where no full disk can be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda longest=before[0]: resource.setrlimit(resource.RLIMIT_FSIZE, (longest, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def calm(tiny, tmp_path_factory):
    return train(tiny, EXAMPLES, tmp_path_factory.mktemp("runs") / "calm", **SETTINGS)


def same(result, calm):
    return (
        result.losses == calm.losses
        and (result.folder / WEIGHTS).read_bytes() == (calm.folder / WEIGHTS).read_bytes()
    )


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_disk_that_fills_keeps_the_checkpoint_before(tiny, calm, disk, monkeypatch):
    run = disk.folder / "run"
    monkeypatch.setattr(MixedPrecisionAdamW, "save", at_call(3, disk.fill, MixedPrecisionAdamW.save))
    message = (
        r"checkpoint of step 3 cannot be written to .*No space left(.|\n)*"
        r"the checkpoint before it is still there(.|\n)*free disk space"
    )
    with pytest.raises(CourseError, match=message):
        train(tiny, EXAMPLES, run, **SETTINGS)
    assert names(run) == [CHECKPOINT] and checkpoint_metadata(run / CHECKPOINT)["step"] == "2"
    monkeypatch.undo()
    with pytest.raises(
        CourseError, match=r"checkpoint of step 3 cannot be written"
    ):  # still full: still nothing is lost
        train(tiny, EXAMPLES, run, **SETTINGS)
    disk.free()
    assert same(train(tiny, EXAMPLES, run, **SETTINGS), calm)


def test_a_disk_that_is_full_from_the_beginning_is_told(tiny, disk):
    (disk.folder / "run").mkdir()
    disk.fill()
    with pytest.raises(
        CourseError, match=r"checkpoint of step 1 cannot be written(.|\n)*there is none before it"
    ):
        train(tiny, EXAMPLES, disk.folder / "run", **SETTINGS)
    assert names(disk.folder / "run") == []


def test_a_disk_that_fills_at_any_file_of_the_adapter_keeps_the_checkpoint(tiny, calm, disk, monkeypatch):
    """With no room, with room for its settings, for its weights too, for all of it."""
    run, told_of = disk.folder / "run", []
    with monkeypatch.context() as patched:
        patched.setattr(module, "save_adapter", at_call(1, disk.fill, module.save_adapter))
        with pytest.raises(
            CourseError,
            match=r"adapter cannot be written to .*checkpoint is still there(.|\n)*free disk space",
        ):
            train(tiny, EXAMPLES, run, **SETTINGS)
    for but in range(0, 30 * PAGE, PAGE):
        assert checkpoint_metadata(run / CHECKPOINT)["step"] == "6" and not list(run.glob(".*"))
        disk.fill(but)
        try:
            result = train(tiny, EXAMPLES, run, **SETTINGS)
            break
        except CourseError as error:
            assert "No space left" in str(error)
            told_of.append(sorted({*names(run)} - {CHECKPOINT}))
    assert same(result, calm) and load(tiny, adapters=[run]).parameters == load(tiny).parameters
    assert len({tuple(files) for files in told_of}) > 2 and told_of[0] == []  # it did fill at different files


def test_files_that_may_not_grow_are_told_as_a_full_disk(tiny, calm, tmp_path, longest_file, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(
        MixedPrecisionAdamW, "save", at_call(3, lambda: longest_file(20_000), MixedPrecisionAdamW.save)
    )
    with pytest.raises(
        CourseError,
        match=r"checkpoint of step 3 cannot be written(.|\n)*the checkpoint before it is still there",
    ):
        train(tiny, EXAMPLES, run, **SETTINGS)
    longest_file()
    assert names(run) == [CHECKPOINT] and checkpoint_metadata(run / CHECKPOINT)["step"] == "2"
    assert same(train(tiny, EXAMPLES, run, **SETTINGS), calm)


@pytest.mark.parametrize("but", [0, PAGE, 2 * PAGE, 4 * PAGE])
def test_what_cannot_be_written_as_gguf_leaves_nothing(tiny, calm, disk, but):
    disk.fill(but)
    for write in (
        lambda target: export_adapter(calm.folder, tiny, target),
        lambda target: export(tiny, target),
    ):
        with pytest.raises(CourseError, match=r"a\.gguf cannot be written: .*([Nn]o space|disk is full)"):
            write(disk.folder / "a.gguf")
        assert names(disk.folder) == ["filler"]
