"""A run that is stopped anywhere goes on to the same losses and the same adapter, byte for byte."""

import json
import os
import re
import shutil
import signal
import time

import pytest
from safetensors.torch import load_file, save_file

from course_lib.errors import CourseError
from course_lib.tuning import training as module
from course_lib.tuning.optimiser import MixedPrecisionAdamW, checkpoint_metadata
from course_lib.tuning.run_folder import CHECKPOINT, NEW_NAMES
from course_lib.tuning.training import train
from tests.tuning.conftest import EXAMPLES, SHORT, VALIDATION, WEIGHTS, at_call, llama
from tests.tuning.processes import begin

STEPS = 30
CONFIG = SHORT.replace(steps=STEPS, warmup_steps=10, dropout=0.2, eval_steps=3, weight_decay=0.1)
SETTINGS = {"config": CONFIG, "validation": VALIDATION}
NOTHING_SAVED = {"save_seconds": 1e9}


def same(a, b):
    """Whether two runs are the same, but for the time they took."""
    alike = all(
        getattr(a, k) == getattr(b, k)
        for k in ("losses", "validation", "tokens", "stopped", "best_step", "micro_batch_size")
    )
    return alike and (a.folder / WEIGHTS).read_bytes() == (b.folder / WEIGHTS).read_bytes()


def finished(process, code=0):
    process.join(60)
    assert process.exitcode == code


def wait_for(something, process):
    until = time.monotonic() + 60
    while not something():
        assert process.is_alive() and time.monotonic() < until
        time.sleep(0.001)


