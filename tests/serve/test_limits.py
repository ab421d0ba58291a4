"""What the server lets in, how much of it, and what happens when somebody goes away."""

import asyncio
import contextlib
import gzip
import http.client as http_client
import io
import json
import logging
import re
import socket
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import ValidationError
from starlette.testclient import TestClient

from course_lib import data
from course_lib.models.drivers.encoder import Encoder
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.gguf.llamacpp_server import LlamaServer
from course_lib.models.schema import Generation, json_schema
from course_lib.serve import limits, model_info, openai_schemas
from course_lib.serve.app import ROUTES, application
from course_lib.serve.channel import EMBED_BATCH, Channel
from course_lib.serve.completion import CompletionRequest
from course_lib.serve.connection import BoundedConnection
from course_lib.serve.errors import ApiError
from course_lib.serve.limits import MAX_BODY_BYTES
from course_lib.serve.ollama_protocol import PART_BYTES
from course_lib.serve.ollama_schemas import ChatBody, Options
from course_lib.serve.server import bind
from course_lib.serve.worker import Worker

GREEDY = {"temperature": 0, "repeat_penalty": 1.0}
ASK = {"model": "haneul-300k", "prompt": "Hi", "stream": False, "options": GREEDY}


# -- who may ask --


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost:1.evil.example",
        "localhost:evil",
        "evil.example@127.0.0.1",
        "[::1].evil.example",
        "[::1%25evil]",
        "127.0.0.1.evil.example",
        "10.0.0.1:11434",
        "0.0.0.0",
        "[::2]",
        "[",
        "a" * 300,
        "",
    ],
)
def test_another_host_is_refused(http, host):
    """A page whose name was made to point here (DNS rebinding) still sends its own name."""
    reply = http.get("/api/tags", headers={"host": host})
    assert reply.status_code == 403 and reply.json()["error"].startswith("Host: ")


@pytest.mark.parametrize("host", ["127.0.0.1:11434", "localhost", "LOCALHOST:1", "[::1]:80", "127.0.0.2"])
def test_this_machine_is_let_in_under_each_of_its_names(http, host):
    assert http.get("/api/version", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://localhost:80.evil.example",
    ],
)
def test_a_page_of_another_site_is_refused(http, origin):
    for path in ("/api/generate", "/v1/chat/completions"):
        reply = http.post(path, json=ASK, headers={"origin": origin, "content-type": "text/plain"})
        assert reply.status_code == 403 and "Origin: " in reply.text


@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "http://localhost"), ("origin", "https://evil.example")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "CROSS-SITE")],
        [("host", "localhost"), ("host", "evil.example")],
    ],
)
def test_every_header_counts_that_a_browser_sends_for_a_page(http, headers):
    assert http.get("/api/tags", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:8888", "https://127.0.0.1:3000", "app://obsidian.md", "vscode-webview://1a2b"],
)
def test_a_page_of_this_machine_and_an_extension_may_read_answers_as_in_ollama(http, origin):
    headers = {"origin": origin, "sec-fetch-site": "cross-site"}
    asked = headers | {"access-control-request-method": "POST", "access-control-request-headers": "x-a"}
    for reply in (http.options("/api/chat", headers=asked), http.get("/api/tags", headers=headers)):
        assert reply.status_code == 200 and reply.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in http.get("/api/tags").headers


def test_ollama_origins_adds_pages(worker, monkeypatch):
    monkeypatch.setenv("OLLAMA_ORIGINS", "https://*.example, https://one.test")
    with TestClient(application(worker), base_url="http://127.0.0.1") as asking:
        for origin, status in {
            "https://a.example": 200,
            "https://one.test": 200,
            "https://a.test": 403,
        }.items():
            assert asking.get("/api/version", headers={"origin": origin}).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com", ""])
