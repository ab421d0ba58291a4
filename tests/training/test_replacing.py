"""A training replaces an older model as a whole: one that fails while it writes or measures leaves that."""

import functools
import json
import shutil

import pytest
from finetuning import topics
from picture_training import captioner, faces, judge, painter, run, upscaler
from pretraining import publish as language_models

from course_lib import data

EVALUATIONS = {  # the real ones, on few pictures; those of the painter and the faces cannot be so short
    captioner: functools.partial(captioner.evaluate, count=24),
    upscaler: functools.partial(upscaler.evaluate, count=2),
    painter: lambda folder, log: None,
    faces: lambda folder, log: None,
}


def finished(script, model):
    """The run of a training of no steps."""
    ended = run.Run(script.NAME, model, [], 0, resume=False)
    ended.log.write_text(json.dumps({"step": 0, "seconds": 1}) + "\n")
    return ended


def write(script):
    if script is captioner:
        tokenizer = captioner.new_tokenizer()
        model = captioner.new_model(tokenizer)
        captioner.write(finished(script, model), model, tokenizer)
    elif script is upscaler:
        model = upscaler.new_model()
        upscaler.write(finished(script, model), model)
    elif script is painter:
        tokenizer = painter.new_tokenizer()
        painter.publish(painter.Painter(len(tokenizer)), tokenizer, run.RUNS / "log.jsonl")
    elif script is judge:
        judge.publish(judge.new_judge())
    else:
        faces.publish(faces.ArcFace(), run.RUNS / "log.jsonl")


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("script", [captioner, upscaler, painter, judge, faces], ids=lambda s: s.NAME)
def test_an_older_model_stays_until_the_new_one_is_whole(script, monkeypatch, tmp_path):
    models, folder = tmp_path / "models", tmp_path / "models" / "model"
    (folder / "judge").mkdir(parents=True)
    (folder / "judge" / "config.json").write_text("of the judge")
    (folder / "older.safetensors").write_text("older")
    before = contents(models)
    monkeypatch.setattr(script, "FOLDER", folder)
    monkeypatch.setattr(run, "RUNS", tmp_path / "runs")

    def full(*_, **__):
        """Called when the weights are written, and the rest is not."""
        assert max(p.stat().st_size for p in models.rglob("*.safetensors")) > 100_000
        raise OSError("no space left on device")

    with monkeypatch.context() as failing:
        if script is judge:
            failing.setattr(judge.ViTImageProcessorPil, "save_pretrained", full)
        else:
            failing.setattr(script, "evaluate", full)
        with pytest.raises(OSError, match="no space"):
            write(script)
    assert contents(models) == before

    if script in EVALUATIONS:
        monkeypatch.setattr(script, "evaluate", EVALUATIONS[script])
    write(script)
    after = contents(folder)
    assert [p.name for p in models.iterdir()] == ["model"] and "older.safetensors" not in after
    assert max(map(len, after.values())) > 100_000
    assert ("judge/config.json" in after) == (script is painter)
    if script in (captioner, upscaler):
        assert after.keys() > {"evaluation.json", "training-log.jsonl", "README.md", "manifest.json"}


def full_disk(*_, **__):
    raise OSError("no space left on device")


def test_an_older_language_model_stays_until_the_new_one_is_measured(monkeypatch, tmp_path):
    name, trained, models = "haneul-300k", tmp_path / "run", tmp_path / "models"
    shutil.copytree(data.MODELS / name, trained / "model")
    shutil.copy(data.MODELS / name / "training-log.jsonl", trained / "log.jsonl")
    (models / name).mkdir(parents=True)
    (models / name / "older.safetensors").write_text("older")
    before, measured = contents(models), json.loads((data.MODELS / name / "evaluation.json").read_text())
    monkeypatch.setattr(data, "MODELS", models)
    with monkeypatch.context() as failing:
        failing.setattr(language_models, "evaluate", full_disk)
        with pytest.raises(OSError, match="no space"):
            language_models.publish(name, trained, 1)
    assert contents(models) == before
    monkeypatch.setattr(language_models, "evaluate", lambda model: measured)  # the real one takes minutes
    language_models.publish(name, trained, 1)
    assert [p.name for p in models.iterdir()] == [name]
    assert "older.safetensors" not in contents(models / name)
    data.verify(models / name, "")


def test_the_other_topics_stay_when_one_part_is_trained_and_all_when_it_fails(monkeypatch, tmp_path):
    folder = shutil.copytree(topics.FOLDER, tmp_path / "haneul-topics")
    before = contents(tmp_path)
    monkeypatch.setattr(topics, "FOLDER", folder)
    monkeypatch.setattr(topics, "KOREAN_EPOCHS", 1)
    with monkeypatch.context() as failing:
        failing.setattr(topics, "write_manifest", full_disk)
        with pytest.raises(OSError, match="no space"):
            topics.main(["korean"])
    assert contents(tmp_path) == before
    topics.main(["korean"])
    after = contents(tmp_path)
    changed = {name.rpartition("/")[2] for name in after if after[name] != before[name]}
    assert after.keys() == before.keys() and "topics.safetensors" not in changed
    assert {"korean.safetensors", "training-log.json", "manifest.json"} <= changed
    data.verify(folder, "")
