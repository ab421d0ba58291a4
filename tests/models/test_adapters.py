"""LoRA adapters with a classification head: same scores as peft; an adapter of another model is refused."""

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


def save_adapter(base, folder, labels=1, **record):
    """Save a random adapter of `base` with a head, and return peft's scores. record: content of base.json."""
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
def reranker(base, tmp_path_factory):
    """The folder of an adapter of `base`, and the scores of peft."""
    folder = tmp_path_factory.mktemp("adapters") / "judge"
    logits = save_adapter(base, folder, model="base", sha256=sha256_of_weights(base))
    return folder, [row[0] for row in logits]


@pytest.fixture
def adapter_copy(reranker, tmp_path):
    return shutil.copytree(reranker[0], tmp_path / "judge")


def load_adapted(base, folder, task="rerank", **fields):
    """Load `base` with the adapter in `folder`. fields: of the Adapter, such as weight."""
    return load(base, task=task, adapters=[{"source": folder} | fields])


# -- loading ----------------------------------------------------------------------------------------------


def test_scores_are_those_of_peft(base, reranker):
    folder, expected = reranker
    engine = load_adapted(base, folder)
    assert engine.rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5) and engine.name == "base+judge"
    assert max(expected) - min(expected) > 0.01  # the scores must differ for a meaningful comparison
    assert engine.rerank(QUERY, TEXTS) == load_adapted(base, folder, weight=1.0).rerank(QUERY, TEXTS)
    spec = {"source": str(base), "adapters": [{"source": str(folder)}]}
    assert ModelManager().get_reranker(spec).rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_a_saved_model_contains_the_head_of_its_adapter(base, reranker, tmp_path):
    folder, expected = reranker
    saved = load_adapted(base, folder).save(tmp_path / "saved")
    assert load(saved, task="rerank").rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)


def test_a_head_with_three_labels_is_for_a_classifier_only(base, tmp_path):
    logits = torch.tensor(save_adapter(base, tmp_path / "three-labels", labels=3))
    engine = load_adapted(base, tmp_path / "three-labels", "text-classification")
    assert [list(row) for row in engine.classify(["fee"])] == [["LABEL_0", "LABEL_1", "LABEL_2"]]
    pairs = engine.tokenizer([QUERY] * 4, TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.allclose(engine.model(**pairs).logits, logits, atol=1e-5)
    with pytest.raises(CourseError, match="gives 3 labels; a reranker gives one score"):
        load_adapted(base, tmp_path / "three-labels")


def test_without_a_head_in_model_or_adapter_the_task_is_refused(base, reranker, tmp_path):
    lora = LoraConfig(r=4, target_modules=["query"], init_lora_weights=False)
    get_peft_model(BertModel.from_pretrained(base), lora).save_pretrained(tmp_path / "headless")
    with pytest.raises(CourseError, match="no head for the task rerank"):
        load_adapted(base, tmp_path / "headless")
    with pytest.raises(CourseError, match="no head for the task rerank"):
        load(base, task="rerank")
    plain, changed = (
        load(base, task="text-embedding"),
        load_adapted(base, tmp_path / "headless", "text-embedding"),
    )
    assert abs(plain.embed(TEXTS) - changed.embed(TEXTS)).max() > 0.01
    with pytest.raises(CourseError, match="judge does not fit this model"):  # it has no layer for the head
        load_adapted(base, reranker[0], "text-embedding")


# -- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [*FILES, None])
def test_a_missing_adapter_is_an_error(base, adapter_copy, missing):
    shutil.rmtree(adapter_copy) if missing is None else (adapter_copy / missing).unlink()
    for task in ("rerank", "text-embedding"):
        with pytest.raises(
            CourseError,
            match=r"judge is not a LoRA adapter: adapter_config\.json and adapter_model\.safetensors",
        ):
            load_adapted(base, adapter_copy, task)
    with pytest.raises(CourseError, match="is not a LoRA adapter"):
        load("haneul-300k", adapters=[{"source": adapter_copy}])


@pytest.mark.parametrize("missing_bytes", [1, 100, 5000, None])
def test_a_truncated_adapter_is_an_error(base, adapter_copy, missing_bytes, tmp_path):
    lora = LoraConfig(r=16, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(load("haneul-300k").model, lora).save_pretrained(tmp_path / "words")
    for folder, ask in (
        (adapter_copy, lambda: load_adapted(base, adapter_copy)),
        (tmp_path / "words", lambda: load("haneul-300k", adapters=[tmp_path / "words"])),
    ):
        file = folder / "adapter_model.safetensors"
        file.write_bytes(b"" if missing_bytes is None else file.read_bytes()[:-missing_bytes])
        with pytest.raises(
            CourseError,
            match=r"adapter_model\.safetensors (has [\d,]+ bytes, but should|is not a safetensors file)",
        ):
            ask()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"r": 4}', '{"peft_type": "NONE"}'])
def test_an_invalid_adapter_config_is_an_error(base, adapter_copy, content):
    (adapter_copy / "adapter_config.json").write_text(content)
    with pytest.raises(CourseError, match=r"judge (does not fit this model|cannot be read)"):
        load_adapted(base, adapter_copy)


def test_an_adapter_of_other_weights_is_refused_with_both_hashes(base, adapter_copy, tmp_path):
    other = bert(tmp_path / "other", num_hidden_layers=2)
    shutil.copy(base / "config.json", other)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")  # the same shapes: only the hash differs
    expected, actual = (sha256_of_weights(folder)[:12] for folder in (base, other))
    message = rf"judge was made for base, .* SHA-256 {expected}\.\.\.; those of other have {actual}\.\.\."
    with pytest.raises(CourseError, match=message):
        load_adapted(other, adapter_copy)
    (adapter_copy / "base.json").write_text("{")
    with pytest.raises(CourseError, match=r"base\.json of judge cannot be read"):
        load_adapted(base, adapter_copy)
    (adapter_copy / "base.json").unlink()  # an adapter without base.json is not checked
    assert len(load_adapted(other, adapter_copy).rerank(QUERY, TEXTS)) == 4


@pytest.mark.parametrize(
    "shape",
    [{"hidden_size": 64}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}],
    ids=["wider", "fewer layers", "more layers"],
)
def test_an_adapter_of_a_model_with_other_shapes_is_refused(base, shape, tmp_path):
    other = bert(tmp_path / "other", **shape)
    save_adapter(other, tmp_path / "theirs")
    with pytest.raises(CourseError, match=r"theirs does not fit this model(.|\n)*adapter of this base model"):
        load_adapted(base, tmp_path / "theirs")