def test_it_binds_to_this_machine_alone(host):
    with pytest.raises(Exception, match="this server only listens on this machine"):
        bind(0, host)
    with bind(0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"


# -- how much --


def test_a_body_that_is_too_long_is_refused(http, server):
    reply = http.post("/api/generate", content=b"x" * (MAX_BODY_BYTES + 1))
    assert reply.status_code == 413 and reply.json()["error"].startswith("body: more than 4,000,000 bytes")
    pieces = (b"x" * 100_000 for _ in range(MAX_BODY_BYTES // 100_000 + 2))  # no length is told beforehand
    assert httpx.post(f"{server.url}/api/generate", content=pieces, timeout=120).status_code == 413


def test_the_client_of_a_body_that_is_too_long_reads_the_refusal(server):
    """The connection was closed while the client still sent: it saw a reset connection."""
    for size in (MAX_BODY_BYTES + 1, limits.MAX_UNUSED_BYTES):
        connection = http_client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        connection.request("POST", "/v1/completions", b"x" * size)
        reply = connection.getresponse()
        assert reply.status == 413 and json.loads(reply.read())["error"]["param"] == "body"
        connection.close()


def test_a_compressed_body_is_refused_as_such(http):
    body = gzip.compress(json.dumps(ASK).encode())
    for encoding in ("gzip", "GZIP", "x" * 500):
        reply = http.post("/api/generate", content=body, headers={"content-encoding": encoding})
        assert reply.status_code == 415 and reply.json()["error"].startswith("Content-Encoding: ")
        assert len(reply.text) < 200
    assert http.post("/api/generate", json=ASK, headers={"content-encoding": "Identity"}).status_code == 200


def test_a_web_socket_is_refused_as_any_other_request(server):
    """Its connection would have left those that are bounded."""
    with connected(server.url) as client:
        client.sendall(
            b"GET /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        client.settimeout(30)
        assert client.recv(4096).startswith(b"HTTP/1.1 405")


def test_a_file_that_the_disk_cannot_hold_is_refused_before_it_comes(running):
    with connected(running) as client:
        client.sendall((UPLOAD % 7).replace(b"Length: 99", b"Length: 999999999999999999"))
        client.settimeout(20)
        assert client.recv(4096).startswith(b"HTTP/1.1 507")


def test_a_body_with_two_lengths_is_refused_and_the_connection_closed(running):
    with connected(running) as both:
        both.sendall(
            b"POST /api/show HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        )
        both.settimeout(30)
        answer = b"".join(iter(lambda: both.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/chat", b"body: it did not arrive"),
        (f"/api/blobs/sha256:{'0' * 64}", b"nothing of the file came"),
    ],
)
def test_a_body_that_does_not_come_is_not_waited_for(worker, monkeypatch, path, told):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"10")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "query_string": b"",
        "http_version": "1.1",
    }
    sent = []

    async def never():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    asyncio.run(application(worker)(scope, never, send))
    assert sent[0]["status"] == 408 and told in sent[1]["body"]
    assert not worker.uploads.running and not list(worker.store.blobs.glob(".upload-*"))


UPLOAD = b"POST /api/blobs/sha256:%064d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nG"


@pytest.fixture
def two_slow_uploads(worker, running, monkeypatch):
    """All the places, held by a byte each."""
    monkeypatch.setattr(limits, "MAX_PULLS", 2)
    monkeypatch.setattr(limits, "UPLOAD_SECONDS", 0.05)
    with connected(running) as first, connected(running) as second:
        for number, slow in enumerate((first, second)):
            slow.sendall(UPLOAD % number)
            slow.settimeout(30)
        until(lambda: len(worker.uploads.running) == 2)
        yield first, second
    until(lambda: not worker.uploads.running)
    assert not list(worker.store.blobs.glob(".upload-*"))


def assert_receives(connection, text):
    received = b""
    while text not in received:
        part = connection.recv(4096)
        assert part, received
        received += part


def uploaded(running):
    """The status of an upload with another digest, after all of it was read."""
    return httpx.post(f"{running}/api/blobs/sha256:{'5' * 64}", content=b"x" * 9_000, timeout=60).status_code


def test_the_slowest_upload_gives_way_to_one_that_waits(running, two_slow_uploads):
    """Four uploads of a byte per five seconds, each begun anew when it was ended, kept all others out."""
    first, second = two_slow_uploads
    second.sendall(b"G" * 90)
    assert uploaded(running) == 400
    assert_receives(first, b"1 bytes came")
    second.sendall(b"G" * 8)
    assert_receives(second, b"another digest")


def test_an_upload_that_is_fast_enough_is_waited_for(worker, running, two_slow_uploads, monkeypatch):
    monkeypatch.setattr(limits, "MIN_UPLOAD_RATE", 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(uploaded, running)
        until(lambda: worker.uploads._turn.locked())
        two_slow_uploads[0].close()
        assert waiting.result() == 400


def test_beyond_the_queue_requests_are_refused_with_503(store):
    worker = Worker(store, max_queued=2, max_running=1)

    async def ask():
        transport = httpx.ASGITransport(application(worker))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await asyncio.gather(*(client.post("/api/generate", json=ASK) for _ in range(9)))

    replies = asyncio.run(ask())
    refused = [r for r in replies if r.status_code == 503]
    assert len(refused) == 6 and {r.headers["retry-after"] for r in refused} == {"1"}
    assert all(r.json()["error"].startswith("server busy") for r in refused)
    assert len({r.json()["response"] for r in replies if r.status_code == 200}) == 1
    assert worker.outstanding == 0
    worker.close()


def test_unknown_paths_and_methods_are_told_in_either_protocol(http):
    assert (
        http.post("/api/nope").json()["error"].startswith("this server has no path /api/nope")
        and http.post("/api/nope").status_code == 404
    )
    assert http.get("/v1/nope").json()["error"]["param"] == "path"
    reply = http.get("/api/chat")
    assert (
        reply.status_code == 405
        and reply.headers["allow"] == "POST"
        and reply.json()["error"].startswith("the method GET is not allowed")
    )
    assert http.post("/api/push", json={}).status_code == 501
    assert http.get("/").text == "Ollama is running"
    assert (
        http.get("/").status_code == http.head("/").status_code == http.head("/api/tags").status_code == 200
    )


def lists_of(schema):
    """Each field of a schema that takes a list or a mapping of names, and its own name in JSON."""
    for name, field in schema.model_fields.items():
        if re.search(r"\b(list|dict)\[(?!str, typing.Any)", str(field.annotation)):
            yield field.alias or name


BODIES = [*dict.fromkeys(schema for _, _, schema, _ in ROUTES), Options]  # in order: xdist compares it
FIELDS = [(schema, name) for schema in BODIES for name in lists_of(schema)]


@pytest.mark.parametrize(("schema", "name"), FIELDS)
def test_a_long_list_of_the_wrong_type_costs_one_error(schema, name):
    """pydantic describes each wrong item: two million integers for texts took the server 13 seconds."""
    for wrong in ([1] * 100, {str(i): 1 for i in range(100)}):
        with pytest.raises(ValidationError) as refused:
            schema.model_validate({"model": "m", name: wrong})
        assert len([e for e in refused.value.errors() if e["loc"][0] == name]) == 1


def test_many_unknown_options_cost_one_error_that_names_the_first():
    with pytest.raises(ValidationError) as refused:
        Options.model_validate({f"k{i}": 1 for i in range(100)})
    assert [e["loc"] for e in refused.value.errors()] == [("k0",)]


@pytest.mark.parametrize("unknown", [[0], {}])
def test_a_body_with_too_many_values_is_refused_before_it_is_checked(http, monkeypatch, unknown):
    monkeypatch.setattr(limits, "MAX_VALUES", 1000)
    for count, status in ((900, 404), (1100, 400)):
        values = [0] * count if unknown else {str(i): 0 for i in range(count)}
        reply = http.post("/api/show", json={"model": "not-there", "field": [values]})
        assert reply.status_code == status
    assert reply.json()["error"].startswith("body: more than 1,000 values")


def test_a_body_in_tiny_chunks_is_refused_and_one_in_many_larger_ones_is_not(running, monkeypatch):
    """Each chunk takes the parser as long as a large one: a million of one byte took 15 seconds."""
    monkeypatch.setattr(limits, "MAX_SMALL_CHUNKS", 50)
    body = json.dumps({"model": "haneul-300k", "field": "x" * 8000}).encode()
    for size, status in ((80, 200), (8, 400)):
        chunks = (body[i : i + size] for i in range(0, len(body), size))
        assert httpx.post(f"{running}/api/show", content=chunks).status_code == status


BOMBS = [
    {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(5000)}},
    {"type": "array", "items": {"properties": {f"k{i}": {"type": "integer"} for i in range(101)}}},
    {"enum": ["a" * 20_000]},
    {"enum": [[[[[i]]]] for i in range(2000)]},
    {"type": "string", "pattern": "^((a{1000}){1000})$"},
    {"type": "string", "pattern": "^a{99999999999999}$"},
    {"type": "object", "patternProperties": {"^(a{100}){100}$": {}}},
    {"allOf": [{"anyOf": [{"properties": {f"k{i}{j}": {}}} for i in range(5)]} for j in range(5)]},
    {"prefixItems": [{"allOf": [{"anyOf": [{"const": i} for i in range(7)]}] * 2}] * 2, "type": "array"},
    {"properties": {"a": {}}, "anyOf": [{"required": ["a"]}] * 51},
    {"$defs": {"a": {"properties": {"b": {}}}}, "anyOf": [{"$ref": "#/$defs/a", "required": ["b"]}] * 51},
    {"anyOf": [{"type": "array", "maxItems": 9990 + i, "items": {"type": "string"}} for i in range(9)]},
    {"patternProperties": {f"^a{i}[a-z]*$": {} for i in range(101)}, "type": "object"},
    {"type": "array", "minItems": 400, "items": {"const": "a" * 248}},
    {"type": "array", "minItems": 400, "items": {"type": "string", "pattern": "^a{240}$"}},
    {"$defs": {"a": {"oneOf": [{"const": i} for i in range(9)]}}, "allOf": [{"$ref": "#/$defs/a"}] * 9},
    {"enum": ["x" * 100] * 2000},
    json.loads('{"items":' * 90 + "{}" + "}" * 90),
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_schema_that_takes_long_to_compile_is_refused_before_it_waits_for_a_model(worker, http, bomb):
    reply = http.post("/api/generate", json=ASK | {"format": bomb, "model": "not-there"})
    assert reply.status_code == 400 and reply.json()["error"].startswith("format: ")
    named = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": bomb}}
    body = {"model": "not-there", "messages": [{"role": "user", "content": ""}], "response_format": named}
    assert http.post("/v1/chat/completions", json=body).json()["error"]["param"] == "response_format"


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": {"type": 5}},
        {"format": {"type": "integer", "minimum": "a"}},
        {"options": {"repeat_penalty": 1e-300}},
    ],
)
def test_a_value_of_the_wrong_kind_is_a_mistake_of_the_client(http, wrong):
    assert http.post("/api/generate", json=ASK | wrong).status_code == 400


def test_thousands_of_messages_and_texts_are_refused_before_they_wait_for_a_model(http):
    turns = [{"role": "user", "content": ""}] * 20_000
    for path, field, more in [
        ("/api/chat", "messages", {"messages": turns}),
        ("/v1/chat/completions", "messages", {"messages": turns}),
        ("/api/embed", "input", {"input": [""] * 20_000}),
        ("/v1/embeddings", "input", {"input": [""] * 20_000}),
        ("/v1/completions", "prompt", {"prompt": [""] * 20_000}),
        ("/v1/completions", "logprobs", {"prompt": [""] * 4, "logprobs": 20}),
    ]:
        reply = http.post(path, json={"model": "not-there", **more})
        assert reply.status_code == 400 and f"{field}: " in reply.text


def test_a_prompt_far_too_long_is_refused_without_being_tokenized(http, monkeypatch):
    """Millions of characters took ten seconds to tokenize."""
    monkeypatch.setattr(LlamaCpp, "_tokenize", None)
    long = "word " * (limits.MAX_TOKEN_CHARACTERS * 2048 // 5 + 1)
    for path, field, more in [
        ("/api/generate", "prompt", {"prompt": long}),
        ("/api/chat", "messages", {"messages": [{"role": "user", "content": long}]}),
    ]:
        error = http.post(path, json={"model": "haneul-300k", **more}).json()["error"]
        assert error.startswith(f"{field}: 65540 characters, too many for the context: num_ctx is 2048")


def test_log_lines_are_bounded_in_number_and_length():
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(limits.LogBounds())
    log = logging.Logger("flood")
    log.addHandler(handler)
    for i in range(5000):
        log.warning("line %s", f"{i} " + "x" * 5000)
    log.warning("another kind")
    lines = written.getvalue().splitlines()
    assert len(lines) <= 2 * limits.MAX_LOG_LINES + 1 and lines[-1] == "another kind"
    assert max(map(len, lines)) <= limits.MAX_LOG_CHARACTERS
    for _ in range(1000):
        try:
            raise ValueError("x" * 50_000 + " the end")
        except ValueError:
            log.exception("failed")
    most = limits.MAX_LOG_CHARACTERS + limits.MAX_TRACEBACK_CHARACTERS
    text = written.getvalue().partition("another kind")[2]
    assert len(text) <= 2 * limits.MAX_LOG_LINES * most and text.endswith(" the end\n\n")


def test_the_log_tells_where_an_internal_error_came_from(store, http, monkeypatch):
    """It named the error alone, such as KeyError('x')."""

    def broken_part(*_):
        raise KeyError("x")

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(limits.LogBounds())
    monkeypatch.setattr(logging.getLogger("course_lib.serve"), "handlers", [handler])
    monkeypatch.setattr(store, "tags", broken_part)
    reply = http.get("/api/tags")
    assert reply.status_code == 500 and "KeyError; the server's log tells more" in reply.json()["error"]
    log = written.getvalue()
    assert log.startswith("GET /api/tags\nTraceback (most recent call last)") and "in broken_part" in log
    assert reply.text.count("Traceback") == 0 and "test_limits" not in reply.text


# -- connections --


def test_a_header_that_does_not_come_is_not_waited_for(running, monkeypatch):
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.05)
    with connected(running) as silent, connected(running) as slow:
        slow.settimeout(30)
        with contextlib.suppress(OSError):
            for byte in b"GET /" + b"a" * 3000:  # one byte at a time does not prolong it
                slow.sendall(bytes([byte]))
                time.sleep(0.01)
            pytest.fail("it is still open after half a minute")
        silent.settimeout(30)
        assert silent.recv(1) == b""


def test_a_connection_stays_open_between_requests_until_its_bound(running, monkeypatch):
    """uvicorn's 5 seconds are also those after which httpx drops a connection: now and then both at once."""
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.05)
    with connected(running) as idle:
        idle.settimeout(4)
        idle.sendall(b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"".join(iter(lambda: idle.recv(4096), b"")).startswith(b"HTTP/1.1 200")


HALF = b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{"


@pytest.mark.parametrize("sent", [b"", HALF], ids=["nothing", "half a request"])
def test_beyond_the_limit_the_connection_is_closed_that_has_waited_longest_for_its_client(
    running, monkeypatch, sent
):
    """Not the newest: 257 unfinished requests denied everything to everybody."""
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 4)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(12):
            opened.append(stack.enter_context(connected(running)))
            opened[-1].sendall(sent)
            assert httpx.post(f"{running}/api/generate", json=ASK, timeout=120).status_code == 200
        for early in opened[:6]:
            early.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert early.recv(1) == b""


SHOW = b'{"model": "haneul-300k", "verbose": true}'
ASK_SHOW = b"POST /api/show HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (len(SHOW), SHOW)


def test_a_client_that_does_not_read_its_answers_is_closed(running, monkeypatch, caplog):
    monkeypatch.setattr(limits, "READ_SECONDS", 0.05)
    with connected(running) as greedy:
        greedy.sendall(ASK_SHOW * 200)  # 17 MB of answers
        until(lambda: "a client has read nothing for 0.05 s" in caplog.text)
        assert sum(map(len, iter(lambda: greedy.recv(1 << 20), b""))) < 10_000_000


def test_whole_vocabularies_are_written_once_one_at_a_time_and_sent_in_parts(worker, running, monkeypatch):
    """Each took a second of all others: 300 of them made others time out."""
    written, at_once, write = [], threading.Semaphore(1), model_info.model_info

    def told(store, tag, verbose=False):
        assert not verbose or at_once.acquire(blocking=False)
        found = write(store, tag, verbose)
        written.append(tag.name)
        if verbose:
            at_once.release()
        return found

    monkeypatch.setattr(model_info, "model_info", told)
    model_info.verbose_answer.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        post = partial(httpx.post, f"{running}/api/show", content=SHOW, timeout=60)
        answers = list(pool.map(lambda _: post(), range(16)))
    assert written == ["haneul-300k:latest"] and {a.status_code for a in answers} == {200}
    shown = answers[0].json()
    assert shown == write(worker.store, worker.store.find("haneul-300k"), verbose=True)
    assert len(answers[0].content) > PART_BYTES and len(shown["model_info"]["tokenizer.ggml.tokens"]) > 1000


def test_a_connection_whose_answer_is_being_made_is_not_closed(worker, running, monkeypatch):
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 2)
    free = threading.Event()
    monkeypatch.setattr(worker.store, "tags", lambda: [] if free.wait(60) else None)
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        waiting = pool.submit(httpx.get, f"{running}/api/tags", timeout=60)
        for _ in range(6):
            stack.enter_context(connected(running))
            assert httpx.get(f"{running}/api/version").status_code == 200
        free.set()
        assert waiting.result().json() == {"models": []}


# -- lanes --


CATALOGUE = [
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("GET", "/api/version"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/haneul-300k"),
    ("POST", "/api/show"),
    ("POST", "/api/pull"),
]


def test_what_only_reads_the_catalogue_never_waits_behind_generations(store):
    worker, free = Worker(store, max_queued=2, max_running=1), threading.Event()

    async def ask():
        busy = [asyncio.ensure_future(worker.run(lambda _: free.wait(), worker.texts)) for _ in range(3)]
        await asyncio.sleep(0)
        assert worker.outstanding == worker.limit
        transport = httpx.ASGITransport(application(worker))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            body = {"model": "haneul-300k"}
            for method, path in CATALOGUE:
                content = json.dumps(body) if method == "POST" else None
                reply = await asyncio.wait_for(client.request(method, path, content=content), 60)
                assert reply.status_code == 200, reply.text
        free.set()
        await asyncio.gather(*busy)

    asyncio.run(ask())
    worker.close()


LANES = {
    "texts": ("/api/generate", ASK | {"options": GREEDY | {"num_predict": 1}}),
    "schemas": ("/api/generate", ASK | {"format": {"type": "boolean"}}),
    "embeddings": ("/api/embed", {"model": "all-minilm", "input": "a"}),
    "pulls": ("/api/pull", {"model": "haneul-300k", "stream": False}),
}


@pytest.mark.parametrize("full", LANES)
def test_a_kind_of_request_never_waits_behind_another_kind(store, full):
    """Eight clients with schemas of 20 kB kept a chat waiting for six seconds."""
    worker, free = Worker(store, max_queued=4, max_running=1), threading.Event()

    async def ask():
        flood = [
            asyncio.ensure_future(worker.run(lambda _: free.wait(), getattr(worker, full))) for _ in range(5)
        ]
        await asyncio.sleep(0)
        transport = httpx.ASGITransport(application(worker))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            replies = {
                lane: await asyncio.wait_for(client.post(path, json=body), 300)
                for lane, (path, body) in LANES.items()
            }
        free.set()
        await asyncio.gather(*flood)
        return {lane: reply.status_code for lane, reply in replies.items()}

    assert asyncio.run(ask()) == {lane: 503 if lane == full else 200 for lane in LANES}
    worker.close()


def test_an_unexpected_error_tells_no_path_and_keeps_the_connection(worker, running, monkeypatch):
    with httpx.Client(base_url=running) as client:
        first = client.get("/api/tags")
        monkeypatch.setattr(worker.store, "tags", lambda: Path("/nowhere/secret").read_text("utf-8"))
        for _ in range(2):
            failed = client.get("/api/tags")
            assert failed.status_code == 500 and "FileNotFoundError" in failed.json()["error"]
            assert "secret" not in failed.text
            stream = failed.extensions["network_stream"]
            assert stream is first.extensions["network_stream"]


def test_a_model_deleted_in_use_answers_to_the_end_and_is_then_not_found(worker, running):
    store = worker.store
    list(store.pull("haneul-300k:f16"))
    tag = store.find("haneul-300k:f16")
    ask = {"model": tag.name, "prompt": "The", "raw": True, "options": GREEDY | {"num_predict": 120}}
    with httpx.stream("POST", f"{running}/api/generate", json=ask, timeout=120) as reply:
        lines = reply.iter_lines()
        next(lines)
        gone = httpx.request("DELETE", f"{running}/api/delete", json={"model": tag.name}, timeout=120)
        assert gone.status_code == 200 and not store.file(tag).exists()
        last = json.loads(list(lines)[-1])
    assert last["done"] and last["eval_count"] > 50
    after = httpx.post(f"{running}/api/generate", json=ask, timeout=120)
    assert after.status_code == 404 and str(store.blobs) not in after.text
    with pytest.raises(ApiError, match="not found") as late:  # it was found before, and has waited since
        worker.load(tag, None)
    assert late.value.status == 404


# -- going away --


def until(condition):
    """Wait until a condition holds."""
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)))


