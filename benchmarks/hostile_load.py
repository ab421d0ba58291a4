"""Honest and hostile clients of the course's server at the same time.

python -m benchmarks.hostile_load 600    seconds; prints how many honest requests were not answered
"""

import json
import random
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count
from typing import Any

import httpx
import psutil

from course_lib.measure import machine
from course_lib.serve import discovery
from course_lib.tables import table

Body = dict[str, Any]
MODEL, EMBEDDER, GOOD, BAD = "haneul-300k", "all-minilm", 4, 3  # clients of either kind
TURNS, SHORT = [{"role": "user", "content": "Hi"}], {"num_predict": 16}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
HONEST: dict[str, tuple[str, Body | None]] = {
    "chat": ("/api/chat", {"model": MODEL, "messages": TURNS, "options": SHORT, "stream": False}),
    "stream": ("/api/chat", {"model": MODEL, "messages": TURNS, "options": SHORT}),
    "openai": ("/v1/chat/completions", {"model": MODEL, "messages": TURNS, "max_tokens": 16}),
    "schema": ("/api/chat", {"model": MODEL, "messages": TURNS, "format": PERSON, "options": SHORT}),
    "response_format": (
        "/v1/chat/completions",
        {"model": MODEL, "messages": TURNS, "max_tokens": 16, "response_format": FORMAT},
    ),
    "embed": ("/api/embed", {"model": EMBEDDER, "input": "a"}),
    "tags": ("/api/tags", None),
    "ps": ("/api/ps", None),
}
REFUSED: dict[str, tuple[str, Body, dict[str, str]]] = {
    "properties": ("/api/chat", {"format": {"properties": {f"k{i}": {} for i in range(5000)}}}, {}),
    "pattern": ("/api/chat", {"format": {"type": "string", "pattern": "^((a{1000}){1000})$"}}, {}),
    "messages": ("/api/chat", {"messages": TURNS * 20_000}, {}),
    "long prompt": ("/api/generate", {"prompt": "word " * 700_000}, {}),
    "long body": ("/api/generate", {"prompt": "a" * 6_000_000}, {}),
    "numbers as texts": ("/v1/embeddings", {"input": [1] * 1_000_000}, {}),
    "compressed": ("/api/generate", {}, {"Content-Encoding": "gzip"}),
    "another host": ("/api/generate", {"prompt": "Hi"}, {"Host": "evil.example"}),
    "another page": ("/api/generate", {"prompt": "Hi"}, {"Origin": "https://evil.example"}),
}
POST = "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
numbers = count()


def half(text: str, connections: int) -> Callable[[str], None]:
    """Requests that are not finished, for a second."""

    def attack(url: str) -> None:
        with ExitStack() as stack:
            for _ in range(connections):
                stack.enter_context(sent(url, text.encode()))
            time.sleep(1)

    return attack


def sent(url: str, data: bytes) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(10)
    connection.sendall(data)
    return connection


def request(path: str, body: Body) -> bytes:
    content = json.dumps(body)
    return f"{POST % path}Content-Length: {len(content)}\r\n\r\n{content}".encode()


def leave(url: str) -> None:
    """Clients that leave in the midst of a request, and of a long answer."""
    long = {"model": "haneul-4m", "prompt": "The", "raw": True, "options": {"num_predict": -1}}
    for data in (request("/api/generate", long), request("/api/generate", long | {"stream": False})):
        with sent(url, data):
            time.sleep(0.3)
        for size in range(0, len(data), 9):
            sent(url, data[:size]).close()


def do_not_read(url: str) -> None:
    """A client that asks for a lot, and reads nothing."""
    with sent(url, request("/api/show", {"model": MODEL, "verbose": True}) * 30):
        time.sleep(1)


def delete_in_use(url: str) -> None:
    name = f"copy{next(numbers)}"
    httpx.post(f"{url}/api/copy", json={"source": "haneul-1m", "destination": name}, timeout=60)
    with sent(url, request("/api/generate", {"model": name, "prompt": "The"})):
        httpx.request("DELETE", f"{url}/api/delete", json={"model": name}, timeout=60)
        httpx.post(f"{url}/api/generate", json={"model": MODEL, "keep_alive": 0}, timeout=60)


