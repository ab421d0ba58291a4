"""Engine.score (a prompt and all labels in one pass) beside one label at a time, and beside generating."""

import torch
import transformers

from course_lib import data
from course_lib.measure import machine, measure
from course_lib.models import load
from course_lib.models.drivers.scoring import log_probabilities
from course_lib.rag.prompt import label_prompt


def compare(name: str, prompts: list[str], labels: list[str]) -> None:
    """Print the time of all labels together, and of the other ways as a multiple of it."""
    model = load(name)
    ids = [model.ids(model._prompt(p)) for p in prompts]
    tails = [model.tokenizer.encode(label, add_special_tokens=False) for label in labels]
    ways = {
        "one label at a time, a pass each": lambda: [
            log_probabilities(model.model, [*p, *t]) for p in ids for t in tails
        ],
        f"one generate call for each of the {len(ids) * len(tails)}": lambda: [
            model.generate([p], max_output_length=len(t)) for p in prompts for t in tails
        ],
        f"one generate call for each of the {len(ids)} prompts": lambda: [
            model.generate([p], max_output_length=16) for p in prompts
        ],
    }
    together = measure(lambda: model.score(prompts, labels), repeats=5)
    tokens = sum(map(len, ids)) / len(ids)
    print(f"{name}: {len(tails)} labels x {len(ids)} prompts of {tokens:.0f} tokens\n  score: {together}")
    for what, way in ways.items():
        other = measure(way, repeats=3, warm_up=0)
        print(f"  {what}: {other.median:.2f} s, {other.median / together.median:.1f} times as long")


def main() -> None:
    train = data.load_messages("train")
    labels = sorted({m.intent for m in train})[:16]
    shown = [(next(m.message for m in train if m.intent == label), label) for label in labels[:8]]
    print(machine(), "torch", torch.__version__, "transformers", transformers.__version__)
    for name in ("haneul-1m", "haneul-4m"):
        compare(name, [label_prompt(m.message, shown) for m in data.load_messages("validation")[:32]], labels)


if __name__ == "__main__":
    main()
