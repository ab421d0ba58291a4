"""The requests of the drivers ollama and openai: address, token, fields, and how many at the same time."""

import json
import socket
import threading
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import http_client
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.ollama import Ollama, modelfile_options
from tests.fake_server import CHAT, assert_raises, default_responses, fake_server, load_from

SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue", None]}}, "required": ["colour"]}
DRIVERS = list(CHAT)


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


def test_without_a_server_the_fix_is_to_start_one(driver):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # nothing listens on this port
        source = {"type": "server", "model": "m", "url": f"http://127.0.0.1:{bound.getsockname()[1]}"}
        fix = "ollama serve" if driver == "ollama" else "course serve"
        with pytest.raises(CourseError, match=rf"(?s)no server answers at http://127.0.0.1.*{fix}"):
            load({"source": source, "driver": driver})


def test_a_server_that_stops_after_loading(driver):
    with fake_server(default_responses(driver)) as server:
        engine = load_from(server, driver)
        server.stop()
        assert_raises(engine, "no server answers|broke")
        engine.close()


def test_a_silent_server_causes_a_timeout(driver, monkeypatch):
    monkeypatch.setattr(http_client, "READ_TIMEOUT", 0.2)
    with fake_server(default_responses(driver)) as server:
        server.responses[CHAT[driver]] = lambda handler: time.sleep(0.5)
        assert_raises(load_from(server, driver), r"(?s)sent nothing for 0.2 s.*max_output_length")


def test_another_kind_of_server_is_recognised(driver):
    match = rf"(?s)does not speak the protocol of {driver}.*Fix: export O.*address"
    for body in ("<html>It works!</html>", [], {"hello": 1}, {"version": None, "data": None}, 3):
        responses = {"/api/version": (200, body), "/v1/models": (200, body)}
        with fake_server(responses) as server, pytest.raises(CourseError, match=match):
            load_from(server, driver)


def test_a_token_is_sent_to_the_server_and_never_shown(driver, monkeypatch):
    secret = "sk-very-secret-17"
    monkeypatch.setenv("MY_TOKEN", secret)
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-of-another-place")
    with fake_server(default_responses(driver)) as server:
        engine = load_from(server, driver, source={"token": "${env.MY_TOKEN}"})
        engine.generate(["hi"])
        assert {h.get("Authorization") or h.get("authorization") for _, h, _ in server.requests} == {
            f"Bearer {secret}"
        }
        server.responses[CHAT[driver]] = (401, {"error": f"the key {secret} is not known"})
        with pytest.raises(CourseError) as caught:
            engine.generate(["hi"])
        assert "refuses the token in the variable MY_TOKEN (401): the key *** is not known" in str(
            caught.value
        )
        assert secret not in repr(engine) and secret not in repr(engine.spec)
        server.requests.clear()
        assert_raises(
            load_from(server, driver),
            r"(?s)requires a token.*export (OPENAI|OLLAMA)_API_KEY=.*token.*\$\{env\.",
        )
        assert not any("sk-" in str(h) for _, h, _ in server.requests)


def test_an_invalid_token_is_refused_without_showing_it(driver, monkeypatch):
    with fake_server(default_responses(driver)) as server:
        for value, match in (
            ("sk-1\nsk-2", "spaces, line breaks"),
            ("schlüssel", "non-ASCII characters"),
            (None, "which is not set"),
        ):
            monkeypatch.delenv("MY_TOKEN", raising=False)
            if value:
                monkeypatch.setenv("MY_TOKEN", value)
            with pytest.raises(CourseError, match=match) as caught:
                load_from(server, driver, source={"token": "${env.MY_TOKEN}"})
            assert value is None or value not in str(caught.value)
        assert server.requests == []