def test_a_client_that_leaves_the_queue_makes_room_in_it(store):
    worker, free = Worker(store, max_queued=1, max_running=1), threading.Event()

    async def leave():
        first = asyncio.ensure_future(worker.run(lambda _: free.wait(), worker.texts))
        second = asyncio.ensure_future(worker.run(lambda _: "never", worker.texts))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait((second,))
        third = asyncio.ensure_future(worker.run(lambda _: "third", worker.texts))
        free.set()
        return await first, second.cancelled(), await third

    assert asyncio.run(leave()) == (True, True, "third")
    worker.close()


def test_at_the_end_whoever_waits_is_told_and_a_job_that_does_not_end_is_not_waited_for(store):
    worker, free = Worker(store, max_running=1), threading.Event()

    async def end():
        jobs = [asyncio.ensure_future(worker.run(lambda _: free.wait(), worker.texts)) for _ in range(3)]
        await asyncio.sleep(0)
        worker.stop()
        return await asyncio.gather(*jobs, return_exceptions=True)

    errors = asyncio.run(end())
    assert [e.status for e in errors] == [503] * 3
    assert worker.close(0.01) is False
    free.set()
    assert worker.close() is True


@pytest.fixture
def running(worker):
    """The application behind a real socket, in this process, so that its worker can be looked at."""
    bound = bind(0)
    config = uvicorn.Config(application(worker), log_config=None, lifespan="off", http=BoundedConnection)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    bound.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_the_generation(worker, running, stream):
    ask = {"model": "haneul-4m", "prompt": "The", "raw": True, "options": GREEDY | {"num_predict": -1}}
    whole = httpx.post(f"{running}/api/generate", json=ask | {"stream": False}, timeout=120).json()
    assert whole["eval_count"] > 1000, "too short to be interrupted"
    before = next(
        m.counters.tokens
        for m in worker.manager.loaded_models()
        if "haneul-4m" in m.name or m.counters.tokens >= 1000
    )
    if stream:
        with httpx.stream("POST", f"{running}/api/generate", json=ask, timeout=120) as reply:
            next(reply.iter_lines())
    else:
        with connected(running) as leaving:
            body = json.dumps(ask | {"stream": False}).encode()
            head = f"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            leaving.sendall(head.encode() + body)
            until(lambda: any(job.running() for job in worker._work))
    until(lambda: not worker._work)
    assert worker.outstanding == 0
    after = next(m.counters.tokens for m in worker.manager.loaded_models() if m.counters.tokens >= before)
    assert after - before < 1000, "it wrote on to the end"


