"""Publish a trained language model as a folder in models/, with its evaluation and README.md (model card)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from course_lib import data
from course_lib.atomic import atomic_folder
from course_lib.measure import machine
from course_lib.models import load
from pretraining.evaluate import evaluate
from pretraining.train import SIZES

CARD = (Path(__file__).parent / "card.md").read_text("utf-8")
# Measurement in evaluation.json -> its row in the model card. The gold passage answers the question; hard
# negatives are wrong passages that are like it; a near miss is one about the same thing without the answer.
SETTINGS = {
    "passages_0": "no passage (it has never seen Haneul)",
    "passages_1": "the gold passage",
    "passages_3": "gold and 2 hard negatives",
    "passages_8": "gold and 7 hard negatives",
    "two_passage_3": "questions that need two passages, 3 given",
    "unanswerable_1": "refused: unanswerable, 1 near miss given",
    "unanswerable_3": "refused: unanswerable, 3 near misses given",
}


def publish(name: str, run: Path, threads: int) -> None:
    """Write models/NAME from a training run. An older folder of it stays until the new one is complete.

    threads: with which it was trained, for the model card.
    Raises FileNotFoundError if the run has no checkpoint.
    """
    model = LlamaForCausalLM.from_pretrained(run / "model", dtype=torch.bfloat16)
    with atomic_folder(data.MODELS / name, replace=True) as folder:
        model.save_pretrained(folder)
        PreTrainedTokenizerFast.from_pretrained(run / "model").save_pretrained(folder)
        shutil.copy(run / "log.jsonl", folder / "training-log.jsonl")
        write_manifest(folder)
        loaded = load(folder)
        measured = evaluate(loaded)
        (folder / "evaluation.json").write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
        (folder / "README.md").write_text(card(name, folder, loaded.parameters, measured, threads), "utf-8")
        write_manifest(folder)


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file of a folder and its subfolders into manifest.json."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    digests = {p.relative_to(folder).as_posix(): data.sha256(p) for p in files}
    (folder / "manifest.json").write_text(json.dumps({"sha256": digests}, indent=1) + "\n", "utf-8")


def card(name: str, folder: Path, parameters: int, measured: dict[str, Any], threads: int) -> str:
    """Return the model card. All its figures come from the run or from `measured`."""
    from bankworld import schema

    config = json.loads((folder / "config.json").read_text("utf-8"))
    last = json.loads((folder / "training-log.jsonl").read_text("utf-8").splitlines()[-1])
    here, small = machine(), SIZES[name].grow_from
    rows = ""
    for setting, text in SETTINGS.items():
        row = measured[setting]
        low, high = row["interval"]
        rows += f"| {text} | {row['exact_match']:.1%} | {low:.1%}-{high:.1%} | {row['questions']} |\n"
    return CARD.format(
        name=name,
        parameters=parameters,
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        megabytes=(folder / "model.safetensors").stat().st_size / 1e6,
        wordings=sum(len(a.asks) for t in schema.texts().values() for a in t.attributes.values()),
        steps=last["step"],
        tokens=last["tokens"] / 1e6,
        minutes=last["seconds"] / 60,
        threads=threads,
        cores=os.cpu_count(),
        processor=here["processor"],
        grown=f"| begun from | {small}, doubled in width without changing what it computes |\n"
        if small
        else "",
        rows=rows,
        perplexity=measured["perplexity"],
        labelling=measured["labelling_8"]["accuracy"],
        messages=measured["labelling_8"]["messages"],
        chance=measured["labelling_8"]["chance"],
        nearest=measured["labelling_8"]["nearest"],
    )
