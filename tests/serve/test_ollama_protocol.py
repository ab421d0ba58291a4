"""Ollama's routes, by its official client: what they answer, and how they refuse."""

import json
from datetime import datetime, timedelta

import httpx
import numpy as np
import ollama
import pytest

from course_lib.data import sha256
from course_lib.models.drivers import load
from course_lib.models.gguf.writer import TYPES

MODEL = "haneul-300k"
GREEDY = {"temperature": 0, "repeat_penalty": 1.0}
TURNS = [{"role": "user", "content": "Hello, who are you?"}]
FORM = {
    "type": "object",
    "properties": {"open": {"enum": ["yes", "no"]}},
    "required": ["open"],
    "additionalProperties": False,
}


def refused(call, *arguments, **named):
    with pytest.raises(ollama.ResponseError) as found:
        reply = call(*arguments, **named)
        list(reply)
    return found.value.status_code, found.value.error


# -- answers --


def test_the_answer_is_that_of_the_model_without_a_server(client):
    engine = load(MODEL, driver="llamacpp", quantization="q8_0")
    expected = engine.generate([TURNS])[0]
    reply = client.chat(MODEL, TURNS, options=GREEDY)
    assert reply.message.content.strip() == expected and reply.done_reason == "stop"
    assert (reply.prompt_eval_count, reply.eval_count) == (expected.prompt_tokens, expected.tokens)
    again = client.generate(MODEL, TURNS[0]["content"], options=GREEDY)
    assert again.response == reply.message.content


def test_an_answer_that_is_cut_inside_a_character_ends_before_it(client, http):
    cut = 0
    for seed in range(20):  # nearly any token is as likely as another, also those of parts of characters
        asked = {"prompt": "하늘은행의 🙂 수수료", "raw": True}
        asked["options"] = {"temperature": 100.0, "seed": seed, "num_predict": 3}
        whole = client.generate(MODEL, **asked)
        assert whole.response == "".join(p.response for p in client.generate(MODEL, **asked, stream=True))
        assert "\ufffd" not in whole.response[-1:]
        told = http.post("/api/generate", json={"model": MODEL, **asked, "stream": False, "logprobs": True})
        last = bytes(told.json()["logprobs"][-1]["bytes"])
        cut += last.decode("utf-8", "replace").endswith("\ufffd")
    assert cut > 0


def test_a_stream_brings_the_same_text_and_the_same_counts(client):
    whole = client.chat(MODEL, TURNS, options=GREEDY)
    parts = list(client.chat(MODEL, TURNS, stream=True, options=GREEDY))
    assert "".join(p.message.content for p in parts) == whole.message.content
    assert [p.done for p in parts] == [False] * (len(parts) - 1) + [True] and len(parts) > 3
    assert (parts[-1].prompt_eval_count, parts[-1].eval_count) == (whole.prompt_eval_count, whole.eval_count)


def test_durations_are_nanoseconds_and_their_parts_fit_into_the_whole(client):
    reply = client.generate(MODEL, "Hello")
    parts = reply.load_duration, reply.prompt_eval_duration, reply.eval_duration
    assert min(parts) > 0 and sum(parts) <= reply.total_duration < 60e9
    assert datetime.fromisoformat(reply.created_at).tzinfo is not None


def test_system_is_a_turn_before_the_prompt(client):
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    a = client.generate(MODEL, TURNS[0]["content"], system="Be brief.", options=GREEDY)
    b = client.chat(MODEL, turns, options=GREEDY)
    assert a.response == b.message.content and a.prompt_eval_count == b.prompt_eval_count
    assert a.prompt_eval_count > client.chat(MODEL, TURNS).prompt_eval_count


def test_a_raw_prompt_with_the_template_written_out_is_a_chat(client):
    raw = client.generate(
        MODEL, "<|bos|><|user|>Hello, who are you?<|end|><|assistant|>", raw=True, options=GREEDY
    )
    chat = client.chat(MODEL, TURNS, options=GREEDY)
    assert raw.response == chat.message.content and raw.prompt_eval_count == chat.prompt_eval_count


