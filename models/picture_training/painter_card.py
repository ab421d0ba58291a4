"""Evaluate haneul-painter with its judge (a classifier of pictures), and write its model card.

The judge agrees with a prompt if it sees all of it in the picture. Guidance is how strongly a picture follows
its prompt. The Fréchet distance tells how much two sets of pictures differ as a whole; 0 means not at all.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bankworld.pictures.things import EVERYTHING, SEEN, UNSEEN, draw_thing
from pretraining.publish import write_manifest

from course_lib import load
from course_lib.measure import machine
from course_lib.measure.frechet import frechet_distance
from course_lib.measure.intervals import mean_of
from course_lib.vision.judge import Judge
from picture_training.face_card import share

CARD = Path(__file__).with_name("painter_card.md")
STEPS, GUIDANCE = 20, 3.0  # settings of the main measurement
SWEEP_STEPS, SWEEP_GUIDANCE = (1, 2, 4, 8, 16), (1, 2, 3, 5, 8)  # settings that are compared
FEW_STEPS = 8  # number of steps in the comparison of guidances
SEEDS = 4  # pictures of each prompt that training left out


def agreement(judge: Judge, pictures: Sequence[Any], asked: Sequence[str], seeds: int = 1) -> list[float]:
    """Return the share of pictures that show the whole prompt, with a 95% interval over prompts.

    asked: the prompt of each picture; each prompt has `seeds` consecutive pictures.
    """
    right = [seen == prompt for seen, prompt in zip(judge.seen(pictures), asked, strict=True)]
    estimate = mean_of(np.reshape(right, (-1, seeds)).mean(1).tolist())
    return [estimate.value, estimate.low, estimate.high]


def judge_accuracy(judge: Judge, count: int = 2000) -> list[float]:
    """Return the share of new drawings that the judge describes rightly, with a 95% interval."""
    rng = random.Random("judge/test")
    things = [rng.choice(EVERYTHING) for _ in range(count)]
    drawn = [draw_thing(thing, rng) for thing in things]
    return agreement(judge, drawn, [thing.prompt for thing in things])


def sweep(model: Any, judge: Judge, asked: list[str], steps: int, guidance: float, real: Any) -> list[Any]:
    """Return the agreement on both halves of the prompts, and the Fréchet distance of all pictures.

    real: the judge's features, a vector of numbers, of one drawing per prompt.
    """
    drawn = model.draw(asked, num_inference_steps=steps, guidance=guidance, seed=500)
    half = len(asked) // 2
    results: list[Any] = [agreement(judge, drawn[p], asked[p]) for p in (slice(half), slice(half, None))]
    return [*results, frechet_distance(real, judge.features(drawn))]


def measure_sweeps(model: Any, judge: Judge) -> dict[str, list[Any]]:
    """Measure numbers of steps without guidance, and guidances with FEW_STEPS steps.

    The prompts are 72 of the training and the 72 that training left out.
    """
    rng = random.Random(0)
    things = rng.sample(SEEN, len(UNSEEN)) + UNSEEN
    asked = [thing.prompt for thing in things]
    real, others = (judge.features([draw_thing(thing, rng) for thing in things]) for _ in range(2))
    results: dict[str, list[Any]] = {"frechet of other drawings": [frechet_distance(real, others)]}
    for steps in SWEEP_STEPS:
        results[f"steps {steps}"] = sweep(model, judge, asked, steps, 1, real)
    for guidance in SWEEP_GUIDANCE:
        results[f"guidance {guidance:g}"] = sweep(model, judge, asked, FEW_STEPS, guidance, real)
    return results


def evaluate(folder: Path, log: Path) -> None:
    """Write prompts.json, evaluation.json, the training log, the model card and the checksums into `folder`.

    log: the file of the training log.
    """
    shutil.copy(log, folder / "training-log.jsonl")
    seen, unseen = [thing.prompt for thing in SEEN], [thing.prompt for thing in UNSEEN]
    prompts = json.dumps({"seen": seen, "held_out": unseen}, indent=1) + "\n"
    (folder / "prompts.json").write_text(prompts, "utf-8")
    model: Any = load(str(folder), task="image-generation", batch_size=24)
    judge = Judge(folder / "judge")
    measured: dict[str, Any] = {"weights": model.parameters, "judge": judge_accuracy(judge)}

    begun = time.process_time()
    guided = model.draw(seen, num_inference_steps=STEPS, guidance=GUIDANCE, seed=1000)
    measured["seconds"] = (time.process_time() - begun) / len(seen)
    asked = [prompt for prompt in unseen for _ in range(SEEDS)]
    composed = model.draw(asked, num_inference_steps=STEPS, guidance=GUIDANCE, seed=2000)
    measured |= {"seen": agreement(judge, guided, seen), "held_out": agreement(judge, composed, asked, SEEDS)}

    rng = random.Random("frechet")
    drawings, others = ([draw_thing(thing, rng) for thing in SEEN] for _ in range(2))
    free = model.draw(seen, num_inference_steps=STEPS, guidance=1, seed=1000)
    features = judge.features(drawings)
    for name, pictures in {"drawings": others, "guided": guided, "unguided": free}.items():
        measured[f"frechet_{name}"] = frechet_distance(features, judge.features(pictures))

    measured |= measure_sweeps(model, judge)
    (folder / "evaluation.json").write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    write_card(folder)


def write_card(folder: Path) -> None:
    """Write the model card from evaluation.json and the training log, then the checksums."""
    measured = json.loads((folder / "evaluation.json").read_text("utf-8"))
    last = json.loads((folder / "training-log.jsonl").read_text("utf-8").splitlines()[-1])

    def rows(of: str, values: Sequence[float]) -> str:
        lines = []
        for value in values:
            seen, held_out, distance = measured[f"{of} {value:g}"]
            lines.append(f"| {value:g} | {share(seen)} | {share(held_out)} | {distance:.2f} |")
        return "\n".join(lines)

    text = CARD.read_text("utf-8").format(
        weights=measured["weights"],
        megabytes=sum(p.stat().st_size for p in folder.rglob("*.safetensors")) / 1e6,
        steps=last["step"],
        minutes=last["seconds"] / 60,
        processor=machine()["processor"],
        seconds=measured["seconds"],
        judge=share(measured["judge"], 2),
        seen=share(measured["seen"]),
        held_out=share(measured["held_out"]),
        of_steps=rows("steps", SWEEP_STEPS),
        of_guidance=rows("guidance", SWEEP_GUIDANCE),
        few_steps=FEW_STEPS,
        other_drawings=measured["frechet of other drawings"][0],
        **{name: value for name, value in measured.items() if name.startswith("frechet_")},
    )
    (folder / "README.md").write_text(text, "utf-8")
    write_manifest(folder)
