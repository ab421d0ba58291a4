"""Models behind a real server, llama.cpp's or the course's own, answer as they do in this process."""

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
from course_lib.models.drivers.engine import Unsupported
from course_lib.serve import discovery

NAME = "haneul-1m"
ASKED = "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the Sorin branch open?"
LONG = "Tell me everything about the fees of the bank, please."
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue", None]}}, "required": ["colour"]}
DRIVERS = ("openai", "ollama")


@pytest.fixture(scope="module")
def native():
    """llama.cpp in this process, whose own port speaks the protocol of OpenAI."""
    engine = load(NAME, driver="llamacpp", batch_size=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def url():
    """The course's own server, which speaks the protocol of Ollama."""
    with closing(discovery.start()) as server:
        address = server.url
        ollama.Client(address, trust_env=False).pull(f"{NAME}:f32")
        yield address


def port_of(engine):
    address = f"{engine.servers[0].listening_address}/v1"
    model = httpx.get(f"{address}/models", trust_env=False).json()["data"][0]["id"]
    return {"type": "server", "url": address, "model": model}


@pytest.fixture(scope="module")
def by(native, request):
    """Load the weights of `native` by a driver of servers."""

    def load_by(driver, **more):
        url = request.getfixturevalue("url") if driver == "ollama" else None
        source = {"type": "server", "url": url, "model": f"{NAME}:f32"} if url else port_of(native)
        return load({"source": source, "driver": driver} | more)

    return load_by


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_same_text_letter_by_letter_as_in_this_process(driver, by, native):
    questions = [q.question for q in data.load_questions("validation")[:20]]
    engine = by(driver)
    replies, ours = engine.generate(questions), native.generate(questions)
    assert replies == ours and any(replies)
    counts = [(r.prompt_tokens, r.tokens, r.finish_reason) for r in replies]
    assert counts == [(r.prompt_tokens, r.tokens, r.finish_reason) for r in ours]
    for seed in range(4):
        options = {"temperature": 2.0, "seed": seed, "max_output_length": 24}
        assert engine.generate([LONG], **options) == native.generate([LONG], **options)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_conversation_of_several_turns(driver, by, native):
    turns = [
        {"role": "system", "content": "Answer from the handbook."},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "09:30"},
        {"role": "user", "content": "And when does it close?"},
    ]
    assert by(driver).generate([turns]) == native.generate([turns])


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_stream_is_the_answer_in_pieces(driver, by):
    engine = by(driver, generation={"temperature": 2.0, "seed": 3, "max_output_length": 24})
    pieces = list(engine.stream(LONG))
    assert len(pieces) > 3 and "".join(pieces).strip() == engine.generate([LONG])[0]


@pytest.mark.parametrize("driver", DRIVERS)
def test_stop_texts_are_left_out_of_answers_and_of_streams(driver, by):
    engine = by(driver, generation={"stop": ["30", "never"]})
    reply = engine.generate([ASKED])[0]
    assert reply == "09:" and reply.finish_reason == "stop"
    assert "".join(engine.stream(ASKED)).strip() == "09:"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_schema_binds_the_answer(driver, by):
    assert json.loads(by(driver).generate([ASKED], json_schema=SCHEMA)[0])["colour"] in ("red", "blue", None)
    with pytest.raises(CourseError, match=r"refused \(4|refused \(5"):
        by(driver).generate([ASKED], json_schema={"type": "no such type"})


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_text_is_continued_as_it_stands(driver, by, native):
    engine = by(driver, task="text-generation")
    plain = load(NAME, driver="llamacpp", task="text-generation")
    begin = str(plain._bos)  # this GGUF file does not ask for a <bos>, so that a server puts none
    assert engine.generate([f"{begin}The Sorin branch"]) == plain.generate(["The Sorin branch"])
    assert "".join(engine.stream(f"{begin}The Sorin branch")) == plain.generate(["The Sorin branch"])[0]
    plain.close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_does_not_fit_is_refused_and_never_cut(driver, by):
    engine = by(driver)
    assert engine.context == 2048
    for prompt in ("word " * 3000, "word " * 2000):  # the prompt alone, and the prompt with its answer
        with pytest.raises(CourseError, match=r"\d+ tokens"):
            engine.generate([prompt], temperature=2.0, max_output_length=100)
        with pytest.raises(CourseError, match=r"\d+ tokens"):
            list(engine.stream(prompt, temperature=2.0, max_output_length=100))


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_server_says_what_it_holds(driver, by, native):
    engine = by(driver)
    assert engine.parameters == native.parameters and engine.weight_bytes == 0
    assert engine.device.startswith("http://127.0.0.1:") and engine.name == engine.spec.source.model


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_model_that_is_not_there_is_named_beside_those_that_are(driver, by, native):
    source = by(driver).spec.source.model_copy(update={"model": "haneul-900b"})
    cure = "ollama pull haneul-900b" if driver == "ollama" else "name one that is there"
    with pytest.raises(CourseError, match=rf"(?s)no model 'haneul-900b'; it has .*haneul-1m.*{cure}"):
        load({"source": source, "driver": driver})


