"""Measures haneul-painter with its judge, and writes its model card."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bankworld.pictures.things import EVERYTHING, SEEN, UNSEEN, Thing, draw_thing
from picture_training.face_card import share
from pretraining.publish import seal

from course_lib import data, load
from course_lib.measure import machine
from course_lib.measure.frechet import frechet_distance
from course_lib.measure.intervals import bootstrap_interval, mean_of
from course_lib.vision.judge import Judge

NAME = "haneul-painter"
FOLDER = data.MODELS / NAME
CARD = Path(__file__).with_name("painter_card.md")
STEPS, GUIDANCE = 20, 3.0  # where the goal is measured
SWEEP_STEPS, SWEEP_GUIDANCE = (1, 2, 4, 8, 16, 32), (1.0, 2.0, 3.0, 5.0, 8.0)
SEEDS = 4  # pictures of each prompt that is held out


def agreement(
    model: Any, judge: Judge, prompts: Sequence[str], seeds: int, steps: int, guidance: float
) -> list[float]:
    """For each prompt, the share of its pictures in which the judge sees all of it."""
    asked = [prompt for prompt in prompts for _ in range(seeds)]
    drawn = model.draw(asked, num_inference_steps=steps, guidance=guidance, seed=1000)
    right = [seen == prompt for seen, prompt in zip(judge.seen(drawn), asked, strict=True)]
    return list(np.reshape(right, (len(prompts), seeds)).mean(1))


def estimate(shares: list[float]) -> list[float]:
    """Mean with its 95% interval, by resampling prompts."""
    return [float(np.mean(shares)), *bootstrap_interval(shares)]


def judge_accuracy(judge: Judge, count: int = 2000) -> list[float]:
    """Share of fresh drawings of which the judge says all right, with a Wilson interval."""
    rng = random.Random("judge/test")
    things = [rng.choice(EVERYTHING) for _ in range(count)]
    seen = judge.seen([draw_thing(thing, rng) for thing in things])
    found = mean_of([float(s == thing.prompt) for s, thing in zip(seen, things, strict=True)])
    return [found.value, found.low, found.high]


def distances(model: Any, judge: Judge, things: Sequence[Thing]) -> dict[str, float]:
    """Fréchet distances from one drawing of each thing: of other drawings, and of the painter's pictures."""
    rng = random.Random("frechet")
    real, again = ([draw_thing(thing, rng) for thing in things] for _ in range(2))
    drawn = model.draw([t.prompt for t in things], num_inference_steps=STEPS, guidance=GUIDANCE, seed=9)
    free = model.draw([t.prompt for t in things], num_inference_steps=STEPS, guidance=1.0, seed=9)
    features = judge.features(real)
    others = {"drawings": again, "guided": drawn, "unguided": free}
    return {name: frechet_distance(features, judge.features(pictures)) for name, pictures in others.items()}


def evaluate(log: Path) -> None:
    """Write prompts.json, evaluation.json, the training log, the card and the checksums."""
    shutil.copy(log, FOLDER / "training-log.jsonl")
    seen, unseen = [thing.prompt for thing in SEEN], [thing.prompt for thing in UNSEEN]
    prompts = json.dumps({"seen": seen, "held_out": unseen}, indent=1) + "\n"
    (FOLDER / "prompts.json").write_text(prompts, "utf-8")
    model, judge = load(str(FOLDER), task="image-generation", batch_size=24), Judge()
    found: dict[str, Any] = {"weights": model.parameters, "judge": judge_accuracy(judge)}
    begun = time.process_time()
    found["seen"] = estimate(agreement(model, judge, seen, 1, STEPS, GUIDANCE))
    found["seconds"] = (time.process_time() - begun) / len(seen)
    found["held_out"] = estimate(agreement(model, judge, unseen, SEEDS, STEPS, GUIDANCE))
    sample = random.Random(0).sample(seen, len(unseen))
    for steps in SWEEP_STEPS:
        found[f"steps {steps}"] = [
            estimate(agreement(model, judge, some, 1, steps, GUIDANCE)) for some in (sample, unseen)
        ]
    for guidance in SWEEP_GUIDANCE:
        found[f"guidance {guidance:g}"] = [
            estimate(agreement(model, judge, some, 1, STEPS, guidance)) for some in (sample, unseen)
        ]
    found["frechet"] = distances(model, judge, SEEN)
    (FOLDER / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    write_card()


def write_card() -> None:
    """Write the model card from evaluation.json and the training log, and the checksums."""
    found = json.loads((FOLDER / "evaluation.json").read_text("utf-8"))
    last = json.loads((FOLDER / "training-log.jsonl").read_text("utf-8").splitlines()[-1])

    def rows(of: str, values: Sequence[float]) -> str:
        return "\n".join(
            f"| {value:g} | {' | '.join(map(share, found[f'{of} {value:g}']))} |" for value in values
        )

    text = CARD.read_text("utf-8").format(
        weights=found["weights"],
        megabytes=sum(p.stat().st_size for p in FOLDER.rglob("*.safetensors")) / 1e6,
        steps=last["step"],
        minutes=last["seconds"] / 60,
        processor=machine()["processor"],
        seconds=found["seconds"],
        judge=share(found["judge"], 2),
        seen=share(found["seen"]),
        held_out=share(found["held_out"]),
        of_steps=rows("steps", SWEEP_STEPS),
        of_guidance=rows("guidance", SWEEP_GUIDANCE),
        **{f"frechet_{name}": value for name, value in found["frechet"].items()},
    )
    (FOLDER / "README.md").write_text(text, "utf-8")
    seal(FOLDER)
