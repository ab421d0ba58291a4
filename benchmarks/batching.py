"""A list of prompts given to Engine.generate (sorted by length, batched) beside one prompt at a time."""

import torch
import transformers

from course_lib import data
from course_lib.measure import machine, measure
from course_lib.models import load
from course_lib.rag.answering import given_passages, prompt_for


def main() -> None:
    model, passages = load("haneul-1m"), data.load_passages()
    questions = [q for q in data.load_questions("validation") if len(q.gold) == 1][:32]
    prompts = [prompt_for(q, given_passages(q, passages, 1)) for q in questions]
    batched = measure(lambda: model.generate(prompts), repeats=5)
    single = measure(lambda: [model.generate([p]) for p in prompts], repeats=5)
    print(machine(), "torch", torch.__version__, "transformers", transformers.__version__)
    print(
        f"32 prompts: batched {batched}; one at a time {single}; ratio {single.median / batched.median:.1f}"
    )


if __name__ == "__main__":
    main()
