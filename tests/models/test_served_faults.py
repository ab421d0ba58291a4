"""Faults of servers become errors with the message of the server; no part of an answer is taken for all."""

import json
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_lib.errors import CourseError
from tests.planted import CHAT, answers, assert_error, pieces, planted, reach

SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue", None]}}, "required": ["colour"]}
DRIVERS = list(CHAT)


@pytest.fixture(scope="module", params=DRIVERS)
def reached(request):
    """An engine, and its server, to whose answers a test may plant one."""
    with planted(answers(request.param)) as server:
        yield reach(server, request.param), server, CHAT[request.param]


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


def test_nothing_wrong(reached):
    engine, server, path = reached
    server.answers[path] = answers(engine.driver)[path]
    reply = engine.generate(["hi"])[0]
    assert (reply, reply.prompt_tokens, reply.tokens, reply.finish_reason) == ("Hello", 5, 2, "stop")


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
def test_an_error_says_what_the_server_said(reached, body):
    engine, server, path = reached
    server.answers[path] = (500, body)
    assert_error(engine, r"refused \(500\): out of memory\n  Fix: see the server's log")


def test_the_error_of_a_stream_comes_with_the_call(reached):
    engine, server, path = reached
    server.answers[path] = (500, {"error": "out of memory"})
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
def test_a_status_leads_to_its_cure(reached, status, body, fix):
    engine, server, path = reached
    server.answers[path] = (status, body)
    assert_error(engine, f"(?s){fix}")


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
def test_what_is_not_the_protocol_is_an_error(reached, body):
    engine, server, path = reached
    server.answers[path] = (200, body)
    assert_error(engine, "does not speak the protocol|without an end|for the reason|refused")


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
def test_no_answer_raises_anything_but_an_error_of_the_course(reached, body):
    engine, server, path = reached
    server.answers[path] = (200, body)
    assert_error(engine, ".")


def test_a_stream_that_breaks_off_is_no_answer(reached):
    engine, server, path = reached
    for end in (False, True):  # the connection breaks, and it ends as if all were said
        server.answers[path] = lambda handler, end=end: handler.chunks(
            pieces(engine.driver, ["He", "llo"], end=False), end
        )
        got = []
        with pytest.raises(CourseError, match=r"broke|after 5 characters"):
            for piece in engine.stream("hi"):
                got.append(piece)
        assert got == ["He", "llo"]


def test_an_error_within_a_stream_is_told(reached):
    engine, server, path = reached
    error = (
        b'data: {"error": {"message": "slot lost"}}\n\n'
        if engine.driver == "openai"
        else b'{"error": "slot lost"}\n'
    )
    server.answers[path] = lambda handler: handler.chunks([*pieces(engine.driver, ["He"], end=False), error])
    with pytest.raises(CourseError, match="slot lost"):
        list(engine.stream("hi"))


def test_a_stream_goes_on_over_odd_line_ends_and_comments(reached):
    engine, server, path = reached
    body = b"".join(pieces(engine.driver, ["a ", "b"]))
    if engine.driver == "openai":  # what json.dumps does not escape is the work of `lines`
        body = body.replace(b'"a "', '"a\u2028\x85 "'.encode()).replace(b"data: {", b": alive\r\n\r\ndata:{")
    server.answers[path] = lambda handler: handler.chunks([body[i : i + 3] for i in range(0, len(body), 3)])
    assert "".join(engine.stream("hi")) == ("a\u2028\x85 b" if engine.driver == "openai" else "a b")


def test_a_stop_text_that_a_server_leaves_in_is_taken_out(reached):
    engine, server, path = reached
    server.answers[path] = lambda handler: handler.chunks(pieces(engine.driver, ["one E", "ND", " two"]))
    assert "".join(engine.stream("hi", stop=["END"])) == "one "


def test_leaving_a_stream_early_closes_the_connection(reached):
    engine, server, path = reached
    closed = threading.Event()

    def endless(handler):
        try:
            handler.chunks(pieces(engine.driver, ["again "], end=False) * 10_000_000)
        except OSError:
            closed.set()

    server.answers[path] = endless
    for piece in engine.stream("hi"):
        assert piece == "again "
        break
    assert closed.wait(5)


@pytest.mark.parametrize(
    ("read", "written", "why", "lost"),
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
def test_counts_that_show_a_cut_are_believed(read, written, why, lost):
    known = answers("ollama")
    known["/api/version"] = (
        200,
        {"version": "0.0.0"},
    )  # built from source: its version does not say whether it refuses
    known["/api/chat"][1].update(prompt_eval_count=read, eval_count=written, done_reason=why)
    with planted(known) as server:
        engine = reach(server, "ollama")
        if lost:
            with pytest.raises(
                CourseError, match=rf"m reads 512 tokens, .*{read} tokens of prompt and {written}"
            ):
                engine.generate(["hi"], max_output_length=500)
        else:
            assert engine.generate(["hi"]) == ["Hello"]


def test_a_server_that_ignores_a_schema_or_counts_nothing_is_found_out(driver):
    with planted(answers(driver)) as server:
        with pytest.raises(CourseError, match=r"ignored the json_schema; its answer is no JSON: 'Hello'"):
            reach(server, driver).generate(["hi"], json_schema=SCHEMA)
        response = server.answers[CHAT[driver]][1]
        response.pop("usage", None) or response.pop("eval_count")
        with pytest.raises(CourseError, match="does not count tokens"):
            reach(server, driver).generate(["hi"])


@pytest.mark.parametrize(
    "embeddings", [[], [[1.0, 2.0]], [[1.0], [1.0, 2.0]], [["a"], ["b"]], [[None], [None]], "x"]
)
def test_vectors_that_cannot_be_are_errors(driver, embeddings):
    path = "/v1/embeddings" if driver == "openai" else "/api/embed"
    rows = [{"index": i, "embedding": e} for i, e in enumerate(embeddings)]
    known = answers(driver)
    if driver == "ollama":
        known["/api/show"][1]["capabilities"] = ["embedding"]
    with planted(known | {path: (200, {"data": rows, "embeddings": [[3.0, 4.0]]})}) as server:
        engine = reach(server, driver, task="text-embedding")
        server.answers[path] = (200, {"data": rows, "embeddings": embeddings})
        with pytest.raises(CourseError, match="does not speak the protocol"):
            engine.embed(["a", "b"])
        server.answers[path] = (
            200,
            {
                "data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}],
                "embeddings": [[3, 4], [0, 2]],
            },
        )
        assert engine.embed(["a", "b"]).tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))
        assert all(body["truncate"] is False for body in server.bodies("/api/embed"))
