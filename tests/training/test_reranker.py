"""The shipped rerankers: their cards, how they are found, and scores equal to sentence-transformers'."""

import json
import random
import re

import pytest
from finetuning.rerankers import RERANKERS
from sentence_transformers import CrossEncoder
from torch.nn import Identity

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.manager import ModelManager
from course_lib.models.schema import ModelSpec
from course_lib.retrieval.rerank import make_reranker, rerank

CROSS, LATE = "haneul-cross-encoder", "haneul-late-interaction"
BOTH = pytest.mark.parametrize(
    "folder", [data.MODELS / CROSS, data.MODELS / LATE], ids=lambda folder: folder.name
)


@pytest.fixture(scope="module")
def engine():
    return load(CROSS)


@BOTH
def test_it_is_small_and_names_no_machine(folder):
    assert sum(p.stat().st_size for p in folder.iterdir()) < 4e6
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == catalog.MINILM
    told = [p.read_text("utf-8") for p in folder.iterdir() if p.suffix != ".safetensors"]
    assert not any(re.search(r"/(home|root|work|tmp)/", text) for text in told)


@BOTH
def test_its_card_tells_what_was_measured_and_leaves_out_what_it_was_trained_on(folder):
    card, measured = (
        (folder / "README.md").read_text("utf-8"),
        json.loads((folder / "evaluation.json").read_text("utf-8")),
    )
    (kind,) = (r for r in RERANKERS if r.name == folder.name)
    assert {"haneul, en", "haneul, ko", "cranfield"} <= measured.keys()
    for name, row in measured.items():
        value, low, high = row["difference"]
        told = (
            f"| {name} | {row['questions']} | {row['before'][0]:.3f}" in card
            and f"{value:+.3f} ({low:+.3f} to {high:+.3f})" in card
        )
        assert told != (name in kind.standard.mixture)


def test_late_interaction_is_better_than_none_on_questions_that_it_has_never_seen():
    measured = json.loads((data.MODELS / LATE / "evaluation.json").read_text("utf-8"))
    assert measured["haneul, en"]["difference"][1] > 0


def test_they_are_found_by_role_by_name_and_as_base_and_adapter(engine, monkeypatch):
    monkeypatch.setenv("COURSE_TIER", "tiny")
    for name, role, task in ((CROSS, "rerank", "rerank"), (LATE, "embed-tokens", "text-embedding")):
        declared = {"source": catalog.MINILM, "task": task, "adapters": [{"source": str(data.MODELS / name)}]}
        specs = ModelSpec.parse(name), ModelSpec.parse(declared), ModelSpec.parse(catalog.role(role).spec)
        assert len({spec.key() for spec in specs}) == 1
    texts = ["The fee is 2,000 won a year.", "The branch opens at nine."]
    scores = engine.rerank("What is the yearly fee?", texts)
    assert make_reranker("cross-encoder", ModelManager()).rerank(
        "What is the yearly fee?", texts
    ) == pytest.approx(scores)
    assert engine.name == f"{catalog.MINILM}+{CROSS}" and engine.parameters == catalog.entry(CROSS).parameters


def test_the_adapter_changes_what_tokens_mean():
    manager = ModelManager()
    whole, adapted = (
        manager.get_embedding_model(name).embed_query_tokens("the yearly fee") for name in ("embed", LATE)
    )
    assert whole.shape == adapted.shape and abs(whole - adapted).max() > 0.01


def test_its_scores_are_those_of_sentence_transformers(engine, tmp_path):
    """Same weights, mixed lengths, all of them short enough for one window: to 1e-4."""
    words = " ".join(p.text for p in data.load_passages().values()).split()
    rng, query = random.Random(0), "What does the Haneul Blue Card cost a year?"
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 110))) for _ in range(40)]
    peer = CrossEncoder(str(engine.save(tmp_path / "model")), device="cpu")
    theirs = peer.predict([(query, text) for text in texts], activation_fn=Identity())
    assert engine.rerank(query, texts) == pytest.approx(theirs.tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", ["cross-encoder", "late-interaction"])
def test_it_prefers_what_answers(kind):
    asked = [q for q in data.load_questions("validation", "lexical") if len(q.gold) == 1][:12]
    passages, reranker = data.load_passages(), make_reranker(kind)
    others = [p for p in passages.values() if p.id.startswith("branches")][:3]
    for q in asked:
        texts = [
            f"{p.title} {p.text}" for p in (passages[q.gold[0]], *(o for o in others if o.id not in q.gold))
        ]
        assert rerank(reranker, q.question, texts, 1)[0].previous_rank == 1


def test_other_tasks_and_shares_of_a_head_are_refused():
    with pytest.raises(CourseError, match="does not fit"):
        load(CROSS, task="text-embedding")
    with pytest.raises(CourseError, match="no head for the task rerank"):
        load(LATE, task="rerank")
    with pytest.raises(CourseError, match="cannot be weighted or combined"):
        load(
            {
                "source": catalog.MINILM,
                "task": "rerank",
                "adapters": [{"source": str(data.MODELS / CROSS), "weight": 0.5}],
            }
        )
