"""OpenAI's routes, by its official client: what they answer, and how they refuse."""

import base64
import json

import httpx
import numpy as np
import openai
import pytest

MODEL = "haneul-300k"
TURNS = [{"role": "user", "content": "Hello, who are you?"}]
GREEDY = {"temperature": 0}
OLLAMA_GREEDY = {"temperature": 0, "repeat_penalty": 1.0}
SCHEMA = {"name": "answer", "strict": True, "schema": {"enum": ["yes", "no"]}}


@pytest.fixture(scope="module")
def asking(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def refused(call, kind=openai.BadRequestError, **named):
    with pytest.raises(kind) as found:
        call(model=named.pop("model", MODEL), **named)
    return found.value.body


def test_a_chat_is_that_of_ollamas_route(asking, client):
    reply = asking.chat.completions.create(model=MODEL, messages=TURNS, **GREEDY)
    theirs = client.chat(MODEL, TURNS, options=OLLAMA_GREEDY)
    assert (
        reply.choices[0].message.content == theirs.message.content
        and reply.choices[0].finish_reason == "stop"
    )
    assert (
        reply.usage.prompt_tokens == theirs.prompt_eval_count
        and reply.usage.completion_tokens == theirs.eval_count
    )
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "who are you?"}]
    same = asking.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": parts}], **GREEDY
    )
    assert same.choices[0].message.content == theirs.message.content


def test_a_stream_brings_the_same_text_and_usage_where_it_is_asked_for(asking):
    whole = asking.chat.completions.create(model=MODEL, messages=TURNS, **GREEDY)
    more = GREEDY | {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(asking.chat.completions.create(model=MODEL, messages=TURNS, **more))
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert (
        chunks[-2].choices[0].finish_reason == "stop"
        and chunks[-1].choices == []
        and chunks[-1].usage == whole.usage
    )
    assert all(
        c.usage is None for c in asking.chat.completions.create(model=MODEL, messages=TURNS, stream=True)
    )


def test_options_act(asking):
    def text(**options):
        return asking.chat.completions.create(model=MODEL, messages=TURNS, **GREEDY | options).choices[0]

    assert text(max_tokens=2).finish_reason == text(max_completion_tokens=2).finish_reason == "length"
    assert len({text(temperature=2.0, seed=s).message.content for s in range(4)}) > 1
    assert text(temperature=2.0, seed=1).message.content == text(temperature=2.0, seed=1).message.content
    assert text(temperature=2.0, top_p=1e-6).message.content == text().message.content
    word = text().message.content.split()[2]
    assert word not in text(stop=[word]).message.content
    assert text(response_format={"type": "json_schema", "json_schema": SCHEMA}).message.content in (
        '"yes"',
        '"no"',
    )
    assert text(response_format={"type": "json_object"}, max_tokens=8).message.content.startswith("{")
    assert (
        text(response_format={"type": "text"}, n=1, user="me", frequency_penalty=0).message.content
        == text().message.content
    )


def test_completions_answer_each_prompt(asking):
    prompts = ["Hello, who are you?", "Hello"]
    reply = asking.completions.create(model=MODEL, prompt=prompts, max_tokens=30, **GREEDY)
    alone = [asking.completions.create(model=MODEL, prompt=p, max_tokens=30, **GREEDY) for p in prompts]
    assert [c.text for c in reply.choices] == [a.choices[0].text for a in alone]
    assert reply.usage.total_tokens == sum(a.usage.total_tokens for a in alone)
    chunks = list(
        asking.completions.create(model=MODEL, prompt=prompts[0], max_tokens=30, stream=True, **GREEDY)
    )
    assert "".join(c.choices[0].text for c in chunks) == reply.choices[0].text
    assert refused(asking.completions.create, prompt=prompts, stream=True)["param"] == "prompt"


def test_vectors_as_numbers_and_as_bytes(asking, client, server):
    theirs = client.embed("all-minilm", ["a", "b c"]).embeddings
    reply = asking.embeddings.create(model="all-minilm", input=["a", "b c"])  # the client asks for base64
    assert (
        np.allclose([d.embedding for d in reply.data], theirs, atol=1e-6) and reply.usage.prompt_tokens == 7
    )
    body = {"model": "all-minilm", "input": "a"}
    plain = httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=120).json()["data"][0]["embedding"]
    packed = httpx.post(
        f"{server.url}/v1/embeddings", json=body | {"encoding_format": "base64"}, timeout=120
    ).json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), dtype="<f4") == pytest.approx(plain, abs=1e-7)