def test_the_address_may_come_from_the_environment(driver, monkeypatch):
    variable = {"openai": "OPENAI_BASE_URL", "ollama": "OLLAMA_HOST"}[driver]
    with fake_server(default_responses(driver)) as server:
        monkeypatch.setenv(
            variable, f"{server.url}/v1/" if driver == "openai" else f"0.0.0.0:{server.server_port}"
        )
        assert load("m", driver=driver).generate(["hi"]) == ["Hello"]
    monkeypatch.delenv(variable)
    match = (
        r"neither source.url nor the variable OPENAI_BASE_URL is set"
        if driver == "openai"
        else r"127.0.0.1:11434|no model 'm'"
    )
    with pytest.raises(CourseError, match=match):
        load("m", driver=driver)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1:1234", "http://127.0.0.1:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("box", "http://box:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("https://box/a", "https://box/a"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_ollama_host_may_be_abbreviated(host, address):
    assert Ollama._complete_url(host) == address


def test_requests_to_this_machine_use_no_proxy(driver, monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with fake_server(default_responses(driver)) as server:
        assert load_from(server, driver).generate(["hi"]) == ["Hello"]
    with pytest.raises(
        CourseError, match=r"no server answers at http://far\.invalid"
    ):  # and there the proxy is asked
        load({"source": {"type": "server", "model": "m", "url": "http://far.invalid"}, "driver": driver})
    monkeypatch.setenv("all_proxy", "gopher://127.0.0.1:9")
    with pytest.raises(CourseError, match=r"(?s)a proxy in the environment cannot be used.*unset"):
        load({"source": {"type": "server", "model": "m", "url": "https://far.invalid"}, "driver": driver})


def test_batch_size_is_the_number_of_requests_in_flight(driver):
    active, maximum, lock = [0], [0], threading.Condition()
    body = default_responses(driver)[CHAT[driver]][1]

    def counted(handler):
        with lock:
            active[0] += 1
            maximum[0] = max(maximum[0], active[0])
            lock.notify_all()
            lock.wait_for(lambda: maximum[0] == 3, 5)
        time.sleep(0.02)
        with lock:
            active[0] -= 1
        handler.reply(200, body)

    with fake_server(default_responses(driver) | {CHAT[driver]: counted}) as server:
        assert load_from(server, driver, batch_size=3).generate(["hi"] * 7) == ["Hello"] * 7
    assert maximum[0] == 3


def test_after_a_failure_no_further_requests_are_sent(driver):
    with fake_server(default_responses(driver) | {CHAT[driver]: (500, {"error": "no"})}) as server:
        with pytest.raises(CourseError, match="refused"):
            load_from(server, driver, batch_size=2).generate(["hi"] * 50)
        assert len(server.bodies(CHAT[driver])) < 10


def test_an_ollama_that_truncates_silently_is_refused():
    for version, old in (
        ("0.12.5", True),
        ("0.9.0-rc1", True),
        ("0.12.6", False),
        ("1.0.0", False),
        ("0.0.0", False),
    ):
        with fake_server(
            default_responses("ollama") | {"/api/version": (200, {"version": version})}
        ) as server:
            if old:
                with pytest.raises(
                    CourseError, match=rf"(?s)Ollama {version} truncates long prompts silently.*update Ollama"
                ):
                    load_from(server, "ollama")
            else:
                assert load_from(server, "ollama").context == 512


@pytest.mark.parametrize("owner", ["library", "somebody"])  # Ollama writes the user of the model there
def test_the_openai_port_of_ollama_is_refused(owner):
    responses = default_responses("openai")
    responses["/v1/models"][1]["data"][0]["owned_by"] = owner
    with fake_server(responses | {"/api/version": (200, {"version": "0.40.2"})}) as server:
        with pytest.raises(CourseError, match=r'(?s)truncates long prompts silently.*driver="ollama"'):
            load_from(server, "openai")
        server.responses["/api/version"] = (404, "not found")  # another server whose owner is "library"
        assert load_from(server, "openai").generate(["hi"]) == ["Hello"]


def test_requests_to_ollama():
    responses = default_responses("ollama")
    responses["/api/show"][1]["parameters"] = 'min_p    0.1\nstop       "<|eot_id|>"\nstop    "a \\"b\\""'
    with fake_server(responses) as server:
        options = {
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 7,
            "repetition_penalty": 1.25,
            "seed": 3,
            "max_output_length": 9,
        }
        engine = load_from(server, "ollama", context_length=256, keep_alive=60, generation=options)
        engine.generate(["hi"], stop=["END"], json_schema=None)
        engine.generate(["hi"])
        with pytest.raises(CourseError, match="is not JSON"):
            engine.generate(["hi"], json_schema=SCHEMA)
        with_stop, plain, with_schema = server.bodies("/api/chat")
        assert plain["options"] == {
            "num_ctx": 256,
            "num_predict": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 7,
            "repeat_penalty": 1.25,
            "seed": 3,
            "repeat_last_n": -1,
            "min_p": 0.0,
        }
        assert (plain["truncate"], plain["shift"], plain["keep_alive"], plain["stream"]) == (
            False,
            False,
            60,
            False,
        )
        assert with_stop["options"]["stop"] == ["<|eot_id|>", 'a "b"', "END"]
        assert with_schema["format"] == SCHEMA
        assert [b["keep_alive"] for b in server.bodies("/api/generate")] == [60]
        engine.close()
        last = server.bodies("/api/generate")[-1]
        assert (last["prompt"], last["keep_alive"]) == ("", 0)


def test_requests_to_openai():
    responses = default_responses("openai") | {
        "/v1/completions": (
            200,
            {
                "choices": [{"text": " a", "finish_reason": "length"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 9},
            },
        )
    }
    with fake_server(responses) as server:
        options = {"temperature": 0.5, "top_p": 0.9, "seed": 3, "max_output_length": 9, "stop": ["END"]}
        load_from(server, "openai", generation=options).generate(["hi"])
        sent = {"model": "m", "temperature": 0.5, "top_p": 0.9, "seed": 3, "max_tokens": 9, "stop": ["END"]}
        assert server.bodies(CHAT["openai"]) == [sent | {"messages": [{"role": "user", "content": "hi"}]}]
        engine = load_from(server, "openai", generation=options, task="text-generation")
        assert engine.generate(["hi"]) == [" a"]
        assert server.bodies("/v1/completions") == [sent | {"prompt": "hi"}]
        with pytest.raises(
            Unsupported, match="json_schema: OpenAI's protocol supports it for conversations only"
        ):
            engine.generate(["hi"], json_schema=SCHEMA)


@given(texts=st.lists(st.text().filter(lambda t: "\n" not in t), min_size=1), size=st.integers(1, 7))
def test_lines_do_not_depend_on_the_chunks(texts, size):
    body = "\n".join(texts).encode()
    assert list(http_client.split_lines(body[i : i + size] for i in range(0, len(body), size))) == texts


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z:@/?#\[\]0-9 .]*", fullmatch=True))
def test_an_address_is_used_unchanged_or_refused(text):
    try:
        address = http_client.server_url(text)
    except CourseError:
        return
    assert text.startswith(address) and httpx.URL(address).host and "@" not in address.split("/")[2]


@pytest.mark.parametrize("text", ["http://me:hunter2@box", "http://box/v1?key=hunter2", "http://box#hunter2"])
def test_a_password_in_an_address_is_refused_and_not_shown(text):
    with pytest.raises(CourseError, match="user name, a password or a query") as caught:
        http_client.server_url(text)
    assert "hunter2" not in str(caught.value)


@given(
    text=st.text(min_size=1).filter(lambda t: not http_client.is_json(t)),
    keys=st.lists(st.sampled_from(["error", "message", "detail"])),
)
def test_the_message_of_a_nested_error_is_found(text, keys):
    body = text
    for i, key in enumerate(keys):
        body = json.dumps(
            {"code": 400, key: json.loads(body) if i % 2 and http_client.is_json(body) else body}
        )
    assert http_client.error_message(body) == text


def test_the_options_of_a_modelfile_are_parsed():
    parameters = 'temperature       0.6\nstop             "<|start|>"\nstop "\\n\\n"\nodd'
    assert modelfile_options(parameters) == {"temperature": [0.6], "stop": ["<|start|>", "\n\n"]}