def test_without_a_prompt_a_model_is_loaded_and_with_keep_alive_0_unloaded(client):
    assert client.generate(MODEL, keep_alive="10m").done_reason == "load"
    held = next(m for m in client.ps().models if m.name == f"{MODEL}:latest")
    assert held.context_length == 2048 and held.size > 300_000 and held.size_vram == 0
    left = held.expires_at - datetime.now(held.expires_at.tzinfo)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    assert client.chat(MODEL, [], keep_alive=0).done_reason == "unload"
    assert f"{MODEL}:latest" not in [m.name for m in client.ps().models]
    client.chat(MODEL, TURNS, keep_alive=0)
    assert f"{MODEL}:latest" not in [m.name for m in client.ps().models]
    client.generate(MODEL, keep_alive=-1)
    held = next(m for m in client.ps().models if m.name == f"{MODEL}:latest")
    assert held.expires_at - datetime.now(held.expires_at.tzinfo) > timedelta(days=3000)


# -- options --


def written(client, **options):
    return client.generate(MODEL, "The", raw=True, options=GREEDY | {"num_predict": 24, **options})


def test_every_option_acts(client):
    greedy = written(client)
    assert greedy.eval_count == 24 and greedy.done_reason == "length"
    hot = {written(client, temperature=5.0, seed=s).response for s in (1, 2, 3)}
    assert len(hot) == 3
    assert (
        written(client, temperature=5.0, seed=1).response == written(client, temperature=5.0, seed=1).response
    )
    assert len({written(client, temperature=5.0, seed=-1).response for _ in range(3)}) > 1
    assert written(client, temperature=5.0, top_k=1).response == greedy.response
    assert written(client, temperature=5.0, top_p=1e-6).response == greedy.response
    assert written(client, repeat_penalty=10.0).response != greedy.response
    word = greedy.response.split()[2]
    stopped = written(client, stop=[word])
    assert (
        stopped.response == greedy.response[: greedy.response.index(word)] and stopped.done_reason == "stop"
    )


def test_num_predict_minus_1_writes_until_the_end_or_the_room_is_full(client):
    assert client.chat(MODEL, TURNS, options={"num_predict": -1}).done_reason == "stop"
    reply = client.generate(MODEL, "The", raw=True, options=GREEDY | {"num_predict": -1, "num_ctx": 40})
    assert reply.done_reason == "length" and reply.prompt_eval_count + reply.eval_count == 40


def test_num_predict_is_a_bound_and_so_is_the_room(client):
    reply = client.generate(MODEL, "The", raw=True, options=GREEDY | {"num_predict": 500, "num_ctx": 30})
    assert reply.done_reason == "length" and reply.prompt_eval_count + reply.eval_count == 30


def test_a_prompt_over_num_ctx_is_refused_and_not_cut(client):
    count = client.chat(MODEL, TURNS).prompt_eval_count
    assert client.chat(MODEL, TURNS, options={"num_ctx": count + 1}).eval_count == 1
    status, text = refused(client.chat, MODEL, TURNS, options={"num_ctx": count})
    assert status == 400 and text.startswith(
        f"messages: {count} tokens with system message and template, but num_ctx is {count}"
    )
    status, text = refused(client.generate, MODEL, "word " * 3000, stream=True)
    assert status == 400 and text.startswith("prompt: ") and "num_ctx is 2048" in text


