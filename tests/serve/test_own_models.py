"""Models of the user's own: uploaded files, models of the store with other options, files at the start."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gguf as gguf_library
import httpx
import numpy as np
import ollama
import psutil
import pytest
from tqdm import tqdm

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.gguf import cached_export
from course_lib.models.gguf.adapter import export_adapter
from course_lib.models.gguf.vocabulary import TEXTS
from course_lib.models.planner.estimate import plan
from course_lib.models.schema import Generation, ModelSpec
from course_lib.serve import given_models, placement
from course_lib.serve import library as library_module
from course_lib.serve.completion import CompletionRequest, ServedLlamaCpp
from course_lib.serve.errors import ApiError
from course_lib.serve.library import library
from course_lib.serve.placement import place
from course_lib.serve.settings import Settings, listen_address, models_folder
from course_lib.serve.store import Store
from course_lib.serve.worker import Worker

BASE = "haneul-300k"
TURNS = [{"role": "user", "content": "Hello, who are you?"}]
GREEDY = {"temperature": 0, "repeat_penalty": 1.0, "num_predict": 20}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    """A file that the store does not have: one byte longer than the one that `pull` makes."""
    file = tmp_path_factory.mktemp("own") / "own.gguf"
    exported = cached_export(catalog.verify_shipped(BASE), "bf16", scratch=file.parent)
    file.write_bytes(exported.read_bytes() + b"\0")
    return file


@pytest.fixture
def sent(http):
    """Send a request to the application, and return its JSON lines."""

    def send(path, status=200, **body):
        reply = http.post(path, json=body)
        assert reply.status_code == status, reply.text
        return [json.loads(line) for line in reply.text.splitlines()]

    return send


def digest_of(file):
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_a_file_is_uploaded_and_becomes_a_model(client, server, gguf):
    """As `ollama create` and the official client do it."""
    digest = client.create_blob(gguf)
    assert digest == digest_of(gguf)
    assert httpx.head(f"{server.url}/api/blobs/{digest}").status_code == 200
    assert httpx.head(f"{server.url}/api/blobs/sha256:{'0' * 64}").status_code == 404
    lines = list(client.create("Me/Own:v1", files={gguf.name: digest}, stream=True))
    assert [line.status for line in lines][-2:] == ["writing manifest", "success"]
    shown = client.show("me/own:v1")
    assert shown.details.quantization_level == "BF16" and shown.capabilities == ["completion"]
    assert "Me/Own:v1" in [m.model for m in client.list().models]
    own, shipped = (client.chat(name, TURNS, options=GREEDY) for name in ("ME/own:v1", BASE))
    assert own.message.content and own.prompt_eval_count == shipped.prompt_eval_count
    client.delete("me/own:v1")
    assert httpx.head(f"{server.url}/api/blobs/{digest}").status_code == 404


def test_the_limit_stored_with_a_model_holds_in_both_protocols(sent):
    sent("/api/create", model="three", parameters=GREEDY | {"num_predict": 3}, **{"from": BASE})
    (chat,) = sent("/v1/chat/completions", model="three", messages=TURNS)
    assert chat["usage"]["completion_tokens"] == 3 and chat["choices"][0]["finish_reason"] == "length"
    (chat,) = sent("/v1/chat/completions", model="three", messages=TURNS, max_tokens=5)
    assert chat["usage"]["completion_tokens"] == 5
    (reply,) = sent("/api/chat", model="three", messages=TURNS, stream=False)
    assert reply["eval_count"] == 3


def test_a_model_made_of_another_has_its_system_message_and_options(sent, http):
    sent(
        "/api/create",
        model="brief",
        system="Be brief.",
        parameters=GREEDY | {"stop": ["."]},
        **{"from": BASE},
    )
    (shown,) = sent("/api/show", model="brief")
    assert shown["system"] == "Be brief." and shown["details"]["parent_model"] == f"{BASE}:latest"
    assert (
        "num_predict" in shown["parameters"] and 'stop                           "."' in shown["parameters"]
    )
    said = [{"role": "system", "content": "Be brief."}, *TURNS]
    options = GREEDY | {"stop": ["."]}
    (expected,) = sent("/api/chat", model=BASE, messages=said, options=options, stream=False)
    for path, body in [
        ("/api/chat", {"messages": TURNS}),
        ("/api/generate", {"prompt": TURNS[0]["content"]}),
    ]:
        (reply,) = sent(path, model="brief", stream=False, **body)
        assert (
            reply.get("response", reply.get("message", {}).get("content")) == expected["message"]["content"]
        )
        assert reply["prompt_eval_count"] == expected["prompt_eval_count"]
    (chat,) = sent("/v1/chat/completions", model="brief", messages=TURNS, temperature=0)
    assert chat["choices"][0]["message"]["content"] == expected["message"]["content"]
    (longer,) = sent("/api/chat", model="brief", messages=TURNS, options={"num_predict": 2}, stream=False)
    assert longer["eval_count"] == 2, "the request goes before the model"


def test_an_adapter_of_another_model_is_refused_when_it_is_added(client, tmp_path):
    """It was accepted, and then every chat failed with status 500."""
    file = export_adapter(data.MODELS / "haneul-style", data.MODELS / "haneul-4m", tmp_path / "style.gguf")
    with pytest.raises(ollama.ResponseError, match="it is for another model") as refused:
        client.create("wrong", from_="haneul-300k", adapters={"a": client.create_blob(file)}, stream=False)
    assert refused.value.status_code == 400


def test_a_model_in_place_of_an_adapter_is_named_as_one(client, tmp_path):
    """Its file need not say what it is: the error named the type None."""
    writer = gguf_library.GGUFWriter(tmp_path / "untold.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    digest = client.create_blob(tmp_path / "untold.gguf")
    told = "a file of type 'model' for 'llama'; an adapter for 'llama' is expected"
    with pytest.raises(ollama.ResponseError, match=told):
        client.create("wrong", from_=BASE, adapters={"a": digest}, stream=False)


def test_an_adapter_acts(client, server, tmp_path):
    base = catalog.verify_shipped("haneul-4m")
    adapter = export_adapter(data.MODELS / "haneul-style", base, tmp_path / "style.gguf")
    digest = client.create_blob(adapter)
    asked = [{"role": "user", "content": "What is the monthly fee of the account?"}]
    client.create("styled", from_="haneul-4m", adapters={"style.gguf": digest}, parameters=GREEDY)
    plain = client.chat("haneul-4m", asked, options=GREEDY).message.content
    assert client.chat("styled", asked).message.content != plain
    assert client.chat("haneul-4m", asked, options=GREEDY).message.content == plain
    client.delete("styled")
    assert httpx.head(f"{server.url}/api/blobs/{digest}").status_code == 404


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("from", {"from": ""}),
        ("from", {"from": "not-there"}),
        ("files", {"from": "", "files": {"a": "sha256:12"}}),
        ("files", {"from": "", "files": {"a": f"sha256:{'0' * 64}"}}),
        ("template", {"template": "{{ .Prompt }}"}),
        ("quantize", {"quantize": "q4_K_M"}),
        ("modelfile", {"modelfile": "FROM x"}),
        ("messages", {"messages": [{"role": "user", "content": "x"}]}),
        ("parameters.top_p", {"parameters": {"top_p": "high"}}),
        ("parameters.unknown", {"parameters": {"unknown": 1}}),
        ("adapters", {"adapters": {"a": f"sha256:{'0' * 64}"}}),
        ("model", {"model": "a/b/c"}),
        ("system", {"system": "x" * 100_000}),
        ("system", {"license": ["x" * 60_000] * 2}),
    ],
)
def test_what_cannot_act_is_refused(http, field, change):
    reply = http.post("/api/create", json={"model": "x", "from": BASE, "stream": False} | change)
    assert reply.status_code in (400, 404) and field in reply.json()["error"]


def test_a_system_message_in_korean_may_have_as_many_characters(http):
    body = {"model": "korean", "from": BASE, "stream": False, "system": "하" * 99_000}
    assert http.post("/api/create", json=body).json() == {"status": "success"}
    assert http.request("DELETE", "/api/delete", json={"model": "korean"}).status_code == 200


def test_a_file_that_is_no_model_and_one_with_another_digest_are_refused(http, tmp_path):
    text = b"GGUF, but no model"
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    other = http.post(f"/api/blobs/sha256:{'0' * 64}", content=text)
    assert other.status_code == 400 and "another digest" in other.json()["error"]
    assert http.post(f"/api/blobs/{digest}", content=text).status_code == 201
    for field in ("files", "adapters"):
        body = {"model": "x", field: {"a": digest}, "stream": False} | (
            {"from": BASE} if field == "adapters" else {}
        )
        reply = http.post("/api/create", json=body)
        assert reply.status_code == 400 and reply.json()["error"].startswith(f"{field}: the file sha256-")
    assert http.head("/api/blobs/../../etc/passwd").status_code == 404
    assert http.post("/api/blobs/passwd", content=b"").status_code == 400


def test_what_is_named_at_the_start_is_served(tmp_path, gguf):
    store = Store(tmp_path / "store")
    named = tmp_path / "it=mine.gguf"
    named.write_bytes(gguf.read_bytes())
    for text, name in [
        (str(gguf), "own"),
        (f"{gguf}=Me/Other", "me/other"),
        (f"{named}=third", "third"),
        ("haneul-300k:q4_0", "haneul-300k:q4_0"),
        ("haneul-300k=fourth", "fourth"),
    ]:
        given_models.add(store, text)
        assert store.file(store.find(name)).is_file()
    assert store.find("own").digest == store.find("third").digest == digest_of(gguf).removeprefix("sha256:")


def test_what_cannot_be_served_at_the_start_is_told_with_its_reason(tmp_path, gguf, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "it=mine.gguf").write_bytes(gguf.read_bytes())
    (tmp_path / "text.gguf").write_text("hello")
    (tmp_path / "cut.gguf").write_bytes(gguf.read_bytes()[:3000])
    export_adapter(data.MODELS / "haneul-style", data.MODELS / "haneul-4m", tmp_path / "adapter.gguf")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "m.gguf").write_bytes(gguf.read_bytes())
    for text, reason, fix in [
        ("texd.gguf", "neither a file nor a model", "course serve --model text.gguf"),
        ("haneul-5m", "neither a file nor a model", "course serve --model haneul-"),
        ("nothing-like-it", "neither a file nor a model", "course models list"),
        ("text.gguf", "is not a GGUF file: it has 5 bytes", "whole model"),
        ("cut.gguf", "is truncated or damaged: it has 3,000 bytes", "export it again"),
        ("adapter.gguf", "is a LoRA adapter", "ollama create"),
        ("haneul-style", "is a LoRA adapter; this server runs whole models", "course models list"),
        ("empty", r"is a folder \(GGUF models in it: 0\)", "whole model"),
        ("full", r"is a folder \(GGUF models in it: 1\)", "course serve --model full/m.gguf"),
        (str(data.MODELS / "haneul-4m"), "is a folder", "course models export"),
        ("full/m.gguf=a b", "no valid model name", "=my-model"),
        ("~/it=mine.gguf", "'it=mine' is no valid model name", "=my-model"),
        ("haneul-1m=a b", "no valid model name", "course serve --model haneul-1m=my-model"),
        ("haneul-1m=", "no valid model name", "course serve --model haneul-1m=my-model"),
    ]:
        before = sorted(tmp_path.rglob("*.gguf"))
        with pytest.raises(CourseError, match=reason) as told:
            given_models.add(Store(tmp_path / "store"), text)
        assert fix in told.value.fix and "delete" not in told.value.fix
        assert sorted(tmp_path.rglob("*.gguf")) == before, "nothing was pulled or copied"


class Terminal(io.StringIO):
    """Takes what a terminal would show."""

    def isatty(self):
        return True


def test_a_terminal_shows_the_progress_of_a_pull_before_the_server_starts(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(given_models, "tqdm", partial(tqdm, file=terminal))
    given_models.add(Store(tmp_path), "haneul-300k:q4_0=mine")
    assert re.search(r"pulling haneul-300k:q4_0: 100%.* \d+k/\d+k", terminal.getvalue())


def test_what_a_library_prints_while_a_model_is_exported_is_no_path(tmp_path, monkeypatch):
    monkeypatch.setattr(library_module, "cached_file", lambda *_: None)
    script = "print('a deprecated feature')\n" + library_module.EXPORT_SCRIPT
    monkeypatch.setattr(library_module, "EXPORT_SCRIPT", script)
    assert library_module.Origin("haneul-300k", "q4_0").export(tmp_path).is_file()


def test_a_packaged_model_with_capitals_has_its_name_in_ollamas_library(monkeypatch):
    entries = [replace(entry, model=entry.model.title()) for entry in catalog.entries()]
    monkeypatch.setattr(catalog, "entries", lambda: entries)
    assert library()["smollm2:135m"] == library()["smollm2-135m-instruct:latest"]


def test_texts_to_embed_are_tokenized_once_and_together(gguf, monkeypatch):
    fields = {"source": str(gguf), "driver": "llamacpp", "task": "text-embedding", "context_length": 256}
    engine = LlamaCpp.load.__func__(ServedLlamaCpp, ModelSpec.parse(fields))  # without the check of the name
    texts = ["Hello", "<|bos|> who are you?", "하늘은행 " * 9]
    expected, asked = engine.embed(texts), []
    request = engine.server.request
    monkeypatch.setattr(engine.server, "request", lambda *args: asked.append(args[0]) or request(*args))
    engine.text_ids(texts)
    asked.clear()
    rows = engine.text_ids(texts)
    assert asked == ["/tokenize"]
    assert np.allclose(engine.embed_ids(rows), expected, atol=1e-5)
    raw = engine.embed_ids(rows, unit_length=False)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.allclose(raw / lengths, expected, atol=1e-5) and not np.allclose(lengths, 1)
    engine.close()


def test_llama_cpp_makes_the_same_tokens_of_a_prompt_as_the_driver(store):
    """The server leaves the tokenization of a prompt to llama.cpp, unless a turn names a control token."""
    tag = store.find(BASE)
    engine = ServedLlamaCpp.load(place(store, tag, Settings(context_length=512, num_parallel=1)).spec)
    texts = [*TEXTS[:20], "<|bos|>Hi", "<|bos|><|bos|>Hi", " <|bos|>", "a<|bos|>b"]
    for prompt in [*filter(None, texts), *([{"role": "user", "content": text}] for text in texts)]:
        text, ids = engine._text(CompletionRequest(prompt, Generation())), engine.ids(prompt)
        named = isinstance(prompt, list) and "<|bos|>" in prompt[0]["content"]
        assert (text is None) == named
        answers = []
        for form in [ids] if named else [ids, text]:
            body = {"prompt": form, "n_predict": 1, "n_probs": 5, "temperature": 0, "cache_prompt": False}
            reply = engine._completion(body)
            answers.append((reply["usage"]["prompt_tokens"], reply["choices"][0]["logprobs"]))
        assert answers[0][0] == len(ids) and answers[0] == answers[-1], prompt
    engine.close()


def test_making_a_gguf_file_leaves_nothing_in_the_memory_of_the_server(tmp_path):
    """torch and transformers took 370 MB of a server whose first start had made the files."""
    code = (
        "import pathlib, sys; from course_lib.serve.store import Store; "
        f"print(list(Store(pathlib.Path({str(tmp_path)!r})).pull('haneul-300k:q4_0'))[-1]); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    environment = os.environ | {"COURSE_CACHE_DIR": str(tmp_path / "cache")}
    said = subprocess.check_output([sys.executable, "-c", code], cwd=data.ROOT, env=environment, text=True)
    assert said.splitlines() == ["{'status': 'success'}", "set()"]


class Stalled(BaseHTTPRequestHandler):
    """A package index that never answers."""

    asked, free = threading.Event(), threading.Event()

    def do_GET(self):
        self.asked.set()
        self.free.wait()


def test_a_pull_whose_client_has_left_ends(tmp_path, monkeypatch):
    index = ThreadingHTTPServer(("127.0.0.1", 0), Stalled)
    threading.Thread(target=index.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{index.server_port}"
    for name, value in {
        "COURSE_MODELS_DIR": str(tmp_path),
        "PIP_INDEX_URL": url,
        "PIP_CONFIG_FILE": "",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    lines = library_module.download(catalog.entry("smollm2-135m-instruct"))
    assert next(lines)["completed"] == 0
    assert Stalled.asked.wait(60)
    pip = [p for p in psutil.Process().children() if "download" in p.cmdline()]
    lines.close()
    Stalled.free.set()
    assert pip and not any(process.is_running() for process in pip)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    index.shutdown()
    index.server_close()


def test_models_that_pip_brings_are_pulled_by_ollamas_name(tmp_path, monkeypatch, smollm2):
    monkeypatch.setenv("COURSE_MODELS_DIR", str(smollm2.parent.parent))
    store = Store(tmp_path)
    offered = store.find("smollm2-135m-instruct")
    assert "smollm2-135m-instruct:latest" in [tag.name for tag in store.tags()]
    assert store.file(offered) == smollm2 and list(store.blobs.iterdir()) == [], "it stays where it is"
    assert list(store.pull("SmolLM2:135m"))[-1] == {"status": "success"}
    assert store.find("smollm2:135m").key == offered.key
    tag = store.find("smollm2:135m")
    assert (tag.kind, tag.family, tag.context, tag.chat) == ("Q4_1", "llama", 8192, True)
    assert tag.licence == "Apache-2.0" and digest_of(store.file(tag)) == f"sha256:{tag.digest}"
    placed = place(store, tag, Settings())
    assert (placed.context, placed.slots) == (4096, 4)
    assert placed.bytes == plan(store.file(tag), context=4096, batch=4).total
    assert place(store, tag, Settings(), num_ctx=10**9).context == 8192
    set_by_hand = place(store, tag, Settings(num_parallel=2, context_length=1024))
    assert (set_by_hand.context, set_by_hand.slots) == (1024, 2) and set_by_hand.bytes < placed.bytes
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 300_000_000}))
    small = place(store, tag, Settings())
    assert small.bytes <= 150_000_000 and (small.slots, small.context) < (4, 4096)
    with pytest.raises(ApiError, match=r"more system memory.*weights.*KV cache for 1 x 8192 tokens"):
        place(store, tag, Settings(), num_ctx=8192)


def test_a_larger_num_ctx_loads_the_model_anew_and_ps_tells_its_memory(store):
    worker = Worker(store, Settings(context_length=256, num_parallel=1))
    tag = store.find(BASE)
    for num_ctx, context in [(100, 256), (None, 256), (257, 512), (None, 512), (10**6, 2048)]:
        with worker._engine(tag, None, num_ctx) as (engine, _):
            assert engine.context == context
        ((_, model, placed),) = [found for found in worker.loaded() if found[0].name == tag.name]
        assert placed.context == context and placed.bytes > model.bytes + 1000
    assert len(worker.manager.loaded_models()) == 1
    worker.close()


def test_a_small_num_ctx_of_the_first_request_leaves_others_their_context(store):
    placed = place(store, store.find(BASE), Settings(), num_ctx=40)
    assert placed.context == place(store, store.find(BASE), Settings()).context == 2048


def test_a_model_that_is_unloaded_in_use_is_not_loaded_twice(store):
    """Each keep_alive 0 during a long answer took the memory of the model once more."""
    worker, tag = Worker(store, Settings(num_parallel=1)), store.find(BASE)
    with worker._engine(tag, None) as (first, _):
        worker.placements.unload(tag)
        with worker._engine(tag, None) as (second, _):
            assert first is second
        worker.placements.unload(tag)
        assert len(worker.manager.loaded_models()) == 1
    assert worker.manager.loaded_models() == [] and worker.loaded() == []
    worker.close()


def test_a_model_that_does_not_fit_is_refused_with_the_sum(store, monkeypatch):
    monkeypatch.setattr(placement, "MEMORY_SHARE", 1e-9)
    for settings, told, fix in [
        (Settings(), "1 x 256 tokens", "model"),
        (Settings(context_length=512), "1 x 512 tokens", "num_ctx"),
        (Settings(num_parallel=64, context_length=1024), "64 x 1024 tokens", "OLLAMA_NUM_PARALLEL"),
    ]:
        with pytest.raises(ApiError, match=rf"MiB of weights, .* of KV cache for {told}\)") as refused:
            place(store, store.find(BASE), settings)
        assert refused.value.fix.endswith(f"a smaller {fix}")
        total, *parts = re.findall(r"([\d.]+) MiB", refused.value.what.partition(" than ")[0])
        assert float(total) == pytest.approx(sum(map(float, parts)), abs=0.02)
    with pytest.raises(
        ApiError, match="1 x 256 tokens"
    ):  # 192, the half of 384, is below the shortest context
        place(store, replace(store.find(BASE), context=384), Settings())


def test_the_file_of_an_adapter_is_part_of_the_plan(tmp_path):
    store = Store(tmp_path)
    store.add_shipped()
    tag, digest = store.find(BASE), "a" * 64
    styled = replace(tag, adapter=digest)
    with pytest.raises(CourseError, match="the files of haneul-300k:latest are missing"):
        place(store, styled, Settings())
    store.blob(digest).write_bytes(bytes(1000))
    assert place(store, styled, Settings()).bytes == place(store, tag, Settings()).bytes + 1000
    with pytest.raises(CourseError, match="the files of haneul-300k:latest are missing"):
        place(store, replace(tag, folder="", digest="b" * 64), Settings())


def test_settings_are_read_as_ollama_reads_them(monkeypatch):
    values = {"OLLAMA_NUM_PARALLEL": "3", "OLLAMA_CONTEXT_LENGTH": "512", "OLLAMA_KEEP_ALIVE": "10m"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment() == Settings(3, 512, 600)
    monkeypatch.setenv("OLLAMA_KEEP_ALIVE", "-1")
    assert Settings.from_environment().keep_alive == -1
    for name in values:
        monkeypatch.setenv(name, "0")
    assert Settings.from_environment() == Settings(None, None, 0)
    for name, value in [("OLLAMA_KEEP_ALIVE", "soon"), ("OLLAMA_NUM_PARALLEL", "many")]:
        monkeypatch.setenv(name, value)
        with pytest.raises(CourseError, match=name):
            Settings.from_environment()
        monkeypatch.delenv(name)


def test_the_address_and_the_folder_of_models_are_ollamas(monkeypatch, tmp_path):
    for name in ("OLLAMA_HOST", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    assert listen_address() == ("127.0.0.1", 11434) and models_folder() is None
    for host, address in {
        "localhost:5": ("localhost", 5),
        "[::1]": ("::1", 11434),
        ":80": ("127.0.0.1", 80),
    }.items():
        monkeypatch.setenv("OLLAMA_HOST", host)
        assert listen_address() == address
    for host in ("0.0.0.0", "0.0.0.0:5", "http://[::]:5"):
        monkeypatch.setenv("OLLAMA_HOST", host)
        with pytest.raises(CourseError, match="only listens on this machine"):
            listen_address()
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    assert models_folder() == tmp_path / "course"


def test_a_server_keeps_its_models_where_ollama_models_says_and_serves_a_file_of_the_user(tmp_path, gguf):
    environment = os.environ | {"OLLAMA_MODELS": str(tmp_path), "OLLAMA_HOST": "localhost:0"}
    command = [sys.executable, "-m", "course_lib.serve", "--port", "0", "--model", f"{gguf}=Me/Own"]
    with subprocess.Popen(
        command, env=environment, cwd=data.ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("The course's own server")
        process.terminate()
    assert process.returncode == 0
    kept = Store(tmp_path / "course")
    assert kept.find("me/own").name == "Me/Own:latest" and "haneul-4m:latest" in [t.name for t in kept.tags()]


def test_old_leftovers_and_files_without_a_name_are_removed_at_the_start(tmp_path, gguf):
    store = Store(tmp_path)
    kept = store.file(store.add_file(gguf, "own"))
    left = store.blobs / ".pull-abc"
    left.mkdir()
    nameless, fresh = (store.blobs / f"sha256-{n * 64}.gguf" for n in "01")
    nameless.write_bytes(b"x")
    fresh.write_bytes(b"x")
    for path in (kept, left, nameless):
        os.utime(path, (1, 1))
    Store(tmp_path)
    assert sorted(store.blobs.iterdir()) == sorted([kept, fresh])


def test_the_official_client_reads_what_is_created(client):
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.create("x", from_="not-there")


def test_a_model_of_the_repository_with_capitals_is_pulled_by_its_name_in_lower_case(monkeypatch):
    monkeypatch.setattr(catalog, "shipped", lambda: ["Haneul-Caps"])
    assert library()["haneul-caps:latest"].model == "Haneul-Caps"