def test_embedding_ends_at_the_next_batch_when_the_client_has_left(worker, monkeypatch):
    """Two thousand long texts of a client that had left held all others for 23 seconds."""
    tag, calls = worker.store.find("all-minilm"), []

    async def leave():
        channel, embed = Channel(), Encoder.embed_ids

        def embed_and_leave(engine, rows, **how):
            calls.append(len(rows))
            channel.stop.set()
            return embed(engine, rows, **how)

        monkeypatch.setattr(Encoder, "embed_ids", embed_and_leave)
        with pytest.raises(CancelledError):
            worker.embed(tag, ["a"] * 3 * EMBED_BATCH, channel)
        with pytest.raises(CancelledError):
            worker.embed(tag, ["a"], channel)

    asyncio.run(leave())
    assert calls == [EMBED_BATCH]


def test_the_check_of_a_schema_ends_when_the_client_has_left(worker, monkeypatch):
    stop, stops, request = threading.Event(), {}, LlamaServer.request

    def told(server, path, body=None, stop=None):
        stops[path] = stop
        return request(server, path, body, stop)

    monkeypatch.setattr(LlamaServer, "request", told)
    with worker._engine(worker.store.find("haneul-300k"), None) as (engine, _):
        engine._body(CompletionRequest("", Generation(json_schema={"enum": ["left"]})), 1, stop)
    assert stops["/v1/completions"] is stop


