"""Adapters with a head: their scores are those of peft, and an adapter of another model is refused."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import ModelManager, ModelSpec, catalog, load
from course_lib.models.catalog import shipped_models
from course_lib.models.drivers.adapters import sha256_of_weights
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.files import on_this_machine

QUERY, TEXTS = (
    "When do you open?",
    ["Cards are blocked at once.", "no", "The branch opens at nine and closes at five.", "fees"],
)
FILES = ["adapter_config.json", "adapter_model.safetensors"]


def bert(folder, **shape):
    """A small, random encoder without a head."""
    torch.manual_seed(1)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    } | shape
    BertModel(BertConfig(**sizes, max_position_embeddings=64, initializer_range=0.2)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(catalog.verify_shipped(catalog.MINILM)).save_pretrained(folder)
    return folder


def adapter(base, folder, labels=1, **record):
    """A random adapter of `base` with a head of its own, and the scores that peft gives with it."""
    torch.manual_seed(2)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["query", "value"],
        modules_to_save=["classifier"],
        task_type="SEQ_CLS",
        init_lora_weights=False,
    )
    adapted = get_peft_model(model, lora).eval()
    adapted.save_pretrained(folder)
    if record:
        (folder / "base.json").write_text(json.dumps(record))
    tokenizer = AutoTokenizer.from_pretrained(catalog.verify_shipped(catalog.MINILM))
    pairs = tokenizer([QUERY] * 4, TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return adapted(**pairs).logits.tolist()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    """The folder of an adapter of `base`, and the scores of peft."""
    folder = tmp_path_factory.mktemp("adapters") / "judge"
    return folder, [row[0] for row in adapter(base, folder, model="base", sha256=sha256_of_weights(base))]


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "judge")


def judge(base, folder, task="rerank", **more):
    return load(base, task=task, adapters=[{"source": folder} | more])


# -- what is loaded ---------------------------------------------------------------------------------------


def test_scores_are_those_of_peft(base, made):
    folder, expected = made
    engine = judge(base, folder)
    assert engine.rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5) and engine.name == "base+judge"
    assert max(expected) - min(expected) > 0.01  # else it would show nothing
    assert engine.rerank(QUERY, TEXTS) == judge(base, folder, weight=1.0).rerank(QUERY, TEXTS)
    spec = {"source": str(base), "adapters": [{"source": str(folder)}]}
    assert ModelManager().get_reranker(spec).rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_a_model_is_saved_with_the_head_of_its_adapter_in_it(base, made, tmp_path):
    folder, expected = made
    saved = judge(base, folder).save(tmp_path / "whole")
    assert load(saved, task="rerank").rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_a_head_of_three_labels_is_a_classifier_and_no_reranker(base, tmp_path):
    logits = torch.tensor(adapter(base, tmp_path / "sorts", labels=3))
    engine = judge(base, tmp_path / "sorts", "text-classification")
    assert [list(row) for row in engine.classify(["fee"])] == [["LABEL_0", "LABEL_1", "LABEL_2"]]
    pairs = engine.tokenizer([QUERY] * 4, TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.allclose(engine.model(**pairs).logits, logits, atol=1e-5)
    with pytest.raises(CourseError, match="gives 3 labels; a reranker gives one score"):
        judge(base, tmp_path / "sorts")


def test_without_a_head_from_anywhere_there_is_no_task(base, made, tmp_path):
    lora = LoraConfig(r=4, target_modules=["query"], init_lora_weights=False)
    get_peft_model(BertModel.from_pretrained(base), lora).save_pretrained(tmp_path / "headless")
    with pytest.raises(CourseError, match="no head for the task rerank"):
        judge(base, tmp_path / "headless")
    with pytest.raises(CourseError, match="no head for the task rerank"):
        load(base, task="rerank")
    plain, changed = load(base, task="text-embedding"), judge(base, tmp_path / "headless", "text-embedding")
    assert abs(plain.embed(TEXTS) - changed.embed(TEXTS)).max() > 0.01
    with pytest.raises(CourseError, match="judge does not fit this model"):  # which has no place for its head
        judge(base, made[0], "text-embedding")


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [*FILES, None])
def test_a_missing_adapter_is_told(base, copy, missing):
    shutil.rmtree(copy) if missing is None else (copy / missing).unlink()
    for task in ("rerank", "text-embedding"):
        with pytest.raises(
            CourseError,
            match=r"judge is not a LoRA adapter: adapter_config\.json and adapter_model\.safetensors",
        ):
            judge(base, copy, task)
    with pytest.raises(CourseError, match="is not a LoRA adapter"):
        load("haneul-300k", adapters=[{"source": copy}])


@pytest.mark.parametrize("cut", [1, 100, 5000, None])
def test_a_truncated_adapter_is_told_whatever_it_changes(base, copy, cut, tmp_path):
    lora = LoraConfig(r=16, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(load("haneul-300k").model, lora).save_pretrained(tmp_path / "words")
    for folder, ask in (
        (copy, lambda: judge(base, copy)),
        (tmp_path / "words", lambda: load("haneul-300k", adapters=[tmp_path / "words"])),
    ):
        file = folder / "adapter_model.safetensors"
        file.write_bytes(b"" if cut is None else file.read_bytes()[:-cut])
        with pytest.raises(
            CourseError,
            match=r"adapter_model\.safetensors (has [\d,]+ bytes, but should|is not a safetensors file)",
        ):
            ask()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"r": 4}', '{"peft_type": "NONE"}'])
def test_settings_of_an_adapter_that_are_none_are_told(base, copy, content):
    (copy / "adapter_config.json").write_text(content)
    with pytest.raises(CourseError, match=r"judge (does not fit this model|cannot be read)"):
        judge(base, copy)


def test_an_adapter_of_other_weights_is_refused_with_both_sums(base, copy, tmp_path):
    other = bert(tmp_path / "other", num_hidden_layers=2)
    shutil.copy(base / "config.json", other)
    weights = other / "model.safetensors"
    weights.write_bytes(
        weights.read_bytes()[:-4] + b"\0\0\0\0"
    )  # of the same shape: nothing but the sum tells
    theirs, ours = (sha256_of_weights(folder)[:12] for folder in (base, other))
    message = rf"judge was made for base, .* SHA-256 {theirs}\.\.\.; those of other have {ours}\.\.\."
    with pytest.raises(CourseError, match=message):
        judge(other, copy)
    (copy / "base.json").write_text("{")
    with pytest.raises(CourseError, match=r"base\.json of judge cannot be read"):
        judge(base, copy)
    (copy / "base.json").unlink()  # who does not say for what it was made is believed
    assert len(judge(other, copy).rerank(QUERY, TEXTS)) == 4


@pytest.mark.parametrize(
    "shape",
    [{"hidden_size": 64}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}],
    ids=["wider", "fewer layers", "more layers"],
)
def test_an_adapter_of_a_model_of_another_shape_is_refused(base, shape, tmp_path):
    other = bert(tmp_path / "other", **shape)
    adapter(other, tmp_path / "theirs")
    with pytest.raises(CourseError, match=r"theirs does not fit this model(.|\n)*adapter of this base model"):
        judge(base, tmp_path / "theirs")


def test_a_share_of_a_head_is_none(base, made):
    for weight in (0, 0.5, 2, -1):
        with pytest.raises(Unsupported, match=rf"judge has its own head, .*weight={weight}(\.0)?, one of 1"):
            judge(base, made[0], weight=weight)


def test_a_folder_of_an_adapter_is_no_model_and_names_the_way(made):
    for task in ("rerank", "text-embedding", "chat-completion"):
        with pytest.raises(CourseError, match=r'judge is a LoRA adapter(.|\n)*adapters=\[".*judge"\]'):
            load(made[0], task=task)


# -- adapters that the course carries ---------------------------------------------------------------------


def test_the_name_of_an_adapter_of_the_course_stands_for_base_adapter_and_task(tmp_path, monkeypatch):
    """One in another place, for the course's own is exchanged now and then."""
    monkeypatch.setattr(data, "MODELS", tmp_path)
    folder, minilm = tmp_path / "haneul-cross-encoder", catalog.verify_shipped(catalog.MINILM)
    assert [n for n in ("haneul-1m", "all-MiniLM-L6-v2", "nobody", folder.name) if catalog.is_adapter(n)] == [
        folder.name
    ]
    spec = ModelSpec.parse(folder.name)
    assert (spec.source.path, spec.task) == (minilm, "rerank")
    assert [adapter.source.path for adapter in spec.adapters] == [folder]
    assert on_this_machine(catalog.entry("haneul-cross-encoder")) is False
    with pytest.raises(
        CourseError, match=r"haneul-cross-encoder/manifest\.json cannot be read(.|\n)*git checkout"
    ):
        load("haneul-cross-encoder")
    expected = [
        row[0] for row in adapter(minilm, folder, model=catalog.MINILM, sha256=shipped_models.MINILM_SHA256)
    ]
    sums = {path.name: data.sha256(path) for path in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps({"sha256": sums}))
    assert on_this_machine(catalog.entry("haneul-cross-encoder")) is True
    for engine in (load("haneul-cross-encoder"), load("haneul-cross-encoder", task="rerank", batch_size=2)):
        assert engine.rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)
        assert engine.name == "all-MiniLM-L6-v2+haneul-cross-encoder" and engine.context == 256
        assert engine.parameters == catalog.entry("haneul-cross-encoder").parameters


def test_an_altered_adapter_of_the_course_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "MODELS", tmp_path)
    (folder := tmp_path / "haneul-cross-encoder").mkdir()
    for name in FILES:
        (folder / name).write_bytes(b"altered")
    (folder / "manifest.json").write_text(json.dumps({"sha256": dict.fromkeys(FILES, "0" * 64)}))
    with pytest.raises(
        CourseError, match=r"is not the published file(.|\n)*git checkout -- models/haneul-cross-encoder"
    ):
        load("haneul-cross-encoder")
