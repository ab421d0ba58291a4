"""The course's server beside other servers, and beside the bare engine.

    python -m benchmarks.serving servers   1 to 64 clients: course, llama.cpp's own server, transformers serve
    python -m benchmarks.serving engine    eight clients beside one, and beside the bare engine

`transformers serve` needs `pip install "transformers[serving]"`.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import Any, NamedTuple

import httpx
import ollama
import psutil

from benchmarks.llamacpp import own_server
from course_lib import data
from course_lib.measure import Estimate, machine, median_of, paired_ratio
from course_lib.measure.load import Load, closed_loop
from course_lib.models import load
from course_lib.rag.answering import given_passages, prompt_for
from course_lib.serve import discovery
from course_lib.serve.managed import ManagedServer
from course_lib.tables import table

MODEL, CLIENTS, REQUESTS, ROUNDS = "haneul-4m", 8, 50, 7
Request = dict[str, Any]

SERVED, SLOTS, TOKENS, CROWDS, TURNS = "haneul-1m", 16, 32, (1, 4, 16, 64), 3
BATCHING = ["--continuous-batching", "--cb-max-memory-percent", "0.02"]  # by default it took 14.7 GB here


class Served(NamedTuple):
    """A server: the URL of its OpenAI protocol, the model's name in requests, and its process."""

    url: str
    model: str
    process: int


@contextmanager
def all_servers() -> Iterator[dict[str, Served]]:
    """The servers with the same weights in 32 bits, all running."""
    file = load(SERVED, driver="llamacpp").file
    with ExitStack() as stack:
        own = stack.enter_context(ManagedServer("course", {"source": SERVED, "batch_size": SLOTS}))
        ollama.Client(own.url).pull(f"{SERVED}:f32")
        address, process = stack.enter_context(own_server(file, SLOTS, 1))
        spec = {"source": SERVED, "precision": "float32", "device": "cpu"}
        served = {
            "course": Served(own.url, f"{SERVED}:f32", own.pids[-1]),
            "llama.cpp's own": Served(address, SERVED, process),
        }
        for name, arguments in (("transformers serve", []), ("with batching", BATCHING)):
            peer = stack.enter_context(ManagedServer("transformers", spec, arguments=arguments))
            served[name] = Served(peer.url, peer.model, peer.pids[-1])
        yield served


def sender(served: Served, questions: list[str], texts: dict[int, str]) -> Callable[[int], Iterator[str]]:
    """A function that sends request i and yields the pieces of its answer, which it adds to `texts`."""
    # llama.cpp's server closes idle connections, so each request to any server opens its own.
    closes: Any = {"headers": {"Connection": "close"}, "limits": httpx.Limits(max_connections=None)}
    client = httpx.Client(base_url=served.url, timeout=600, **closes)

    def send(i: int) -> Iterator[str]:
        turns = [{"role": "user", "content": questions[i % len(questions)]}]
        body = {
            "model": served.model,
            "messages": turns,
            "max_tokens": TOKENS,
            "temperature": 0,
            "stream": True,
        }
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    piece = choices and choices[0]["delta"].get("content")
                    if piece:
                        texts[i] = texts.get(i, "") + piece
                        yield piece

    return send


def memory(process: int) -> float:
    """Resident MB of a process and its children."""
    tree = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    return sum(p.memory_info().rss for p in tree) / 1e6


def compare_servers() -> None:
    """Rounds of all servers one after the other, for each number of clients."""
    questions = [q.question for q in data.load_questions("validation")]
    count_tokens = load(SERVED).count_tokens
    with all_servers() as servers:
        for clients in CROWDS:
            count = max(32, 2 * clients)
            loads: dict[str, list[Load]] = {name: [] for name in servers}
            texts: dict[str, dict[int, str]] = {}
            for _ in range(TURNS + 1):  # the first warms up
                for name, served in servers.items():
                    texts[name] = {}
                    loads[name].append(closed_loop(sender(served, questions, texts[name]), clients, count))
            rates = {
                name: [sum(map(count_tokens, texts[name].values())) / run.seconds for run in runs[1:]]
                for name, runs in loads.items()
            }
            same = {
                name: sum(texts[name].get(i) == text for i, text in texts["course"].items())
                for name in servers
            }
            rows = [
                [
                    name,
                    str(median_of(rates[name])),
                    str(paired_ratio(rates["course"], rates[name])),
                    *(
                        str(_of(loads[name], *what).scaled(1000))
                        for what in (("ttft", 0.5), ("latency", 0.95))
                    ),
                    f"{memory(served.process):,.0f}",
                    f"{same[name]} of {count}",
                ]
                for name, served in servers.items()
            ]
            head = [
                "server",
                "tokens/s",
                "course / it",
                "first token, ms",
                "p95, ms",
                "MB",
                "same text",
            ]
            print(f"{clients} clients\n{table(head, rows)}", flush=True)
            for name, runs in loads.items():
                if errors := sum((run.errors for run in runs), Counter()):
                    print(f"{name}: {errors}", flush=True)


def _of(runs: list[Load], what: str, q: float) -> Estimate:
    """A quantile over the requests of all rounds but the first."""
    return Load(tuple(r for run in runs[1:] for r in run.requests)).quantile(what, q)


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


def compare_engine() -> None:
    """The server beside the engine that it runs."""
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
    names = ("xllamacpp", "transformers", "torch", "uvicorn", "starlette", "ollama", "httpx")
    print(machine(), *(f"{name} {version(name)}" for name in names))
    {"servers": compare_servers, "engine": compare_engine}[sys.argv[1]]()