def test_format_json_and_a_schema_hold_the_answer(client):
    options = GREEDY | {"num_predict": 40}
    reply = client.generate("haneul-4m", "Hello", format=FORM, options=options)
    assert reply.done_reason == "stop" and json.loads(reply.response)["open"] in ("yes", "no")
    streamed = client.generate("haneul-4m", "Hello", format=FORM, options=options, stream=True)
    assert "".join(p.response for p in streamed) == reply.response
    assert client.generate(MODEL, "Hello", format="json", options={"num_predict": 8}).response.startswith("{")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "banana"},
        {"$ref": "#/nowhere"},
        {"enum": []},
        {"type": "object", "properties": [1]},
        {"minItems": 10**8},
        {"type": "integer", "minimum": 5, "maximum": 1},
        {"type": "integer", "minimum": 10**30},
        {"multipleOf": 999_983},
        {"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]},
    ],
)
def test_a_schema_that_cannot_be_held_is_refused(client, schema):
    """llama.cpp itself drops most of these without a word, and takes all memory for some."""
    status, text = refused(client.generate, MODEL, "Hello", format=schema, options={"num_predict": 8})
    assert status == 400 and text.startswith("format: ")


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("options.temprature", {"options": {"temprature": 1}}),
        ("options.tfs_z", {"options": {"tfs_z": 0.5}}),
        ("options.vocab_only", {"options": {"vocab_only": True}}),
        ("options.top_p", {"options": {"top_p": 1.5}}),
        ("options.temperature", {"options": {"temperature": -1}}),
        ("options.seed", {"options": {"seed": 2**70}}),
        ("options.repeat_penalty", {"options": {"repeat_penalty": 0.0}}),
        ("keep_alive", {"keep_alive": "soon"}),
        ("suffix", {"suffix": "x"}),
        ("template", {"template": "x"}),
        ("think", {"think": True}),
        ("context", {"context": [1]}),
        ("images", {"images": [b"x"]}),
        ("top_logprobs", {"top_logprobs": 21}),
        ("top_logprobs", {"top_logprobs": 2}),
    ],
)
def test_what_has_no_effect_is_refused_by_name(client, field, call):
    status, text = refused(client.generate, MODEL, "Hi", **call)
    assert status == 400 and field in text.split(";")[0] and text.count(f"{field}:") <= 1


def test_tools_and_other_roles_are_refused_and_empty_fields_are_not(client):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    assert refused(client.chat, MODEL, TURNS, tools=[tool])[1].startswith(f'"{MODEL}" does not support tools')
    assert refused(client.chat, MODEL, [{"role": "tool", "content": "x"}])[1].startswith("messages.0.role: ")
    assert client.chat(MODEL, TURNS, think=False, tools=[]).done
    assert "system" in refused(client.generate, MODEL, "Hi", raw=True, system="x")[1]


NEUTRAL = {
    "mirostat": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "typical_p": 1.0,
    "min_p": 0.0,
    "tfs_z": 1,
    "use_mmap": True,
    "use_mlock": False,
    "num_thread": 4,
    "num_gpu": 0,
    "num_batch": 512,
    "num_keep": 5,
    "numa": False,
    "low_vram": False,
    "penalize_newline": True,
    "num_ctx": 10**6,
    "top_p": 1,
    "top_k": 40.0,
}


def test_what_cannot_change_the_answer_is_accepted(server, client):
    expected = written(client).response
    assert written(client, **NEUTRAL).response == expected
    options = GREEDY | {"num_predict": 24} | NEUTRAL
    body = {"model": MODEL, "prompt": "The", "raw": True, "stream": False, "options": options, "unknown": 1}
    assert httpx.post(f"{server.url}/api/generate", json=body, timeout=120).json()["response"] == expected


def test_without_a_seed_each_answer_is_drawn_anew_with_ollamas_defaults(client, server):
    def text(**options):
        return client.generate(MODEL, "The", raw=True, options={"num_predict": 24, **options}).response

    assert len({text() for _ in range(4)}) > 1 and len({text(temperature=2.0) for _ in range(4)}) > 1
    told = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "repeat_penalty": 1.1, "repeat_last_n": 64}
    assert text(seed=5) == text(seed=5, **told) == text(seed=5 + 2**31)
    openai = {"model": MODEL, "messages": TURNS, "seed": 5, "max_tokens": 20}
    answers = [
        httpx.post(f"{server.url}/v1/chat/completions", json=openai | more, timeout=120).json()["choices"]
        for more in ({}, {"temperature": 1, "top_p": 1}, {"seed": None}, {"seed": None})
    ]
    assert answers[0] == answers[1] and answers[2] != answers[3]