def flood_of_schemas(url: str) -> None:
    """Eight new JSON schemas at the same time, just within the bounds."""

    def ask(_: int) -> None:
        names = [f"k{i}_{next(numbers)}" for i in range(100)]
        parts = {name: {"type": "string", "description": "d" * 120} for name in names}
        schema = {"type": "object", "properties": parts, "required": names}
        body = HONEST["chat"][1] or {}
        httpx.post(f"{url}/api/chat", json=body | {"format": schema}, timeout=120).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


ATTACKS: dict[str, Callable[[str], None]] = {
    "half a header": half("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX:", 60),
    "half a body": half(POST % "/api/chat" + "Content-Length: 99\r\n\r\n{", 80),
    "tiny chunks": half(POST % "/api/show" + "Transfer-Encoding: chunked\r\n\r\n" + "1\r\na\r\n" * 20_000, 1),
    "garbage": half("\x16\x03\x01 nonsense\r\n\r\n", 20),
    "leave": leave,
    "do not read": do_not_read,
    "delete in use": delete_in_use,
    "flood of schemas": flood_of_schemas,
}


def honest_requests(url: str, end: float, kinds: Iterator[str], seconds: dict[str, list[float]]) -> list[str]:
    """Ask until the end. Returns what was not answered; `seconds` gets the times of each kind."""
    failed = []
    with httpx.Client(base_url=url, timeout=120) as client:
        while time.monotonic() < end:
            kind, begun = next(kinds), time.monotonic()
            path, body = HONEST[kind]
            try:
                reply = client.request("POST" if body else "GET", path, json=body)
                seconds[kind].append(time.monotonic() - begun)
                if reply.status_code != 200 or '"error"' in reply.text:
                    failed.append(f"{kind}: {reply.status_code} {reply.text[:200]}")
            except httpx.HTTPError as error:
                failed.append(f"{kind}: {error!r}")
            time.sleep(0.1)
    return failed


def attacks(url: str, end: float, kinds: Iterator[str], seconds: dict[str, list[float]]) -> Counter[str]:
    """Attack until the end. Returns the statuses of what should be refused."""
    statuses = Counter[str]()
    while time.monotonic() < end:
        kind, begun = next(kinds), time.monotonic()
        with suppress(OSError, httpx.HTTPError):  # the server may close a connection
            if kind in ATTACKS:
                ATTACKS[kind](url)
            else:
                path, body, headers = REFUSED[kind]
                reply = httpx.post(url + path, json={"model": MODEL} | body, headers=headers, timeout=60)
                statuses[f"{kind}: {reply.status_code}"] += 1
                seconds[kind].append(time.monotonic() - begun)
    return statuses


def drawn(names: list[str], seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    while True:
        yield rng.choice(names)


def main() -> None:
    server, seconds = discovery.start(), defaultdict[str, list[float]](list)
    assert server.process is not None
    process = psutil.Process(server.process.pids[-1])
    end, memory = time.monotonic() + float(sys.argv[1]), list[float]()
    good, bad = [*HONEST], [*ATTACKS, *REFUSED]
    with ThreadPoolExecutor(GOOD + BAD) as pool:
        honest = [pool.submit(honest_requests, server.url, end, drawn(good, i), seconds) for i in range(GOOD)]
        hostile = [pool.submit(attacks, server.url, end, drawn(bad, i), seconds) for i in range(BAD)]
        while time.monotonic() < end:
            memory.append(process.memory_info().rss / 1e6)
            time.sleep(1)
    failed = [text for job in honest for text in job.result()]
    print(
        f"{sum(len(seconds[kind]) for kind in good)} honest requests, {len(failed)} not answered", *failed[:5]
    )
    rows = [
        [kind, f"{len(took)}", f"{sorted(took)[len(took) // 2]:.2f}", f"{max(took):.2f}"]
        for kind, took in sorted(seconds.items())
    ]
    print(table(["request", "number", "median, s", "longest, s"], rows))
    print(*sorted(sum((job.result() for job in hostile), Counter[str]()).items()), sep="\n")
    print(f"memory of the server: at most {max(memory):.0f} MB, at the end {memory[-1]:.0f} MB")
    server.close()


if __name__ == "__main__":
    print(machine())
    main()