def test_models_are_listed_and_found(asking):
    assert "haneul-4m:latest" in [m.id for m in asking.models.list()]
    assert asking.models.retrieve("haneul-4m").id == "haneul-4m:latest"
    with pytest.raises(openai.NotFoundError, match="model 'llama3' not found"):
        asking.models.retrieve("llama3")


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("n", {"n": 2}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 30}),
        ("temperature", {"temperature": -1}),
        ("seed", {"seed": 2**70}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": 3, "max_completion_tokens": 4}),
        ("frequency_penalty", {"frequency_penalty": 500}),
        ("logit_bias", {"logit_bias": {"1": 5}}),
        ("response_format", {"response_format": {"type": "xml"}}),
        ("stop", {"stop": [""]}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("reasoning_effort", {"reasoning_effort": "low"}),
        ("verbosity", {"verbosity": "low"}),
        ("tool_choice", {"tool_choice": "required"}),
        ("top_logprobs", {"top_logprobs": 2}),
        ("messages", {"messages": []}),
        ("messages.0.role", {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}),
        (
            "messages.0.content",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        ),
    ],
)
def test_what_has_no_effect_is_refused_by_name(asking, field, options):
    body = refused(asking.chat.completions.create, **{"messages": TURNS} | options)
    assert body["param"] == field and field in body["message"] and body["type"] == "invalid_request_error"


def test_what_does_not_fit_is_refused_before_a_stream_begins(asking):
    long = [{"role": "user", "content": "word " * 3000}]
    assert "num_ctx is 2048" in refused(asking.chat.completions.create, messages=long, stream=True)["message"]
    assert (
        refused(asking.chat.completions.create, openai.NotFoundError, model="gpt-4", messages=TURNS)["param"]
        == "model"
    )
    assert refused(asking.embeddings.create, model="all-minilm", input=[[1, 2]])["param"].startswith("input")
    long = "word " * 300
    assert refused(asking.embeddings.create, model="all-minilm", input=long)["param"] == "input"
    assert len(asking.embeddings.create(model="all-minilm", input="a", dimensions=8).data[0].embedding) == 8


def test_a_stream_ends_with_done(server):
    body = {"model": MODEL, "messages": TURNS, "stream": True}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)
    events = reply.text.strip().split("\n\n")
    assert reply.headers["content-type"].startswith("text/event-stream") and events[-1] == "data: [DONE]"
    assert {json.loads(e[6:])["object"] for e in events[:-1]} == {"chat.completion.chunk"}


def test_log_probabilities_are_told_in_both_forms(asking):
    more = GREEDY | {"max_tokens": 3}
    for streamed in (False, True):
        reply = asking.chat.completions.create(
            model=MODEL, messages=TURNS, logprobs=True, top_logprobs=2, stream=streamed, **more
        )
        choices = [part.choices[0] for part in (reply if streamed else [reply])]
        tokens = [token for c in choices if c.logprobs for token in c.logprobs.content]
        assert len(tokens) == 3 and all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in tokens)
    text = asking.completions.create(model=MODEL, prompt="Hello", logprobs=0, **more).choices[0]
    assert "".join(text.logprobs.tokens) == text.text and len(text.logprobs.token_logprobs) == 3
    assert text.logprobs.top_logprobs == [{}] * 3
    assert asking.completions.create(model=MODEL, prompt="Hello", **more).choices[0].logprobs is None
