"""Models on a real server, llama.cpp's or the course's own, give the same answers as in this process."""

import json
import time
from contextlib import closing

import httpx
import numpy as np
import ollama
import pytest

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import http_client
from course_lib.models.drivers.engine import Unsupported
from course_lib.serve import discovery
from tests.models.llama_http import http_server

NAME = "haneul-1m"
QUESTION_WITH_PASSAGE = (
    "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the Sorin branch open?"
)
LONG = "Tell me everything about the fees of the bank, please."
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue", None]}}, "required": ["colour"]}
DRIVERS = ("openai", "ollama")


@pytest.fixture(scope="module")
def native():
    """The driver llamacpp, without a server that others could use."""
    engine = load(NAME, driver="llamacpp", batch_size=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def url():
    """The address of the course's own server, which speaks Ollama's protocol."""
    with closing(discovery.start()) as server:
        address = server.url
        ollama.Client(address, trust_env=False).pull(f"{NAME}:f32")
        yield address


@pytest.fixture(scope="module")
def openai_url(native):
    """The address of llama.cpp's own server with the same model, which speaks OpenAI's protocol."""
    server = http_server(native)
    yield f"{server.listening_address}/v1"


def server_source(address):
    model = httpx.get(f"{address}/models", trust_env=False).json()["data"][0]["id"]
    return {"type": "server", "url": address, "model": model}


@pytest.fixture(scope="module")
def load_with(openai_url, request):
    """A function that loads the model of `native` from a server with a given driver."""

    def load_remote(driver, **fields):
        url = request.getfixturevalue("url") if driver == "ollama" else None
        source = {"type": "server", "url": url, "model": f"{NAME}:f32"} if url else server_source(openai_url)
        return load({"source": source, "driver": driver} | fields)

    return load_remote


@pytest.mark.parametrize("driver", DRIVERS)
def test_answers_are_the_same_as_in_this_process(driver, load_with, native):
    questions = [q.question for q in data.load_questions("validation")[:20]]
    engine = load_with(driver)
    replies, expected = engine.generate(questions), native.generate(questions)
    assert replies == expected and any(replies)
    counts = [(r.prompt_tokens, r.tokens, r.finish_reason) for r in replies]
    assert counts == [(r.prompt_tokens, r.tokens, r.finish_reason) for r in expected]
    for seed in range(4):
        options = {"temperature": 2.0, "seed": seed, "max_output_length": 24}
        assert engine.generate([LONG], **options) == native.generate([LONG], **options)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_conversation_of_several_turns(driver, load_with, native):
    turns = [
        {"role": "system", "content": "Answer from the handbook."},
        {"role": "user", "content": QUESTION_WITH_PASSAGE},
        {"role": "assistant", "content": "09:30"},
        {"role": "user", "content": "And when does it close?"},
    ]
    assert load_with(driver).generate([turns]) == native.generate([turns])


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_stream_is_the_answer_in_pieces(driver, load_with):
    engine = load_with(driver, generation={"temperature": 2.0, "seed": 3, "max_output_length": 24})
    stream = engine.stream(LONG)
    pieces, reply = list(stream), engine.generate([LONG])[0]
    assert stream.reply == reply and vars(stream.reply) == vars(reply)
    assert len(pieces) > 3 and "".join(pieces).strip() == engine.generate([LONG])[0]


@pytest.mark.parametrize("driver", DRIVERS)
def test_stop_texts_are_left_out_of_answers_and_of_streams(driver, load_with):
    engine = load_with(driver, generation={"stop": ["30", "never"]})
    reply = engine.generate([QUESTION_WITH_PASSAGE])[0]
    assert reply == "09:" and reply.finish_reason == "stop"
    assert "".join(engine.stream(QUESTION_WITH_PASSAGE)).strip() == "09:"


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_answer_follows_the_json_schema(driver, load_with):
    assert json.loads(load_with(driver).generate([QUESTION_WITH_PASSAGE], json_schema=SCHEMA)[0])[
        "colour"
    ] in (
        "red",
        "blue",
        None,
    )
    with pytest.raises(CourseError, match=r"refused \(4|refused \(5"):
        load_with(driver).generate([QUESTION_WITH_PASSAGE], json_schema={"type": "no such type"})


@pytest.mark.parametrize("driver", DRIVERS)
def test_text_generation_continues_a_text(driver, load_with, native):
    engine = load_with(driver, task="text-generation")
    plain = load(NAME, driver="llamacpp", task="text-generation")
    # llama.cpp's own server adds the BOS that the file asks for, to a text that has one too.
    text = "The Sorin branch" if driver == "openai" else "<|bos|>The Sorin branch"
    assert engine.generate([text]) == plain.generate(["The Sorin branch"])
    assert "".join(engine.stream(text)) == plain.generate(["The Sorin branch"])[0]
    plain.close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_prompt_that_does_not_fit_is_refused_and_never_truncated(driver, load_with):
    engine = load_with(driver)
    assert engine.context == 2048
    for prompt in ("word " * 3000, "word " * 2000):  # the prompt alone, and the prompt with its answer
        with pytest.raises(CourseError, match=r"\d+ tokens"):
            engine.generate([prompt], temperature=2.0, max_output_length=100)
        with pytest.raises(CourseError, match=r"\d+ tokens"):
            list(engine.stream(prompt, temperature=2.0, max_output_length=100))


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_number_of_weights_comes_from_the_server(driver, load_with, native):
    engine = load_with(driver)
    assert engine.parameters == native.parameters and engine.weight_bytes == 0
    assert engine.device.startswith("http://127.0.0.1:") and engine.name == engine.spec.source.model


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_error_for_a_missing_model_lists_the_models_of_the_server(driver, load_with, native):
    source = load_with(driver).spec.source.model_copy(update={"model": "haneul-900b"})
    fix = "ollama pull haneul-900b" if driver == "ollama" else "use a listed model"
    with pytest.raises(CourseError, match=rf"(?s)no model 'haneul-900b'; it has .*haneul-1m.*{fix}"):
        load({"source": source, "driver": driver})


def test_vectors_of_llama_cpp_have_length_one(native):
    plain = load("haneul-300k", driver="llamacpp", task="text-embedding")
    server = http_server(plain)
    source = server_source(f"{server.listening_address}/v1")
    engine = load({"source": source, "driver": "openai", "task": "text-embedding"})
    texts = ["a branch", "a fee of 30", "지점"] * 30  # more than one request
    vectors = engine.embed(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) and np.allclose(
        vectors, plain.embed(texts), atol=1e-5
    )
    assert engine.embed([]).shape == (0, vectors.shape[1])
    with pytest.raises(CourseError, match="refused"):
        engine.embed(["word " * 3000])
    with pytest.raises(Unsupported, match="loaded for text-embedding and cannot generate"):
        engine.generate(["hi"])
    plain.close()


def test_vectors_of_the_course_server(url):
    texts = ["a branch", "a fee of 30", "지점"]
    expected = load("all-MiniLM-L6-v2", task="text-embedding").embed(texts)
    for driver, address in (("ollama", url), ("openai", f"{url}/v1")):
        source = {"type": "server", "url": address, "model": "all-minilm:latest"}
        engine = load({"source": source, "driver": driver, "task": "text-embedding"})
        assert np.allclose(engine.embed(texts), expected, atol=1e-5) and engine.embed([]).shape == (0, 384)
        with pytest.raises(CourseError, match=r"(?s)\d+ tokens.*fewer or shorter passages"):
            engine.embed(["word " * 600])
        engine.close()


def test_the_course_server_speaks_the_protocol_of_openai(url, native):
    source = {"type": "server", "url": f"{url}/v1", "model": f"{NAME}:f32"}
    engine = load({"source": source, "driver": "openai"})
    assert (
        engine.generate([QUESTION_WITH_PASSAGE, LONG]) == native.generate([QUESTION_WITH_PASSAGE, LONG])
        and engine.context == engine.parameters == 0
    )
    for prompt in ("word " * 3000, "word " * 2000):
        with pytest.raises(CourseError, match=r"\d+ tokens"):
            engine.generate([prompt], temperature=2.0, max_output_length=100)
    with pytest.raises(Unsupported, match=r'(?s)treats a text as a turn.*driver="ollama"'):
        load({"source": source, "driver": "openai", "task": "text-generation"})


def test_ollama_keeps_the_model_loaded_until_the_engine_is_closed(url, load_with):
    client = ollama.Client(url, trust_env=False)
    engine = load_with("ollama", keep_alive=-1, context_length=256)
    model = next(m for m in client.ps().models if m.model == f"{NAME}:f32")
    assert model.expires_at.year > time.gmtime().tm_year + 50 and engine.context == 256
    with pytest.raises(CourseError, match=r"(?s)\d+ tokens.*num_ctx is 256.*larger context_length"):
        engine.generate([QUESTION_WITH_PASSAGE * 12])
    engine.close()
    assert all(m.model != f"{NAME}:f32" for m in client.ps().models)
    with pytest.raises(CourseError, match="context_length=4096, but haneul-1m:f32 reads 2048"):
        load_with("ollama", context_length=4096)
    with pytest.raises(
        CourseError, match="supports embedding, but the task chat-completion needs completion"
    ):
        load({"source": {"type": "server", "url": url, "model": "all-minilm:latest"}, "driver": "ollama"})


def test_a_driver_recognises_a_server_with_another_protocol(openai_url):
    source = server_source(openai_url)
    with pytest.raises(CourseError, match=r"(?s)does not speak the protocol of ollama.*without a path"):
        load({"source": source, "driver": "ollama"})
    with pytest.raises(
        CourseError, match=r"(?s)does not speak the protocol of openai.*http://127.0.0.1:8000/v1"
    ):
        load({"source": source | {"url": f"{source['url']}/v2"}, "driver": "openai"})


def test_a_closed_engine_cannot_be_used(load_with):
    engine = load_with("openai")
    engine.close()
    engine.close()
    for use in (lambda: engine.generate(["hi"]), lambda: engine.stream("hi")):
        with pytest.raises(CourseError, match=r"(?s)has been closed.*load it again"):
            use()


def test_closing_a_stream_stops_llama_cpp(openai_url, load_with):
    engine, address = load_with("openai"), openai_url.removesuffix("/v1")
    stream = engine.stream("word " * 1000, temperature=5.0, max_output_length=1000)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 5
    while any(slot["is_processing"] for slot in httpx.get(f"{address}/slots", trust_env=False).json()):
        assert time.monotonic() < deadline


def test_an_idle_connection_is_given_up_before_servers_close_it():
    """llama-server and uvicorn do so after 5 seconds."""
    assert http_client.client_options("http://127.0.0.1:1", None)["limits"].keepalive_expiry < 5
