"""A server's faults become errors with its message; an incomplete answer is never returned as complete."""

import json
import re
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_lib.errors import CourseError
from tests.fake_server import CHAT, assert_raises, default_responses, fake_server, load_from, stream_chunks

SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue", None]}}, "required": ["colour"]}
DRIVERS = list(CHAT)


@pytest.fixture(scope="module", params=DRIVERS)
def connection(request):
    """An engine, its fake server, and the path of the chat requests, whose response a test can replace."""
    with fake_server(default_responses(request.param)) as server:
        yield load_from(server, request.param), server, CHAT[request.param]


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


def test_an_answer_without_faults(connection):
    engine, server, path = connection
    server.responses[path] = default_responses(engine.driver)[path]
    reply = engine.generate(["hi"])[0]
    assert (reply, reply.prompt_tokens, reply.tokens, reply.finish_reason) == ("Hello", 5, 2, "stop")


def test_an_answer_that_is_cut_inside_a_character_ends_before_it(driver):
    """As other servers send it: with a replacement character for the bytes of which there is no character."""
    responses, path = default_responses(driver), CHAT[driver]
    whole = json.loads(re.sub(" ?Hello ?", "하늘\ufffd", json.dumps(responses[path])))
    with fake_server(responses | {path: whole}) as server:
        engine = load_from(server, driver)
        assert engine.generate(["hi"])[0] == "하늘"
        server.responses[path] = lambda handler: handler.send_chunks(
            stream_chunks(driver, ["하", "늘", "\ufffd"])
        )
        assert list(engine.stream("hi")) == ["하", "늘"]


@pytest.mark.parametrize(
    "body",
    [
        {"error": "out of memory"},
        {"error": {"message": "out of memory", "code": 500}},
        {"message": "out of memory"},
        {"detail": "out of memory"},
        "out of memory",
        {"error": json.dumps({"error": {"message": "out of memory"}})},
    ],
)
def test_an_error_contains_the_message_of_the_server(connection, body):
    engine, server, path = connection
    server.responses[path] = (500, body)
    assert_raises(engine, r"refused \(500\): out of memory\n  Fix: see the server's log")


@pytest.mark.parametrize("kind", ["generate", "stream"])
def test_a_request_over_a_connection_that_the_server_just_closed_is_sent_again(driver, kind):
    """As llama-server does with an idle connection, which the client cannot know before it uses it again."""
    with fake_server(default_responses(driver)) as server:
        engine, path, answers = load_from(server, driver), CHAT[driver], []

        def closed_once(handler):
            if not answers:
                answers.append("closed")
                handler.close_connection = True
            elif kind == "generate":
                handler.reply(*default_responses(driver)[path])
            else:
                handler.send_chunks(stream_chunks(driver, ["Hel", "lo"]))

        server.responses[path] = closed_once
        ask = {"generate": lambda: engine.generate(["hi"])[0], "stream": lambda: "".join(engine.stream("hi"))}
        assert ask[kind]().strip() == "Hello" and len(server.bodies(path)) == 2
        server.responses[path] = lambda handler: setattr(handler, "close_connection", True)
        with pytest.raises(CourseError, match="broke: Server disconnected without sending a response"):
            ask[kind]()
        assert len(server.bodies(path)) == 4, "a request that fails twice is not sent a third time"


def test_the_call_of_stream_raises_the_error(connection):
    engine, server, path = connection
    server.responses[path] = (500, {"error": "out of memory"})
    with pytest.raises(CourseError, match="out of memory"):
        engine.stream("hi")


@pytest.mark.parametrize(
    ("status", "body", "fix"),
    [
        (400, {"error": "the input length exceeds the context length"}, "fewer or shorter passages"),
        (
            400,
            {"error": json.dumps({"error": {"message": "2622 tokens exceed the context size"}})},
            "2622 tokens.*fewer",
        ),
        (429, {"error": "busy"}, "smaller batch_size"),
        (503, {"error": "Loading model"}, "wait"),
        (404, "<html>not found</html>", "correct|address up to|address without"),
        (302, "", "address up to|address without"),
        (404, {"error": "model 'm' not found"}, "load it again"),
    ],
)
def test_each_status_has_its_fix(connection, status, body, fix):
    engine, server, path = connection
    server.responses[path] = (status, body)
    assert_raises(engine, f"(?s){fix}")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "17",
        '{"choices": []}',
        '{"choices": 3}',
        '{"message": 3}',
        b"\xff",
        "<html>hello</html>",
        '{"done": true}',
        "data: 3\n\n",
        "[" * 100_000,
    ],
)
def test_a_response_that_violates_the_protocol_is_an_error(connection, body):
    engine, server, path = connection
    server.responses[path] = (200, body)
    assert_raises(engine, "does not speak the protocol|incomplete|broke off|finish reason|refused")


@given(
    body=st.binary(max_size=40)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "message",
                        "content",
                        "usage",
                        "done",
                        "error",
                        "index",
                        "delta",
                        "finish_reason",
                    ]
                ),
                inner,
                max_size=3,
            )
            | st.lists(inner, max_size=2)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_response_raises_a_course_error(connection, body):
    engine, server, path = connection
    server.responses[path] = (200, body)
    assert_raises(engine, ".")


