"""The driver llamacpp and the course's server beside llama.cpp's own server, on the same file and threads.

    python benchmarks/llamacpp.py decode FILE.gguf  tokens/s of one text, idle and beside two busy processes
    python benchmarks/llamacpp.py requests          requests/s of haneul-1m for 1, 4 and 16 clients

The threads of all of them wait without spinning; OMP_WAIT_POLICY=active measures the other.
"""

import http.client
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from course_lib import data
from course_lib.measure import machine, median_of, paired_ratio
from course_lib.measure.hardware import computing_threads
from course_lib.models import ModelSpec, load
from course_lib.models.gguf import llamacpp_server
from course_lib.serve import discovery

ROUNDS, TOKENS, REQUESTS, CLIENTS, BUSY = 9, 32, 128, (1, 4, 16), 2


@contextmanager
def own_server(file: Path, slots: int, threads: int) -> Iterator[tuple[str, int]]:
    """Address and process id of llama.cpp's own server."""
    spec = ModelSpec.parse("haneul-1m", driver="llamacpp")
    values = llamacpp_server.settings(spec, file, slots, 2048, threads) | {"hostnames": ["127.0.0.1"]}
    order = {"instances": [values], "gpu": False, "adapters": [], "folder": "/nowhere"}
    command = [sys.executable, "-P", str(llamacpp_server.PROGRAM)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        print(json.dumps(order), file=process.stdin, flush=True)
        yield json.loads(process.stdout.readline())["addresses"][0], process.pid
        process.stdin.close()


def post(connection: http.client.HTTPConnection, path: str, body: Any) -> Any:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def connect(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(address).netloc)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other work on this machine."""
    workers = [multiprocessing.Process(target=spin, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    yield
    for worker in workers:
        worker.kill()


def spin() -> None:
    while True:
        pass


def decode(file: Path) -> None:
    """Tokens per second of one text."""
    engine = load(file, driver="llamacpp", task="text-generation", context_length=2048)
    threads, prompt = computing_threads(), "Once upon a time there was a"
    options = {"max_output_length": TOKENS, "min_output_length": TOKENS}
    body = {
        "prompt": prompt,
        "n_predict": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "cache_prompt": False,
    }
    with own_server(file, 1, threads) as (own, _):
        ways: dict[str, Callable[[], Any]] = {
            "the driver": lambda: engine.generate([prompt], **options),
            "llama.cpp's server": lambda: post(connect(own), "/completion", body),
        }
        for others in (0, BUSY):
            found: dict[str, list[float]] = {way: [] for way in ways}
            with busy(others):
                for _ in range(ROUNDS):
                    for way, run in ways.items():
                        begun = time.perf_counter()
                        run()
                        found[way].append(TOKENS / (time.perf_counter() - begun))
            print(f"{file.name}, {threads} threads read, {others} busy processes: tokens/s")
            for way, rates in found.items():
                print(f"  {way:20} {median_of(rates)}")
            print(f"  ratio                {paired_ratio(*found.values())}")


def seconds_each(address: str, path: str, bodies: list[Any], clients: int) -> float:
    """Wall seconds per request of `clients` that each send a share of the requests one after the other."""

    def client(number: int) -> None:
        connection = connect(address)
        for body in bodies[number::clients]:
            assert "choices" in (reply := post(connection, path, body)), reply
        connection.close()

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return (time.perf_counter() - begun) / len(bodies)


def cpu_seconds(process_id: int) -> float:
    process = psutil.Process(process_id)
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def requests() -> None:
    """Requests per second: a question to haneul-1m in 8 bits, and an answer of at most 48 tokens."""
    model = "haneul-1m"
    file = load(model, driver="llamacpp", quantization="q8_0").file
    questions = [q.question for q in data.load_questions("validation")[:REQUESTS]]
    bodies = [
        {"model": model, "messages": [{"role": "user", "content": q}], "max_tokens": TOKENS, "temperature": 0}
        for q in questions
    ]
    path, server = "/v1/chat/completions", discovery.start()
    assert server.process is not None
    ours = server.process.pids[-1]
    with own_server(file, 8, 1) as (own, own_pid):
        for clients in CLIENTS:
            both: dict[str, list[float]] = {"ours": [], "own": []}
            cpu = {"ours": 0.0, "own": 0.0}
            for _ in range(ROUNDS + 1):
                for way, address, pid in (("ours", server.url, ours), ("own", own, own_pid)):
                    before = cpu_seconds(pid)
                    both[way].append(seconds_each(address, path, bodies, clients))
                    cpu[way] = (cpu_seconds(pid) - before) / len(bodies) * 1e3
            each = {
                way: median_of(values[1:]).inverse() for way, values in both.items()
            }  # the first warms up
            ratio = paired_ratio(both["own"][1:], both["ours"][1:])
            print(f"{clients} clients: requests/s {each['ours']}, llama.cpp's {each['own']}, ratio {ratio}")
            print(f"  CPU ms a request {cpu['ours']:.1f} and {cpu['own']:.1f}")
    server.close()


if __name__ == "__main__":
    print(machine())
    decode(Path(sys.argv[2])) if sys.argv[1] == "decode" else requests()