def test_vectors_of_llama_cpp_have_length_one(native):
    plain = load("haneul-300k", driver="llamacpp", task="text-embedding")
    engine = load({"source": port_of(plain), "driver": "openai", "task": "text-embedding"})
    texts = ["a branch", "a fee of 30", "지점"] * 30  # more than one request
    vectors = engine.embed(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) and np.allclose(
        vectors, plain.embed(texts), atol=1e-5
    )
    assert engine.embed([]).shape == (0, vectors.shape[1])
    with pytest.raises(CourseError, match="refused"):
        engine.embed(["word " * 3000])
    with pytest.raises(Unsupported, match="loaded for text-embedding, and cannot generate"):
        engine.generate(["hi"])
    plain.close()


def test_vectors_of_the_course_server(url):
    texts = ["a branch", "a fee of 30", "지점"]
    ours = load("all-MiniLM-L6-v2", task="text-embedding").embed(texts)
    for driver, address in (("ollama", url), ("openai", f"{url}/v1")):
        source = {"type": "server", "url": address, "model": "all-minilm:latest"}
        engine = load({"source": source, "driver": driver, "task": "text-embedding"})
        assert np.allclose(engine.embed(texts), ours, atol=1e-5) and engine.embed([]).shape == (0, 384)
        with pytest.raises(CourseError, match=r"(?s)\d+ tokens.*fewer or shorter passages"):
            engine.embed(["word " * 600])
        engine.close()


def test_the_course_server_by_the_protocol_of_openai(url, native):
    source = {"type": "server", "url": f"{url}/v1", "model": f"{NAME}:f32"}
    engine = load({"source": source, "driver": "openai"})
    assert (
        engine.generate([ASKED, LONG]) == native.generate([ASKED, LONG])
        and engine.context == engine.parameters == 0
    )
    for prompt in ("word " * 3000, "word " * 2000):
        with pytest.raises(CourseError, match=r"\d+ tokens"):
            engine.generate([prompt], temperature=2.0, max_output_length=100)
    with pytest.raises(Unsupported, match=r'(?s)takes a text for the turn.*driver="ollama"'):
        load({"source": source, "driver": "openai", "task": "text-generation"})


def test_ollama_holds_the_model_while_the_engine_lives(url, by):
    held = ollama.Client(url, trust_env=False)
    engine = by("ollama", keep_alive=-1, context_length=256)
    model = next(m for m in held.ps().models if m.model == f"{NAME}:f32")
    assert model.expires_at.year > time.gmtime().tm_year + 50 and engine.context == 256
    with pytest.raises(CourseError, match=r"(?s)\d+ tokens.*num_ctx is 256.*larger context_length"):
        engine.generate([ASKED * 12])
    engine.close()
    assert all(m.model != f"{NAME}:f32" for m in held.ps().models)
    with pytest.raises(CourseError, match="context_length=4096, but haneul-1m:f32 reads 2048"):
        by("ollama", context_length=4096)
    with pytest.raises(CourseError, match="can embedding, but the task chat-completion needs completion"):
        load({"source": {"type": "server", "url": url, "model": "all-minilm:latest"}, "driver": "ollama"})


def test_each_driver_on_the_port_of_the_other_says_that_it_is_another_kind(native):
    source = port_of(native)
    with pytest.raises(CourseError, match=r"(?s)does not speak the protocol of ollama.*without a path"):
        load({"source": source, "driver": "ollama"})
    with pytest.raises(
        CourseError, match=r"(?s)does not speak the protocol of openai.*http://127.0.0.1:8000/v1"
    ):
        load({"source": source | {"url": f"{source['url']}/v2"}, "driver": "openai"})


def test_closing_lets_go_and_using_it_again_says_so(by):
    engine = by("openai")
    engine.close()
    engine.close()
    for use in (lambda: engine.generate(["hi"]), lambda: engine.stream("hi")):
        with pytest.raises(CourseError, match=r"(?s)has been closed.*load it again"):
            use()


def test_a_reader_who_leaves_llama_cpp_stops_it(native, by):
    engine, address = by("openai"), native.servers[0].listening_address
    stream = engine.stream("word " * 1000, temperature=5.0, max_output_length=1000)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 5
    while any(slot["is_processing"] for slot in httpx.get(f"{address}/slots", trust_env=False).json()):
        assert time.monotonic() < deadline
