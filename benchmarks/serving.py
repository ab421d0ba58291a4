"""The course's server with eight clients, beside one client and beside the bare engine, eight at once."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import ollama

from course_lib import data
from course_lib.measure import machine, median_of, paired_ratio
from course_lib.models import load
from course_lib.rag.answering import given_passages, prompt_for
from course_lib.serve import discovery

MODEL, CLIENTS, REQUESTS, ROUNDS = "haneul-4m", 8, 50, 7
Request = dict[str, Any]


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def by_client(url: str, requests: list[Request]) -> list[str]:
    client = ollama.Client(url)
    return [client.generate(MODEL, **request).response or "" for request in requests]


def by_clients(url: str, requests: list[Request]) -> list[list[str]]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda _: by_client(url, requests), range(CLIENTS)))


def compare(what: str, url: str, requests: list[Request], engine: Any, tokens: int) -> None:
    """Rounds of all ways one after the other, so that what else the machine does falls on each of them."""
    prompts, expected = [a["prompt"] for a in requests], by_client(url, requests)
    one, eight, bare, bare_one = [], [], [], []
    for _ in range(ROUNDS):
        one.append(seconds(lambda: by_client(url, requests)) / REQUESTS)
        eight.append(seconds(lambda: by_clients(url, requests)) / REQUESTS / CLIENTS)
        bare_one.append(
            seconds(lambda: [engine.generate([p], max_output_length=tokens) for p in prompts]) / REQUESTS
        )
        bare.append(
            seconds(lambda: engine.generate(prompts * CLIENTS, max_output_length=tokens)) / REQUESTS / CLIENTS
        )
    answers = [t for texts in by_clients(url, requests) for t in zip(texts, expected, strict=True)]
    print(f"{what}: requests per second")
    for name, found in (
        ("one client", one),
        (f"{CLIENTS} clients", eight),
        ("bare, one by one", bare_one),
        ("bare, 8 at once", bare),
    ):
        print(f"  {name:18} {median_of(found).inverse()}")
    print(f"  {CLIENTS} clients / one client           {paired_ratio(one, eight)}")
    print(f"  {CLIENTS} clients / bare, 8 at once      {paired_ratio(bare, eight)}")
    print(f"  bare, 8 at once / bare, one by one {paired_ratio(bare_one, bare)}")
    print(f"  answers as of one client alone: {sum(a == b for a, b in answers)} of {len(answers)}")


def main() -> None:
    print(machine(), *(f"{p} {version(p)}" for p in ("xllamacpp", "uvicorn", "starlette", "ollama", "httpx")))
    passages = data.load_passages()
    questions = [q for q in data.load_questions("validation") if len(q.gold) == 1][:REQUESTS]
    questions_with_passage = [prompt_for(q, given_passages(q, passages, 1)) for q in questions]
    server = discovery.start()
    spec = {"source": MODEL, "driver": "llamacpp", "quantization": "q8_0", "batch_size": CLIENTS}
    requests = [{"prompt": p, "options": {"num_predict": 48}} for p in questions_with_passage]
    compare(
        "A question with its passage, some 200 tokens read and 8 written",
        server.url,
        requests,
        load(spec),
        48,
    )
    written = [{"prompt": q.question, "raw": True, "options": {"num_predict": 64}} for q in questions]
    compare(
        "A text continued by 64 tokens at most",
        server.url,
        written,
        load(spec | {"task": "text-generation"}),
        64,
    )
    server.close()


if __name__ == "__main__":
    main()
