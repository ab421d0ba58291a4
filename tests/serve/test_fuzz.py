"""Two thousand bodies with one fault each: the server never fails, and every refusal names its field."""

import asyncio
import copy
import json
import random
import re
from typing import Any

import httpx
import pytest

from course_lib.serve.app import ROUTES, application
from course_lib.serve.worker import Worker

REQUIRED = ("model", "messages", "prompt", "input", "source", "destination")
BODIES, MAX_RUNNING, SEED = 2000, 4, 7
ABSENT = "fuzz:absent"  # nothing is deleted, so every body finds the same models
MODEL = "haneul-300k"
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
OPTIONS = {
    "num_ctx": 64,
    "num_predict": 2,
    "temperature": 0.5,
    "seed": 3,
    "stop": ["#"],
    "top_k": 5,
    "top_p": 0.9,
    "repeat_penalty": 1.1,
}
ASKING = {
    "model": MODEL,
    "stream": False,
    "format": {"enum": ["yes"]},
    "options": OPTIONS,
    "keep_alive": "5m",
}
OPENAI = {
    "model": MODEL,
    "max_tokens": 2,
    "temperature": 0.5,
    "seed": 3,
    "stop": "#",
    "top_p": 0.9,
    "n": 1,
    "user": "me",
    "stream": True,
    "stream_options": {"include_usage": True},
    "response_format": {"type": "json_object"},
}
EMBEDDING = {"model": "all-minilm", "input": ["a", "b"]}
SOUND = {
    "/api/generate": ASKING | {"prompt": "Hi", "system": "Be brief."},
    "/api/chat": ASKING | {"messages": TURNS, "stream": True},
    "/api/embed": EMBEDDING | {"truncate": True, "options": {"num_ctx": 64}, "keep_alive": 5},
    "/api/embeddings": {"model": "all-minilm", "prompt": "a"},
    "/api/pull": {"model": f"{MODEL}:q4_0", "stream": False},
    "/api/show": {"model": MODEL, "verbose": False},
    "/api/create": {
        "from": MODEL,
        "model": "fuzz:made",
        "system": "x",
        "parameters": OPTIONS,
        "stream": False,
    },
    "/api/copy": {"source": MODEL, "destination": "fuzz:copy"},
    "/api/delete": {"model": ABSENT},
    "/v1/chat/completions": OPENAI | {"messages": TURNS},
    "/v1/completions": OPENAI | {"prompt": ["Hi"]},
    "/v1/embeddings": EMBEDDING | {"encoding_format": "base64"},
}
JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**40,
    -(10**40),
    0.5,
    1e308,
    -1e-308,
    "",
    " ",
    "x",
    "json",
    "../../etc/passwd",
    "a\0b",
    "\n",
    "é" * 3000,
    "word " * 3000,
    "-1m",
    "9e9h",
    "{}",
    "<|end|><|assistant|>",
    "하늘",
    [],
    [[]],
    [None],
    [1, 2],
    ["", "x"],
    {},
    {"a": 1},
    {"type": "object"},
    {"type": "banana"},
    {"$ref": "#"},
    {"maxItems": 10**9},
    {"role": "user"},
    [{"role": "user", "content": None}],
    [{"type": "text", "text": "x"}],
    "name:tag:tag",
    {"type": "json_schema", "json_schema": {"schema": {}}},
]


def places(value, path=()):
    """The path of every value within a body."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list) and inner:
            yield from places(inner, (*path, key))


def faulty(draw, body):
    """A copy of `body` with one fault, and the path where it lies."""
    body, path = copy.deepcopy(body), draw.choice(list(places(body)))
    holder = body
    for key in path[:-1]:
        holder = holder[key]
    kind = draw.choice(["value", "value", "value", "absent", "unknown", "deep"])
    if kind == "absent":
        del holder[path[-1]]
    elif kind == "unknown":
        path = ("".join(draw.choices("abcdefghij_é0", k=8)),)
        body[path[0]] = draw.choice(JUNK)
    else:
        holder[path[-1]] = nested(draw.randrange(1, 400)) if kind == "deep" else draw.choice(JUNK)
    return body, path


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value] if depth % 2 else {"a": value}
    return value


def spoilt(draw, text):
    """A text that is no JSON, or another than it was."""
    at = draw.randrange(len(text))
    return draw.choice(
        [
            text[:at],
            text[:at] + bytes([draw.randrange(256)]) + text[at + 1 :],
            draw.randbytes(at),
            b"",
            b"[" * 100_000,
            b"NaN",
            b"5",
            text.replace(b'"', b"'"),
            b"\xef\xbb\xbf" + text,
            text.decode().encode("utf-16"),
            b'{"model": "\\ud800"}',
            text * 2,
        ]
    )


def requests():
    draw, methods = random.Random(SEED), {path: method for method, path, _, _ in ROUTES}
    assert set(methods) == set(SOUND)
    for i in range(BODIES):
        url = list(SOUND)[i % len(SOUND)]
        if draw.random() < 0.15:
            yield methods[url], url, spoilt(draw, json.dumps(SOUND[url]).encode()), ()
        else:
            body, path = faulty(draw, SOUND[url])
            yield methods[url], url, json.dumps(body).encode(), path


def refusals(reply):
    """The error texts of a reply, those within a stream, too."""
    parts = [
        p.removeprefix("data: ") for p in reply.text.splitlines() if p.strip() not in ("", "data: [DONE]")
    ]
    errors = [e for p in parts if isinstance(body := json.loads(p), dict) and (e := body.get("error"))]
    return [e["message"] if isinstance(e, dict) else e for e in errors]


def check(reply, path, sent):
    errors = refusals(reply)
    assert reply.status_code == 200 or errors, (reply.status_code, reply.text)
    assert reply.status_code in (200, 400, 404), (reply.status_code, sent, errors)
    for text in errors:
        assert "Traceback" not in text and "course_lib" not in text and len(text) < 1000, text
        if ABSENT in text:
            continue
        mine, prefix = [str(p) for p in path], re.match(r"[^: ]+(?=: )", text)
        if path and "recursion limit" not in text:  # what is to blame, or the field that it made impossible
            assert mine[0] in text or mine[-1] in text, (path, text, sent[:300])
        elif prefix:
            assert prefix[0] == "body" or prefix[0].split(".")[0] in str(sent) or prefix[0] in REQUIRED, text
        else:  # the text itself names the field
            assert {"body", *REQUIRED} & set(re.findall(r"\w+", text)), text


async def ask(client, waiting):
    count = 0
    for method, url, content, path in waiting:
        reply = await asyncio.wait_for(
            client.request(method, url, content=content), 60
        )  # a hang, not a slow machine
        check(reply, path, content)
        count += reply.status_code != 200
    return count


@pytest.mark.parametrize("url", SOUND)
def test_the_sound_bodies_are_sound(http, url):
    method = next(m for m, path, _, _ in ROUTES if path == url)
    reply = http.request(method, url, json=SOUND[url])
    assert reply.status_code == (404 if url == "/api/delete" else 200) and (
        url == "/api/delete" or not refusals(reply)
    )


def test_two_thousand_faulty_bodies(store):
    async def all_of_them():
        worker, waiting = Worker(store), requests()
        transport = httpx.ASGITransport(application(worker))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            counts = await asyncio.gather(*(ask(client, waiting) for _ in range(MAX_RUNNING)))
        assert worker.outstanding == 0
        worker.close()
        return sum(counts)

    refused = asyncio.run(all_of_them())
    assert BODIES * 0.5 < refused < BODIES, "faults that are none, or nothing but faults"
