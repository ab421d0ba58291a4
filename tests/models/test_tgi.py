"""The driver tgi, against the requests and answers in TGI's documentation (docs/openapi.json, version 3.3).

TGI itself needs a GPU, and did not run here.
"""

import json
import threading
from contextlib import contextmanager

import pytest

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import capability_table
from course_lib.models.drivers.engine import Unsupported
from tests.fake_server import fake_server

SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
INFO = {
    "model_id": "bigscience/bloom-560m",
    "model_sha": "e985a63cdc139290c5f700ff1929f0b5942cced2",
    "model_pipeline_tag": "text-generation",
    "max_concurrent_requests": 128,
    "max_best_of": 2,
    "max_stop_sequences": 4,
    "max_input_tokens": 1024,
    "max_total_tokens": 2048,
    "validation_workers": 2,
    "max_client_batch_size": 32,
    "router": "text-generation-router",
    "version": "3.3.5",
}
ANSWER = {
    "generated_text": " Blue and green",
    "details": {
        "finish_reason": "length",
        "generated_tokens": 3,
        "seed": None,
        "prefill": [],
        "tokens": [{"id": 7, "text": " Blue", "logprob": -0.34, "special": False}],
    },
}
TOKENS = [{"id": i, "text": "t", "start": i, "stop": i + 1} for i in range(5)]
PARAMETERS = {"max_new_tokens": 3, "repetition_penalty": 1.0, "stop": [], "details": True}
SENT = {  # field -> the value given, with the others that it needs, and what it changes in the parameters
    "generation.max_output_length": ({"max_output_length": 9}, {"max_new_tokens": 9}),
    "generation.temperature": (
        {"temperature": 0.5, "seed": 3},
        {"temperature": 0.5, "do_sample": True, "seed": 3},
    ),
    "generation.seed": ({"temperature": 1, "seed": 7}, {"temperature": 1, "do_sample": True, "seed": 7}),
    "generation.top_p": (
        {"temperature": 1, "top_p": 0.5},
        {"temperature": 1, "do_sample": True, "seed": 0, "top_p": 0.5},
    ),
    "generation.top_k": (
        {"temperature": 1, "top_k": 5},
        {"temperature": 1, "do_sample": True, "seed": 0, "top_k": 5},
    ),
    "generation.repetition_penalty": ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
    "generation.stop": ({"stop": ["x"]}, {"stop": ["x"]}),
    "generation.json_schema": ({"json_schema": SCHEMA}, {"grammar": {"type": "json", "value": SCHEMA}}),
}


def event(text, special=False, **rest):
    token = {"id": 2, "text": text, "logprob": -0.1, "special": special}
    return {"index": 1, "token": token, "generated_text": None, "details": None} | rest


def stream(*events, end=True):
    return lambda handler: handler.send_chunks(
        [f"data: {json.dumps(one)}\n\n".encode() for one in events], end
    )


DETAILS = {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 5, "seed": None}
LAST = event("</s>", special=True, generated_text=" Blue sky", details=DETAILS)


@contextmanager
def tgi(responses=(), **spec):
    forms = {"/info": (200, INFO), "/generate": (200, ANSWER), "/tokenize": (200, TOKENS)} | dict(responses)
    with fake_server(forms) as server:
        source = {"type": "server", "model": INFO["model_id"], "url": server.url}
        yield (
            server,
            load({"source": source, "driver": "tgi", "task": "text-generation"} | spec),
        )


def test_an_answer_has_its_text_its_counts_and_its_reason():
    with tgi() as (server, engine):
        reply = engine.generate(["The sky is"], max_output_length=3)[0]
        assert (reply, reply.prompt_tokens, reply.tokens, reply.finish_reason) == (
            *(" Blue and green", 5, 3, "length"),
        )
        assert engine.context == 2048
        assert server.bodies("/generate") == [{"inputs": "The sky is", "parameters": PARAMETERS}]
        assert server.bodies("/tokenize") == [{"inputs": "The sky is"}]