def test_a_head_cannot_be_weighted(base, reranker):
    for weight in (0, 0.5, 2, -1):
        with pytest.raises(
            Unsupported, match=rf"judge has classifier\.bias, which .*\(weight={weight}(\.0)?, one of 1"
        ):
            load_adapted(base, reranker[0], weight=weight)


def test_loading_an_adapter_as_a_model_is_an_error_with_the_correct_call(reranker):
    for task in ("rerank", "text-embedding", "chat-completion"):
        with pytest.raises(CourseError, match=r'judge is a LoRA adapter(.|\n)*adapters=\[".*judge"\]'):
            load(reranker[0], task=task)


# -- adapters that ship with the course -------------------------------------------------------------------


def test_the_name_of_a_shipped_adapter_means_its_base_adapter_and_task(tmp_path, monkeypatch):
    """The test makes its own adapter, because the shipped one is retrained now and then."""
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
        row[0]
        for row in save_adapter(minilm, folder, model=catalog.MINILM, sha256=shipped_models.MINILM_SHA256)
    ]
    hashes = {path.name: data.sha256(path) for path in folder.iterdir()}
    (folder / "manifest.json").write_text(json.dumps({"sha256": hashes}))
    assert on_this_machine(catalog.entry("haneul-cross-encoder")) is True
    for engine in (load("haneul-cross-encoder"), load("haneul-cross-encoder", task="rerank", batch_size=2)):
        assert engine.rerank(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)
        assert engine.name == "all-MiniLM-L6-v2+haneul-cross-encoder" and engine.context == 256
        assert engine.parameters == catalog.entry("haneul-cross-encoder").parameters


def test_an_altered_shipped_adapter_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "MODELS", tmp_path)
    (folder := tmp_path / "haneul-cross-encoder").mkdir()
    for name in FILES:
        (folder / name).write_bytes(b"altered")
    (folder / "manifest.json").write_text(json.dumps({"sha256": dict.fromkeys(FILES, "0" * 64)}))
    with pytest.raises(
        CourseError, match=r"is not the published file(.|\n)*git checkout -- models/haneul-cross-encoder"
    ):
        load("haneul-cross-encoder")
