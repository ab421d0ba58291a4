"""The adapters of chapter 09 are what the script trains, and none of their pairs repeats a question."""

import json
import shutil

from finetuning import augmentation

from course_lib import data
from course_lib.exam.augment import near_duplicates
from course_lib.rag.evaluate import faithful
from course_lib.tuning import train, training

FOLDER = data.MODELS / "haneul-augmented"


def rows():
    counts, *pairs = map(json.loads, (FOLDER / "pairs.jsonl").read_text("utf-8").splitlines())
    return counts, pairs


def test_the_same_call_finds_the_shipped_writer_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_TrainingRun", None)  # nothing is trained
    folder = shutil.copytree(data.MODELS / "haneul-writer", tmp_path / "writer")
    examples, validation = augmentation.writer_examples(), augmentation.writer_examples("validation")
    result = train("haneul-4m", examples, folder, validation=validation, config=augmentation.WRITER)
    assert result.steps == augmentation.WRITER.steps


def test_the_pairs_stand_in_their_passages_and_repeat_no_question_of_the_exam():
    counts, pairs = rows()
    assert counts["kept"] == len(pairs) == counts["sound"] - counts["near-duplicates"]
    assert json.loads((FOLDER / "evaluation.json").read_text())["pairs"] == counts
    passages = data.load_passages()
    assert all(faithful(pair["answer"], [passages[pair["passage"]].text]) for pair in pairs)
    exam = [q.question for split in ("test", "validation") for q in data.load_questions(split)]
    written = [pair["question"] for pair in pairs]
    assert near_duplicates(written, exam) == {}
    assert near_duplicates([*written, "Tell me: " + exam[0]], exam).keys() == {len(written)}