def steps_in(bar):
    """The step that a progress bar shows last."""
    return int((re.findall(rf"(\d+)/{STEPS} ", bar.read_text() if bar.exists() else "") or [0])[-1])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base with a dropout of its own, which is drawn anew after a stop, too."""
    return llama(tmp_path_factory.mktemp("models") / "base", attention_dropout=0.1)


@pytest.fixture(scope="module")
def through(base, tmp_path_factory):
    """The run that nothing stops; in a process of its own, as those that are killed."""
    folder = tmp_path_factory.mktemp("runs")
    finished(begin(folder / "bar", base, EXAMPLES, folder / "through", **SETTINGS, save_seconds=0))
    return train(base, EXAMPLES, folder / "through", **SETTINGS, save_seconds=0)


# -- processes


@pytest.mark.parametrize("after", [1, 10, 22])
def test_a_killed_run_goes_on_to_the_same_bytes(base, through, tmp_path, after):
    arguments, folder = (tmp_path / "bar", base, EXAMPLES, tmp_path / "killed"), tmp_path / "killed"
    process = begin(*arguments, **SETTINGS, save_seconds=0)
    wait_for(
        lambda: (
            (folder / CHECKPOINT).exists() and int(checkpoint_metadata(folder / CHECKPOINT)["step"]) >= after
        ),
        process,
    )
    process.kill()
    finished(process, -signal.SIGKILL)
    assert (
        after <= int(checkpoint_metadata(folder / CHECKPOINT)["step"]) < STEPS
        and not (folder / WEIGHTS).exists()
    )
    finished(begin(*arguments, **SETTINGS, save_seconds=0))
    assert same(train(base, EXAMPLES, folder, **SETTINGS, save_seconds=0), through)
    assert not list(folder.glob(".*")) and not (folder / CHECKPOINT).exists()


def test_an_interrupted_run_leaves_where_it_was_and_goes_on(base, through, tmp_path):
    """Ctrl-C, twice, at whatever it does at that moment."""
    arguments, folder, settings = (
        (tmp_path / "bar", base, EXAMPLES, tmp_path / "stopped"),
        tmp_path / "stopped",
        SETTINGS | NOTHING_SAVED,
    )
    stops = [0]
    for _ in range(2):
        process = begin(*arguments, **settings)
        wait_for(lambda: steps_in(tmp_path / "bar") > stops[-1], process)
        os.kill(process.pid, signal.SIGINT)
        finished(process, 1)
        assert "KeyboardInterrupt" in (tmp_path / "bar").read_text() and not (folder / WEIGHTS).exists()
        stops.append(int(checkpoint_metadata(folder / CHECKPOINT)["step"]))
        assert stops[-2] < stops[-1] < STEPS
    finished(begin(*arguments, **settings))
    assert same(train(base, EXAMPLES, folder, **settings), through)


# -- the worst moments


@pytest.fixture(scope="module")
def calm(base, tmp_path_factory):
    """The run that nothing stops, in this process."""
    return train(base, EXAMPLES, tmp_path_factory.mktemp("runs") / "calm", **SETTINGS)


def interrupted(base, folder, **changes):
    with pytest.raises(KeyboardInterrupt):
        train(base, EXAMPLES, folder, **SETTINGS, **changes)
    return int(checkpoint_metadata(folder / CHECKPOINT)["step"])


@pytest.fixture
def ctrl_c():
    """Whoever runs these tests, Ctrl-C interrupts this process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("owner", "name", "step"),
    [
        (MixedPrecisionAdamW, "copy_to_model", 7),
        (MixedPrecisionAdamW, "step", 7),
        (module._TrainingRun, "_backward", 6),
        (module._TrainingRun, "validation_loss", 21),
        (module, "collate", None),
        (MixedPrecisionAdamW, "save", 0),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_ctrl_c_at_the_worst_moment_loses_no_half_of_a_step(
    base, calm, tmp_path, monkeypatch, ctrl_c, owner, name, step
):
    """In an update it waits for the end of it; between a step and its evaluation, the evaluation follows."""
    folder = tmp_path / "run"
    monkeypatch.setattr(owner, name, at_call(1 if step == 0 else 7, ctrl_c, getattr(owner, name)))
    stopped_at = interrupted(base, folder, save_seconds=0 if step == 0 else 1e9)
    assert stopped_at == {None: stopped_at, 0: 1}.get(step, step)
    monkeypatch.undo()
    again = train(base, EXAMPLES, folder, **SETTINGS, save_seconds=0 if step == 0 else 1e9)
    assert same(again, calm)


def test_a_run_that_was_stopped_between_its_end_and_its_adapter_only_writes_it(
    base, calm, tmp_path, monkeypatch, ctrl_c
):
    monkeypatch.setattr(module, "save_adapter", at_call(1, ctrl_c, module.save_adapter))
    with pytest.raises(KeyboardInterrupt):
        train(base, EXAMPLES, tmp_path / "run", **SETTINGS)
    monkeypatch.undo()
    monkeypatch.setattr(MixedPrecisionAdamW, "step", None)  # there is nothing more to learn
    assert same(train(base, EXAMPLES, tmp_path / "run", **SETTINGS), calm)


# -- checkpoints


@pytest.fixture
def half(base, tmp_path, monkeypatch, ctrl_c):
    """A folder with a checkpoint of step 7."""
    with monkeypatch.context() as patched:
        patched.setattr(MixedPrecisionAdamW, "step", at_call(7, ctrl_c, MixedPrecisionAdamW.step))
        interrupted(base, tmp_path / "half")
    return tmp_path / "half"


@pytest.mark.parametrize("cut", [1, 5000, None])
def test_a_truncated_checkpoint_is_told_with_its_path_and_left_as_it_is(base, half, cut):
    file = half / CHECKPOINT
    file.write_bytes(content := b"" if cut is None else file.read_bytes()[:-cut])
    with pytest.raises(CourseError, match=rf"checkpoint {file} is damaged: .*(.|\n)*rm {file}"):
        train(base, EXAMPLES, half, **SETTINGS)
    assert file.read_bytes() == content


def test_a_file_that_is_no_checkpoint_is_told(base, half):
    for content in (b"\x10\0\0\0\0\0\0\0nonsense", (base / "model.safetensors").read_bytes()):
        (half / CHECKPOINT).write_bytes(content)
        with pytest.raises(CourseError, match=rf"{half / CHECKPOINT} (is damaged|was started with)"):
            train(base, EXAMPLES, half, **SETTINGS)


@pytest.mark.parametrize(
    ("change", "told_of"),
    [
        ({"learning_rate": 0.5}, r"learning_rate=0\.01, not 0\.5"),
        ({"seed": 3}, "seed=0, not 3"),
        ({"validation": []}, "validation='"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(base, half, change, told_of):
    before = (half / CHECKPOINT).read_bytes()
    with pytest.raises(
        CourseError, match=rf"{CHECKPOINT} was started with {told_of}(.|\n)*delete {half} to start again"
    ):
        train(base, EXAMPLES, half, **SETTINGS | change)
    with pytest.raises(CourseError, match=r"examples='.*(.|\n)*to start again"):
        train(base, EXAMPLES[1:], half, **SETTINGS)
    with pytest.raises(CourseError, match=r"base={'model': 'base'.*not {'model': 'haneul-300k'"):
        train("haneul-300k", EXAMPLES, half, **SETTINGS)
    assert (half / CHECKPOINT).read_bytes() == before


def test_what_a_killed_process_left_half_written_is_removed(base, calm, half):
    shutil.copy(half / CHECKPOINT, half / f".{CHECKPOINT}.1.partial")
    assert same(train(base, EXAMPLES, half, **SETTINGS), calm)
    assert sorted(path.name for path in half.iterdir()) == sorted(path.name for path in calm.folder.iterdir())
    fresh = half.with_name("fresh")  # killed before the first one was whole
    fresh.mkdir()
    (fresh / f".{CHECKPOINT}.1.partial").write_bytes(b"half")
    assert same(train(base, EXAMPLES, fresh, **SETTINGS), calm)


def test_a_checkpoint_of_version_0_1_goes_on_although_its_settings_had_other_names(base, calm, half):
    old_names = {new: old for old, new in NEW_NAMES.items()}

    def renamed(value):
        return {old_names.get(k, k): renamed(v) for k, v in value.items()} if type(value) is dict else value

    metadata = checkpoint_metadata(half / CHECKPOINT)
    metadata |= {key: json.dumps(renamed(json.loads(metadata[key]))) for key in ("made_of", "state")}
    assert '"recipe"' in metadata["made_of"] and '"kept"' in metadata["state"]
    save_file(load_file(half / CHECKPOINT), half / CHECKPOINT, metadata)
    assert same(train(base, EXAMPLES, half, **SETTINGS), calm)
