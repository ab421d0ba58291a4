"""Two workers on Ray beside one process: answers of haneul-4m, vectors of MiniLM.

Needs `pip install -e ".[cluster]"`. One process computes with as many threads as there are cores, a worker
with one. Ray's start is measured apart.
"""

from __future__ import annotations

import time
from functools import partial
from importlib.metadata import version
from typing import Any

from course_lib import data
from course_lib.batch import map_batches, model_function
from course_lib.measure import machine
from course_lib.models.catalog import MINILM
from course_lib.rag.answering import given_passages, prompt_for
from course_lib.ray_connection import connected

REPEATS = 3


def beside(name: str, load: Any, items: list[str], batch_size: int) -> None:
    """Print items per second in one process and in two workers, which both load the model."""
    for _ in range(REPEATS):
        seconds, values = {}, {}
        for address in (None, "local"):
            start = time.perf_counter()
            values[address] = map_batches(load, items, batch_size=batch_size, address=address)
            seconds[address] = time.perf_counter() - start
        here, there = seconds[None], seconds["local"]
        same = values[None] == values["local"]
        rates = f"one process {len(items) / here:.1f}/s, two workers {len(items) / there:.1f}/s"
        print(f"{name}, {len(items)}: {rates}, ratio {here / there:.2f}, equal: {same}", flush=True)


def main() -> None:
    print(machine(), "ray", version("ray"))
    passages = data.load_passages()
    questions = [q for q in data.load_questions("validation") if len(q.gold) == 1][:256]
    prompts = [prompt_for(q, given_passages(q, passages, 2)) for q in questions]
    start = time.perf_counter()
    with connected("local"):
        print(f"Ray starts in {time.perf_counter() - start:.1f} s")
        beside("answers", partial(model_function, "haneul-4m", "generate", max_output_length=48), prompts, 16)
        texts = [message.message for message in data.load_messages("train")][:2048]
        beside("vectors", partial(model_function, MINILM, "embed"), texts, 64)


if __name__ == "__main__":
    main()