def test_further_sampling_options_act(client):
    greedy = written(client).response
    hot = {"temperature": 3.0, "seed": 1}
    assert written(client, min_p=1.0, **hot).response == greedy != written(client, **hot).response
    for option in ({"presence_penalty": 5.0}, {"frequency_penalty": 5.0}):
        assert written(client, **option).response != greedy
    assert written(client, repeat_penalty=10.0, repeat_last_n=0).response == greedy
    assert written(client, repeat_penalty=10.0, repeat_last_n=-1).response != greedy
    assert written(client, mirostat=2, **hot).response != written(client, **hot).response


def test_log_probabilities_are_told(client):
    options = GREEDY | {"num_predict": 3}
    reply = client.generate(MODEL, "The", raw=True, options=options, logprobs=True, top_logprobs=2)
    tokens = reply.logprobs
    assert "".join(t.token for t in tokens) == reply.response and len(tokens) == 3
    assert all(t.top_logprobs[0].logprob == t.logprob > t.top_logprobs[1].logprob for t in tokens)
    parts = list(client.chat(MODEL, TURNS, options=options, logprobs=True, stream=True))
    assert sum(len(p.logprobs or []) for p in parts) == 3
    assert client.chat(MODEL, TURNS, options=options).logprobs is None


# -- vectors --


