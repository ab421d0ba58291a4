"""Publish a trained reranker as models/NAME: the adapter, the name of its base model, and a model card.

A reranker sorts the passages that a search found. Its adapter is a small file of weights that is added to the
base model's own. A cross-encoder reads a question together with a passage, and its head, an added last layer,
gives a score; late interaction compares vectors of single tokens.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretraining.publish import write_manifest

from course_lib import data
from course_lib.atomic import atomic_folder
from course_lib.models import catalog
from course_lib.models.drivers.adapters import BASE_FILE, WEIGHTS_FILE, base_record
from course_lib.models.files.headers import read_safetensors_header
from finetuning.run import BASE, MAX_TOKENS, RerankerConfig, RerankerRun

CARD = (Path(__file__).parent / "reranker_card.md").read_text("utf-8")
# Examples of use.
CROSS = """    from course_lib import load
    reranker = load("haneul-cross-encoder")
    reranker.rerank("What does it cost a year?", ["The fee is 2,000 won.", "We open at nine."])
"""
LATE = """    from course_lib.models.manager import ModelManager
    from course_lib.retrieval import LateInteraction
    judge = LateInteraction(ModelManager.shared().get_embedding_model("haneul-late-interaction"))
    judge.rerank("What does it cost a year?", ["The fee is 2,000 won.", "We open at nine."])
"""
# What the model card (README.md) says of each reranker, and the names of the data of its training.
ABOUT = {
    "haneul-cross-encoder": {
        "what": "A cross-encoder with a head of its own",
        "use": CROSS,
        "reads": f"a question and a passage, together {MAX_TOKENS} tokens",
    },
    "haneul-late-interaction": {
        "what": "An embedder of tokens for late interaction",
        "use": LATE,
        "reads": f"{MAX_TOKENS} tokens, question and passage apart",
    },
}
SOURCES = {
    "banks": "{banks} generated banks (`datasets/bankworld`)",
    "xquad_en": "XQuAD's English part (CC BY-SA 4.0)",
    "tatqa": "TAT-QA's development and test questions (CC BY 4.0)",
}


def publish(run: RerankerRun) -> Path:
    """Write models/NAME from a finished run, without an evaluation. Until it is there, an older one stays."""
    model = run.in_float32()
    model.peft_config["default"].base_model_name_or_path = BASE  # instead of the path on this machine
    with atomic_folder(data.MODELS / run.name, replace=True) as folder:
        model.save_pretrained(folder)
        (folder / BASE_FILE).write_text(
            json.dumps(base_record(catalog.verify_shipped(BASE)), indent=1) + "\n", "utf-8"
        )
        shutil.copy(run.folder / "log.jsonl", folder / "training-log.jsonl")
        write_card(folder, run.name, run.config)
    return data.MODELS / run.name


def renew_card(name: str, config: RerankerConfig) -> None:
    """Write the card of models/NAME anew, and manifest.json, the checksums, with it."""
    with atomic_folder(data.MODELS / name, replace=True) as folder:
        shutil.copytree(data.MODELS / name, folder, dirs_exist_ok=True)
        write_card(folder, name, config)


def write_card(folder: Path, name: str, config: RerankerConfig) -> None:
    """Write the model card. Its figures come from the run and from evaluation.json (benchmarks/rerank.py)."""
    path = folder / "evaluation.json"
    evaluation = json.loads(path.read_text("utf-8")) if path.exists() else {}
    last = json.loads((folder / "training-log.jsonl").read_text("utf-8").splitlines()[-1])
    tensors = read_safetensors_header(folder / WEIGHTS_FILE).values()
    figures = asdict(config) | ABOUT[name] | {k: last[k] for k in ("pairs", "threads", "processor")}
    text = CARD.format(
        name=name,
        **figures,
        trainable=sum(math.prod(t.shape) for t in tensors),
        megabytes=sum(t.bytes for t in tensors) / 1e6,
        questions=sum(config.mixture.values()),
        minutes=last["seconds"] / 60,
        last=config.banks - 1,
        sources=", ".join(SOURCES[source].format(banks=config.banks) for source in config.mixture),
        licence="cc-by-sa-4.0" if "xquad_en" in config.mixture else "mit",
        rows="\n".join(_row(of, row) for of, row in evaluation.items() if of not in config.mixture),
    )
    (folder / "README.md").write_text(text, "utf-8")
    write_manifest(folder)


def _row(name: str, row: dict[str, Any]) -> str:
    intervals = ((value, low, high) for value, low, high in (row["before"], row["after"]))
    cells = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in intervals]
    value, low, high = row["difference"]
    return f"| {name} | {row['questions']} | {' | '.join(cells)} | {value:+.3f} ({low:+.3f} to {high:+.3f}) |"
