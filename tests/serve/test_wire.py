"""What goes over the wire, field by field, as github.com/ollama/ollama/docs/api.md and OpenAI document it."""

import json
from datetime import datetime

import pytest

TURNS = [{"role": "user", "content": "Hello"}]
OPTIONS = {"num_predict": 6, "temperature": 0}
TIMES = {
    "total_duration": int,
    "load_duration": int,
    "prompt_eval_count": int,
    "prompt_eval_duration": int,
    "eval_count": int,
    "eval_duration": int,
}
HEAD = {"model": str, "created_at": datetime}
LAST = {"done": True, "done_reason": "length"} | TIMES
MESSAGE = {"role": "assistant", "content": str}
DETAILS = {
    "parent_model": str,
    "format": "gguf",
    "family": "llama",
    "families": [str],
    "parameter_size": str,
    "quantization_level": str,
}
SUMMARY = {"name": str, "model": str, "size": int, "digest": str, "details": DETAILS}
OPENAI_HEAD = {"id": str, "object": str, "created": int, "model": str, "system_fingerprint": str}
USAGE = {"prompt_tokens": int, "completion_tokens": int, "total_tokens": int}
CHOICE = {"index": 0, "logprobs": None, "finish_reason": "length"}
OPEN_CHOICE = CHOICE | {"finish_reason": None}


def check(value, shape, path="$"):
    """Compare a JSON value with a shape: the same fields, with the types or values of the shape."""
    if isinstance(shape, dict):
        assert isinstance(value, dict) and set(value) == set(shape), (path, sorted(value), sorted(shape))
        for name, inner in shape.items():
            check(value[name], inner, f"{path}.{name}")
    elif isinstance(shape, list) and shape:
        assert isinstance(value, list) and value, path
        for item in value:
            check(item, shape[0], f"{path}[]")
    elif shape is datetime:
        assert datetime.fromisoformat(value).tzinfo is not None and value.endswith("Z"), path
    elif isinstance(shape, type):
        assert type(value) is shape, (path, value)
    else:
        assert value == shape, (path, value)


def lines(reply, kind="application/x-ndjson"):
    assert reply.status_code == 200 and reply.headers["content-type"] == kind, reply.text
    assert reply.text.endswith("\n")
    return [json.loads(line) for line in reply.text.splitlines()]


def events(reply):
    assert reply.headers["content-type"].startswith("text/event-stream")
    parts = reply.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""] and all(part.startswith("data: ") for part in parts[:-1])
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


@pytest.fixture(scope="module")
def model(http):
    http.post("/api/copy", json={"source": "haneul-300k", "destination": "wire"})
    yield "wire"
    http.request("DELETE", "/api/delete", json={"model": "wire"})


@pytest.mark.parametrize(
    ("path", "body", "piece", "empty"),
    [
        ("/api/generate", {"prompt": "Hello"}, {"response": str}, {"response": ""}),
        ("/api/chat", {"messages": TURNS}, {"message": MESSAGE}, {"message": MESSAGE | {"content": ""}}),
    ],
)
def test_generate_and_chat(http, model, path, body, piece, empty):
    asked = {"model": model, "options": OPTIONS} | body
    *parts, last = lines(http.post(path, json=asked))
    assert len(parts) == 6
    for part in parts:
        check(part, HEAD | piece | {"done": False})
    check(last, HEAD | empty | LAST)
    check(http.post(path, json=asked | {"stream": False}).json(), HEAD | piece | LAST)
    unasked = {"model": model}
    check(http.post(path, json=unasked).json(), HEAD | empty | {"done": True, "done_reason": "load"})
    asked = unasked | {"keep_alive": 0}
    check(http.post(path, json=asked).json(), HEAD | empty | {"done": True, "done_reason": "unload"})


def test_embeddings(http):
    vectors = {"embeddings": [[float]], "total_duration": int, "load_duration": int, "prompt_eval_count": int}
    for path in ("/api/embed", "/v1/embeddings", "/api/embeddings"):
        reply = http.post(path, json={"model": "all-minilm", "input": ["a", "b"], "prompt": "a"}).json()
        shape = {
            "/api/embed": {"model": "all-minilm"} | vectors,
            "/api/embeddings": {"embedding": [float]},
            "/v1/embeddings": {
                "object": "list",
                "data": [{"object": "embedding", "index": int, "embedding": [float]}],
                "model": "all-minilm",
                "usage": {"prompt_tokens": int, "total_tokens": int},
            },
        }[path]
        check(reply, shape)