def test_a_stream_leaves_special_tokens_out():
    pieces = stream(event(" Blue"), event(" sky"), LAST)
    with tgi({"/generate_stream": pieces}) as (server, engine):
        streamed = engine.stream("The sky is", max_output_length=9)
        assert list(streamed) == [" Blue", " sky"]
        assert (streamed.reply.prompt_tokens, streamed.reply.tokens) == (5, 3)
        assert streamed.reply.finish_reason == "stop"
        assert server.bodies("/generate_stream")[0]["parameters"]["max_new_tokens"] == 9


@pytest.mark.parametrize("field", SENT)
def test_each_field_is_sent_as_tgi_documents_it(field):
    given, sent = SENT[field]
    text = '{"colour": "red"}' if "schema" in field else " a"
    details = ANSWER["details"] | {"finish_reason": "eos_token"}
    with tgi({"/generate": (200, {"generated_text": text, "details": details})}) as (server, engine):
        engine.generate(["hi"], **({"max_output_length": 3} | given))
        assert server.bodies("/generate")[0]["parameters"] == PARAMETERS | sent


def test_every_field_that_the_table_promises_is_tested_here():
    promised = {name for (driver, name), yes in capability_table.fields().items() if yes and driver == "tgi"}
    assert promised == {*SENT, "batch_size"}


def test_batch_size_is_the_number_of_requests_at_the_same_time():
    together = threading.Barrier(2)

    def both(handler):
        together.wait(10)
        handler.reply(200, ANSWER)

    with tgi({"/generate": both}, batch_size=2) as (_, engine):
        assert len(engine.generate(["a", "b"], max_output_length=3)) == 2


def test_a_stop_text_ends_the_answer():
    details = ANSWER["details"] | {"finish_reason": "stop_sequence"}
    with tgi({"/generate": (200, {"generated_text": " Blue and", "details": details})}) as (_, engine):
        assert engine.generate(["hi"], stop=[" and"]) == [" Blue"]


@pytest.mark.parametrize(
    ("path", "response", "what"),
    [
        (
            "/generate",
            (
                422,
                {"error": "Input validation error: `inputs` tokens + `max_new_tokens`", "error_type": "val"},
            ),
            r"refused \(422\): Input validation error",
        ),
        ("/generate", (429, {"error": "Model is overloaded", "error_type": "overloaded"}), r"\(429\): Model"),
        ("/generate", (424, {"error": "Request failed during generation"}), r"\(424\): Request failed"),
        ("/generate", (200, {"generated_text": "x"}), "not speak the protocol of tgi: KeyError: 'details'"),
        ("/generate_stream", stream({"error": "Incomplete generation", "error_type": "x"}), "Incomplete gen"),
        ("/generate_stream", stream(event(" a")), "broke off after 2 characters"),
        ("/generate_stream", stream(event(" a"), end=False), "the connection to .* broke"),
    ],
)  # fmt: skip
def test_what_goes_wrong_at_the_server_is_told(path, response, what):
    with tgi({path: response}) as (_, engine), pytest.raises(CourseError, match=what):
        list(engine.stream("hi")) if path.endswith("stream") else engine.generate(["hi"])


@pytest.mark.parametrize(
    ("responses", "spec", "what"),
    [
        ({"/info": (200, INFO | {"model_id": "gpt2"})}, {}, "no model .bigscience/bloom-560m.; it has gpt2"),
        ({"/info": (404, {"error": "not found"})}, {}, "does not speak the protocol of tgi"),
        ({}, {"task": "chat-completion"}, "tgi does not support the task chat-completion"),
        ({}, {"task": "text-embedding"}, "tgi does not support the task text-embedding"),
        ({}, {"generation": {"min_output_length": 2}}, "does not support generation.min_output_length"),
    ],
)  # fmt: skip
def test_what_tgi_cannot_do_is_refused(responses, spec, what):
    with pytest.raises((CourseError, Unsupported), match=what), tgi(responses, **spec):
        pass