def test_a_stream_that_breaks_off_is_an_error(connection):
    engine, server, path = connection
    for end in (False, True):  # the connection breaks, or ends as if the answer were complete
        server.responses[path] = lambda handler, end=end: handler.send_chunks(
            stream_chunks(engine.driver, ["He", "llo"], end=False), end
        )
        got = []
        with pytest.raises(CourseError, match=r"broke|after 5 characters"):
            for piece in engine.stream("hi"):
                got.append(piece)
        assert got == ["He", "llo"]


def test_an_error_inside_a_stream_is_raised(connection):
    engine, server, path = connection
    error = (
        b'data: {"error": {"message": "slot lost"}}\n\n'
        if engine.driver == "openai"
        else b'{"error": "slot lost"}\n'
    )
    server.responses[path] = lambda handler: handler.send_chunks(
        [*stream_chunks(engine.driver, ["He"], end=False), error]
    )
    with pytest.raises(CourseError, match="slot lost"):
        list(engine.stream("hi"))


def test_a_stream_continues_after_unusual_line_ends_and_comments(connection):
    engine, server, path = connection
    body = b"".join(stream_chunks(engine.driver, ["a ", "b"]))
    if (
        engine.driver == "openai"
    ):  # json.dumps would escape U+2028 and U+0085; split_lines must not split there
        body = body.replace(b'"a "', '"a\u2028\x85 "'.encode()).replace(b"data: {", b": alive\r\n\r\ndata:{")
    server.responses[path] = lambda handler: handler.send_chunks(
        [body[i : i + 3] for i in range(0, len(body), 3)]
    )
    assert "".join(engine.stream("hi")) == ("a\u2028\x85 b" if engine.driver == "openai" else "a b")


def test_a_stop_text_that_a_server_sends_is_removed(connection):
    engine, server, path = connection
    server.responses[path] = lambda handler: handler.send_chunks(
        stream_chunks(engine.driver, ["one E", "ND", " two"])
    )
    assert "".join(engine.stream("hi", stop=["END"])) == "one "


def test_leaving_a_stream_early_closes_the_connection(connection):
    engine, server, path = connection
    closed = threading.Event()

    def endless(handler):
        try:
            handler.send_chunks(stream_chunks(engine.driver, ["again "], end=False) * 10_000_000)
        except OSError:
            closed.set()

    server.responses[path] = endless
    for piece in engine.stream("hi"):
        assert piece == "again "
        break
    assert closed.wait(5)


@pytest.mark.parametrize(
    ("prompt_tokens", "tokens", "reason", "truncated"),
    [
        (
            512,
            11,
            "stop",
            True,
        ),  # recorded from Ollama 0.12.5, num_ctx 512: a longer text, cut to the context
        (
            496,
            30,
            "stop",
            True,
        ),  # recorded from 0.12.6 without shift: false: the answer pushed the prompt out
        (61, 451, "length", True),  # recorded from 0.40: the answer filled the context
        (318, 7, "stop", False),
        (500, 12, "stop", False),
        (61, 128, "length", False),
    ],
)
def test_token_counts_reveal_a_truncated_prompt_or_answer(prompt_tokens, tokens, reason, truncated):
    responses = default_responses("ollama")
    responses["/api/version"] = (
        200,
        {"version": "0.0.0"},
    )  # built from source: its version does not say whether it refuses
    responses["/api/chat"][1].update(prompt_eval_count=prompt_tokens, eval_count=tokens, done_reason=reason)
    with fake_server(responses) as server:
        engine = load_from(server, "ollama")
        if truncated:
            counts = f"{prompt_tokens} tokens of prompt and {tokens}"
            with pytest.raises(CourseError, match=f"the context of 512 tokens of m is full: .*{counts}"):
                engine.generate(["hi"], max_output_length=500)
        else:
            assert engine.generate(["hi"]) == ["Hello"]


def test_a_server_that_ignores_a_schema_or_reports_no_counts_is_an_error(driver):
    with fake_server(default_responses(driver)) as server:
        with pytest.raises(CourseError, match=r"ignored the json_schema; its answer is not JSON: 'Hello'"):
            load_from(server, driver).generate(["hi"], json_schema=SCHEMA)
        response = server.responses[CHAT[driver]][1]
        response.pop("usage", None) or response.pop("eval_count")
        with pytest.raises(CourseError, match="does not report token counts"):
            load_from(server, driver).generate(["hi"])


@pytest.mark.parametrize(
    "embeddings", [[], [[1.0, 2.0]], [[1.0], [1.0, 2.0]], [["a"], ["b"]], [[None], [None]], "x"]
)
def test_invalid_vectors_are_errors(driver, embeddings):
    path = "/v1/embeddings" if driver == "openai" else "/api/embed"
    rows = [{"index": i, "embedding": e} for i, e in enumerate(embeddings)]
    responses = default_responses(driver)
    if driver == "ollama":
        responses["/api/show"][1]["capabilities"] = ["embedding"]
    with fake_server(responses | {path: (200, {"data": rows, "embeddings": [[3.0, 4.0]]})}) as server:
        engine = load_from(server, driver, task="text-embedding")
        server.responses[path] = (200, {"data": rows, "embeddings": embeddings})
        with pytest.raises(CourseError, match="does not speak the protocol"):
            engine.embed(["a", "b"])
        server.responses[path] = (
            200,
            {
                "data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}],
                "embeddings": [[3, 4], [0, 2]],
            },
        )
        assert engine.embed(["a", "b"]).tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))
        assert all(body["truncate"] is False for body in server.bodies("/api/embed"))