def test_the_catalogue(http, model):
    http.post("/api/generate", json={"model": model, "keep_alive": "5m"})
    (tag,) = [m for m in http.get("/api/tags").json()["models"] if m["name"] == f"{model}:latest"]
    check(tag, SUMMARY | {"modified_at": datetime})
    (loaded,) = [m for m in http.get("/api/ps").json()["models"] if m["name"] == f"{model}:latest"]
    check(loaded, SUMMARY | {"expires_at": datetime, "size_vram": int, "context_length": int})
    shown = http.post("/api/show", json={"model": model}).json()
    info = shown.pop("model_info")
    texts = dict.fromkeys(["modelfile", "parameters", "template", "license"], str)
    check(shown, texts | {"details": DETAILS, "capabilities": ["completion"], "modified_at": datetime})
    assert {"general.architecture", "general.parameter_count", "llama.context_length"} <= set(info)
    check(http.get("/api/version").json(), {"version": str, "server": str})
    listed = {"id": str, "object": "model", "created": int, "owned_by": "library"}
    check(http.get("/v1/models").json(), {"object": "list", "data": [listed]})
    check(http.get(f"/v1/models/{model}").json(), listed)


def test_progress(http):
    first, *moved, checked, written, done = lines(http.post("/api/pull", json={"model": "haneul-300k:f32"}))
    for line, text in [
        (first, "pulling manifest"),
        (checked, "verifying sha256 digest"),
        (written, "writing manifest"),
        (done, "success"),
    ]:
        check(line, {"status": text})
    for line in moved:
        check(
            line,
            {"status": str, "digest": str, "total": int}
            | ({"completed": int} if "completed" in line else {}),
        )
    body = {"model": "made", "from": "haneul-300k:f32"}
    for line in lines(http.post("/api/create", json=body)):
        check(line, {"status": str})
    check(http.post("/api/create", json=body | {"stream": False}).json(), {"status": "success"})
    assert http.request("DELETE", "/api/delete", json={"model": "made"}).content == b""


def test_openais_answers(http, model):
    asked = {"model": model, "messages": TURNS, "prompt": "Hello", "max_tokens": 2, "temperature": 0}
    for path, content, delta in [
        ("/v1/chat/completions", {"message": MESSAGE}, {"delta": MESSAGE}),
        ("/v1/completions", {"text": str}, {"text": str}),
    ]:
        whole = http.post(path, json=asked).json()
        check(whole, OPENAI_HEAD | {"choices": [CHOICE | content], "usage": USAGE})
        more = {"stream": True, "stream_options": {"include_usage": True}}
        *parts, last, usage = events(http.post(path, json=asked | more))
        for part in parts:
            check(part, OPENAI_HEAD | {"choices": [OPEN_CHOICE | delta]})
        end = {"delta": {}} if "delta" in delta else {"text": ""}
        check(last, OPENAI_HEAD | {"choices": [CHOICE | end]})
        check(usage, OPENAI_HEAD | {"choices": [], "usage": USAGE})


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/nothing", None, 404),
        ("POST", "/api/tags", {}, 405),
        ("GET", "/api/generate", None, 405),
        ("POST", "/api/show", {"model": "nothing"}, 404),
        ("POST", "/api/generate", {"model": "nothing"}, 404),
        ("POST", "/api/generate", {}, 400),
        ("DELETE", "/api/delete", {"model": "nothing"}, 404),
        ("GET", "/v1/models/nothing", None, 404),
        ("POST", "/v1/responses", {}, 404),
        ("POST", "/v1/chat/completions", {"model": "nothing", "messages": TURNS}, 404),
    ],
)
def test_errors(http, method, path, body, status):
    reply = http.request(method, path, json=body)
    assert reply.status_code == status
    error = {"message": str, "type": str, "param": str, "code": None}
    check(reply.json(), {"error": error if path.startswith("/v1/") else str})


def test_head_requests_and_the_front_page(http):
    assert http.get("/").text == "Ollama is running"
    for path in ("/", "/api/tags", "/api/version"):
        reply = http.head(path)
        assert reply.status_code == 200 and reply.content == b""