def test_one_schema_is_checked_at_a_time_and_the_same_one_once(worker, monkeypatch):
    """llama.cpp compiles a schema between two tokens of all texts that it writes."""
    request, checks, free = LlamaServer.request, [], threading.Semaphore(1)

    def told(server, path, body=None, stop=None):
        if path != "/v1/completions":
            return request(server, path, body, stop)
        assert free.acquire(blocking=False)
        checks.append(body["json_schema"]["enum"])
        answer = request(server, path, body, stop)
        free.release()
        return answer

    monkeypatch.setattr(LlamaServer, "request", told)
    with worker._engine(worker.store.find("haneul-300k"), None) as (engine, _), ThreadPoolExecutor(8) as pool:
        list(pool.map(engine.check_schema, [{"enum": [f"check {i % 4}"]} for i in range(8)]))
    assert sorted(checks) == [[f"check {i}"] for i in range(4)]


def test_a_schema_is_validated_where_the_model_runs():
    """It took .2 seconds for 20 kB, and meanwhile the server read no other request."""
    schema = {"anyOf": [{"type": "string"}, {"type": 5}]}
    ask = {"model": "m", "messages": [{"role": "user", "content": ""}]}
    ChatBody.read(json.dumps(ask | {"format": schema}).encode())
    named = {"type": "json_schema", "json_schema": {"schema": schema}}
    openai_schemas.ChatBody.read(json.dumps(ask | {"response_format": named}).encode())


