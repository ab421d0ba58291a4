"""Errors name the field as it was sent, the model, what was expected, and how to mend it."""

import re

import pytest

from course_lib.errors import CourseError
from course_lib.models.downloads import packages
from course_lib.serve import settings
from course_lib.serve.server import bind

MODEL = "haneul-300k"
TURN = {"role": "user", "content": "Hi"}
CHAT = {"model": MODEL, "messages": [TURN], "stream": False}
LOOKAHEAD = "look-around, including look-ahead and look-behind, is not supported"


def schema(**fields):
    """The same JSON schema in Ollama's request, and in OpenAI's."""
    return {"format": fields}, {"response_format": {"type": "json_schema", "json_schema": {"schema": fields}}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"title": "x"}, "the schema has none of the keywords type"),
        ({"type": "integer", "multipleOf": 0}, "not valid at multipleOf: 0 is less than or equal to the min"),
        ({"type": "integer", "multipleOf": 3}, 'no negative multiples; add "minimum": 0 to this part'),
        ({"type": "integer", "minimum": "a"}, "not valid at minimum: 'a' is not of type 'number'"),
        ({"type": "string", "pattern": "\\"}, "not valid at pattern: '\\\\' is not a 'regex'"),
        ({"type": "string", "pattern": "1 |(?=b)"}, f"regex parse error: 1 |(?=b) {LOOKAHEAD}; leave that"),
        ({"type": "string", "pattern": "^\\^(?=b)"}, f"regex parse error: ^\\^(?=b) {LOOKAHEAD}"),
    ],
)
def test_a_schema_that_cannot_act_is_told_with_the_field_as_it_was_sent(http, fields, told):
    for path, field, more in zip(
        ("/api/chat", "/v1/chat/completions"),
        ("format", "response_format"),
        schema(**fields),
        strict=True,
    ):
        reply = http.post(path, json=CHAT | more)
        error = reply.json()["error"]
        message = error if isinstance(error, str) else error["message"]
        assert reply.status_code == 400 and message.startswith(f"{field}: ") and told in message
        assert isinstance(error, str) or error["param"] == "response_format"


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/api/chat", [], "body: expected a JSON object"),
        ("/api/chat", CHAT | {"messages": ["Hi"]}, "messages.0: expected a JSON object"),
        ("/api/chat", CHAT | {"options": 5}, "options: expected a JSON object"),
        (
            "/api/chat",
            CHAT | {"messages": [TURN | {"images": ["x"]}]},
            f'images: "{MODEL}" does not support vision on this server',
        ),
        ("/api/chat", {"images": ["x"]}, "model: Field required"),
        (
            "/api/chat",
            CHAT | {"options": {"seed": 2**64}},
            "options.seed: expected a whole number of 64 bits",
        ),
        ("/api/create", {"model": "x"}, "neither 'from' nor 'files' was specified; send one of them"),
        (
            "/api/create",
            {"model": "x", "from": MODEL, "files": {"a": "b"}},
            "both 'from' and 'files' were specified; send one of them",
        ),
    ],
)
def test_an_error_names_what_was_expected_and_no_class_of_the_program(http, path, body, told):
    reply = http.post(path, json=body)
    assert reply.status_code == 400 and reply.json()["error"] == told


def test_a_licence_that_was_not_accepted_is_a_matter_of_the_client(http, monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "pulled_models", lambda: tmp_path)
    reply = http.post("/api/pull", json={"model": "gemma-3-270m", "stream": False})
    assert reply.status_code == 403
    assert reply.json()["error"].endswith("; course models pull gemma-3-270m --accept-licence")


def test_a_page_that_is_refused_is_told_the_variable_that_admits_it(http):
    for header in ({"origin": "https://a.example"}, {"sec-fetch-site": "cross-site"}):
        assert "OLLAMA_ORIGINS" in http.get("/api/tags", headers=header).json()["error"]


def test_a_permitted_page_may_ask_before_it_calls_this_machine(http):
    """Browsers ask so before a page of another network calls an address of this one."""
    asked = {
        "origin": "http://localhost:3000",
        "access-control-request-method": "POST",
        "access-control-request-private-network": "true",
    }
    reply = http.options("/api/chat", headers=asked)
    assert reply.status_code == 200 and reply.headers["access-control-allow-private-network"] == "true"
    assert http.options("/api/chat", headers=asked | {"origin": "https://a.example"}).status_code == 403


@pytest.mark.parametrize(
    ("variable", "value", "told", "fix"),
    [
        ("OLLAMA_CONTEXT_LENGTH", "-5", "is not a whole number of 0 or more", "unset OLLAMA_CONTEXT_LENGTH"),
        ("OLLAMA_HOST", "0.0.0.0", "only listens on this machine", "export OLLAMA_HOST=127.0.0.1"),
    ],
)
def test_a_variable_that_cannot_act_is_told_with_what_to_type(monkeypatch, variable, value, told, fix):
    monkeypatch.setenv(variable, value)
    with pytest.raises(CourseError, match=re.escape(told)) as error:
        settings.Settings.from_environment(), settings.listen_address()
    assert error.value.fix == fix


def test_a_host_elsewhere_is_told_with_what_to_type():
    with pytest.raises(CourseError, match="only listens on this machine") as error:
        bind(0, "example.com")
    assert error.value.fix == "unset OLLAMA_HOST"