def test_vectors_are_those_of_the_embedding_model(client):
    texts = ["opening hours", "when does it open?", "loan"]
    engine = load("all-MiniLM-L6-v2", task="text-embedding")
    reply = client.embed("all-minilm", texts)
    assert np.allclose(reply.embeddings, engine.embed(texts), atol=1e-6)
    assert reply.prompt_eval_count == sum(len(engine.tokenizer.encode(t)) for t in texts)
    assert client.embed("all-minilm", texts[0]).embeddings[0] == pytest.approx(reply.embeddings[0], abs=1e-6)
    older = np.array(client.embeddings("all-minilm", texts[0]).embedding)  # not scaled, as in Ollama
    assert np.allclose(older / np.linalg.norm(older), reply.embeddings[0], atol=1e-6)
    assert not 0.99 < np.linalg.norm(older) < 1.01
    assert client.embed("all-minilm", []).embeddings == client.embed("all-minilm", "").embeddings == []
    assert len(client.embed("all-minilm", ["", "x"]).embeddings) == 2
    assert client.embeddings("all-minilm", "").embedding == []
    short = client.embed("all-minilm", texts, dimensions=8).embeddings
    cut = np.array(reply.embeddings)[:, :8]
    assert np.allclose(short, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    status, text = refused(client.embed, "all-minilm", texts, dimensions=385)  # Ollama ignores it
    assert (status, text) == (400, "dimensions: 385, but a vector of all-minilm:latest has 384")


def test_a_long_text_is_cut_unless_truncate_is_false(client):
    long, options = ["short", "word " * 300], {"num_ctx": 4}
    for truncate in (None, True):
        reply = client.embed("all-minilm", long, truncate=truncate)
        assert reply.prompt_eval_count == 3 + 256
        near = client.embed("all-minilm", "word " * 254).embeddings[0]
        assert np.dot(reply.embeddings[1], near) > 0.999
    status, text = refused(client.embed, "all-minilm", long, truncate=False)
    assert status == 400 and text.startswith("input: text 1 has 302 tokens, which exceeds the context length")
    assert client.embed("all-minilm", "a b c", options=options).prompt_eval_count == 4
    assert refused(client.embed, "all-minilm", "a b c", options=options, truncate=False)[0] == 400
    assert client.embed("all-minilm", "a", options={"num_ctx": 512, "temperature": 0}).embeddings


def test_each_model_does_what_it_can(client):
    assert refused(client.embed, MODEL, "x") == (
        400,
        f'model "{MODEL}" does not support embeddings; all-minilm does',
    )
    assert refused(client.generate, "all-minilm", "x")[1].startswith(
        'model "all-minilm" does not support generate'
    )
    assert refused(client.chat, "all-minilm", TURNS)[1].startswith('model "all-minilm" does not support chat')


# -- the store --


def test_the_shipped_models_are_there_from_the_beginning(client, store):
    found = {m.model: m for m in client.list().models}
    assert {f"{n}:latest" for n in ("haneul-300k", "haneul-1m", "haneul-4m", "all-minilm")} <= set(found)
    latest = found["haneul-4m:latest"]
    assert latest.details.quantization_level == "Q8_0" and latest.details.parameter_size == "4.46M"
    file = store.blobs / f"sha256-{latest.digest}.gguf"
    assert sha256(file) == latest.digest and file.stat().st_size == latest.size


@pytest.mark.parametrize("kind", TYPES)
def test_pull_writes_the_file_and_tells_its_progress(client, store, kind):
    name = f"{MODEL}:{kind}"
    lines = list(client.pull(name, stream=True))
    assert lines[0].status == "pulling manifest"
    assert [line.status for line in lines[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    moved = [line for line in lines if line.digest]
    assert moved[-1].completed == moved[-1].total and moved[-1].status == f"pulling {moved[-1].digest[7:19]}"
    assert sha256(store.blobs / f"{moved[-1].digest.replace(':', '-')}.gguf") == moved[-1].digest[7:]
    assert client.pull(name).status == "success"
    assert client.chat(name, TURNS).message.content
    shown = client.show(name)
    assert (
        shown.details.quantization_level == kind.upper()
        and shown.capabilities == ["completion"]
        and shown.license == "mit"
    )
    assert shown.parameters == "", "it sets no options of its own"
    assert shown.modelinfo["llama.context_length"] == 2048 and shown.modelinfo["tokenizer.ggml.tokens"] == []
    assert "<|assistant|>" in shown.template


def test_copy_and_delete(client, store):
    client.pull("haneul-1m:q4_0")
    client.copy("haneul-1m:q4_0", "Me/Mine:V2")
    digest = next(m.digest for m in client.list().models if m.model == "Me/Mine:V2")
    client.delete("haneul-1m:q4_0")
    assert (
        client.chat("me/mine:v2", TURNS).message.content and (store.blobs / f"sha256-{digest}.gguf").is_file()
    )
    client.delete("me/mine:v2")
    assert not (store.blobs / f"sha256-{digest}.gguf").exists()
    assert "me/mine:v2" not in [m.name for m in client.ps().models]
    assert refused(client.chat, "me/mine:v2", TURNS)[0] == 404
    assert refused(client.delete, "me/mine:v2")[0] == 404
    assert refused(client.copy, "me/mine:v2", "other")[1].startswith("source: model 'me/mine:v2' not found")


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b/c", "a..b", "", ".", "x:../y", "/etc/passwd", "a:b:c", "a b", "haneul-4m\n", "x" * 90],
)
def test_a_name_that_is_no_name_is_refused(server, name):
    for path in ("show", "chat", "generate", "pull"):
        reply = httpx.post(f"{server.url}/api/{path}", json={"model": name}, timeout=120)
        error = reply.json()["error"]
        assert reply.status_code == 400 and "model" in error and "model: " not in error
    reply = httpx.post(f"{server.url}/api/copy", json={"source": MODEL, "destination": name}, timeout=120)
    assert reply.status_code == 400 and reply.json()["error"].startswith("destination: ")


def test_a_model_that_is_not_there_and_one_that_is_not_in_the_catalogue(client):
    assert refused(client.chat, "llama3", TURNS)[0] == 404
    status, text = refused(client.pull, "llama3:13b")
    assert (
        status == 404
        and text.startswith("pull model manifest: file does not exist")
        and "course models list" in text
    )
    assert refused(client.pull, "smollm2:360m")[1].endswith("smollm2:135m, smollm2-135m-instruct")
    assert refused(client.pull, "llama3:13b", stream=True)[1].startswith("pull model manifest")
    assert refused(client.show, "llama3")[1].startswith("model 'llama3' not found")