def test_the_reason_of_a_refused_schema_is_that_of_this_schema(http):
    """The reasons come through one log: with two requests at once, one got the other's."""
    formats = [f"secret-{i}" for i in range(12)]

    def reason(name):
        schema = {"type": "string", "format": name}
        return http.post("/api/generate", json=ASK | {"format": schema}).json()["error"]

    schema = {"type": "string", "pattern": "(?=a)b"}
    assert (
        "regex parse error: (?=a)b look-around"
        in http.post("/api/generate", json=ASK | {"format": schema}).text
    )
    with ThreadPoolExecutor(4) as pool:
        for name, error in zip(formats, pool.map(reason, formats), strict=True):
            assert error.endswith(f"Unknown format: {name}; leave that part of the schema out")


def test_a_client_that_sends_half_a_request_harms_nobody(running):
    with connected(running) as half:
        half.sendall(b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert httpx.post(f"{running}/api/generate", json=ASK, timeout=120).status_code == 200


def test_the_documentation_tells_every_bound():
    text = (data.ROOT / "docs" / "server.md").read_text("utf-8")
    bounds = {name: value for module in (limits, json_schema) for name, value in vars(module).items()}
    numbers = {n: v for n, v in bounds.items() if n.isupper() and isinstance(v, int | float)}
    assert len(numbers) > 15
    missing = [name for name, value in numbers.items() if f"| `{name}` | {value:,.0f} |" not in text]
    assert missing == []
    units = {"BYTES": "bytes", "CHARACTERS": "characters", "SECONDS": ""}
    rows = {name: line for line in text.splitlines() for name in numbers if line.startswith(f"| `{name}` |")}
    wrong = [name for name, row in rows.items() if units.get(name.rpartition("_")[2], "") not in row]
    assert wrong == []
