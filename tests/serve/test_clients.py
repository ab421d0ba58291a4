"""LangChain's clients drive the server as they are."""

import asyncio
import math
import warnings

import ollama
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

MODEL = "haneul-300k"
GREETING = "Hello, who are you?"


@pytest.fixture(scope="module")
def expected(client):
    return client.generate(MODEL, GREETING, options={"temperature": 0, "repeat_penalty": 1.0}).response


class Opening(BaseModel):
    """Whether a branch is open."""

    open: bool


def test_langchain_ollama_chats(server, expected):
    from langchain_ollama import ChatOllama

    model = ChatOllama(model=MODEL, base_url=server.url, temperature=0, repeat_penalty=1.0)
    reply = model.invoke(GREETING)
    assert reply.content == expected and reply.response_metadata["done_reason"] == "stop"
    assert reply.usage_metadata["output_tokens"] == reply.response_metadata["eval_count"] > 3
    assert "".join(c.content for c in model.stream(GREETING)) == expected
    assert [m.content for m in model.batch([GREETING] * 4)] == [expected] * 4
    assert asyncio.run(model.ainvoke(GREETING)).content == expected
    talk = [SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello!"), HumanMessage(GREETING)]
    assert model.invoke(talk).usage_metadata["input_tokens"] > reply.usage_metadata["input_tokens"]


def test_langchain_ollama_sets_options_and_a_schema(server):
    from langchain_ollama import ChatOllama

    options = {
        "temperature": 2.0,
        "top_k": 20,
        "top_p": 0.9,
        "repeat_penalty": 1.1,
        "num_ctx": 64,
        "keep_alive": "5m",
    }
    model = ChatOllama(model=MODEL, base_url=server.url, num_predict=8, seed=3, stop=["###"], **options)
    assert model.invoke("Hi").content == model.invoke("Hi").content
    with pytest.raises(ollama.ResponseError, match=r"options\.tfs_z"):
        ChatOllama(model=MODEL, base_url=server.url, tfs_z=0.5).invoke("Hi")
    held = ChatOllama(model="haneul-4m", base_url=server.url).with_structured_output(
        Opening, method="json_schema"
    )
    assert isinstance(held.invoke("Is it open? Answer in JSON."), Opening)


def test_langchain_ollama_completes_and_embeds(server, client, expected):
    from langchain_ollama import OllamaEmbeddings, OllamaLLM

    assert (
        OllamaLLM(model=MODEL, base_url=server.url, temperature=0, repeat_penalty=1.0).invoke(GREETING)
        == expected
    )
    vectors = OllamaEmbeddings(model="all-minilm", base_url=server.url)
    assert vectors.embed_query("a") == client.embed("all-minilm", "a").embeddings[0]
    assert len(vectors.embed_documents(["a", "b"])) == 2


def test_langchain_communitys_ollama_answers(server, client, expected):
    """What older tutorials show. It sends every option it knows, as null."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.embeddings import OllamaEmbeddings
        from langchain_community.llms import Ollama

        model = Ollama(model=MODEL, base_url=server.url, temperature=0, repeat_penalty=1.0)
        vectors = OllamaEmbeddings(
            model="all-minilm", base_url=server.url, embed_instruction="", query_instruction=""
        )
    assert model.invoke(GREETING) == expected
    assert "".join(model.stream(GREETING)) == expected
    assert asyncio.run(model.ainvoke(GREETING)) == expected
    assert Ollama(model=MODEL, base_url=server.url, temperature=0, num_predict=2).invoke(GREETING) != expected
    older = vectors.embed_query("a")  # from /api/embeddings, not scaled to length 1
    expected_vector = client.embed("all-minilm", "a").embeddings[0]
    assert [x / math.dist(older, [0] * len(older)) for x in older] == pytest.approx(expected_vector, abs=1e-6)


def test_langchain_openai_chats_completes_and_embeds(server, client, expected):
    from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

    place = {"base_url": f"{server.url}/v1", "api_key": "none", "max_retries": 0}
    model = ChatOpenAI(model=MODEL, temperature=0, **place)
    reply = model.invoke(GREETING)
    assert reply.content == expected and reply.usage_metadata["output_tokens"] > 3
    chunks = list(model.stream(GREETING, stream_usage=True))
    assert "".join(c.content for c in chunks) == expected
    assert (
        sum(c.usage_metadata["output_tokens"] for c in chunks if c.usage_metadata)
        == reply.usage_metadata["output_tokens"]
    )
    held = ChatOpenAI(model="haneul-4m", **place).with_structured_output(Opening, method="json_schema")
    assert isinstance(held.invoke("Is it open? Answer in JSON."), Opening)
    assert OpenAI(model=MODEL, temperature=0, **place).invoke(GREETING) == expected
    vectors = OpenAIEmbeddings(
        model="all-minilm", check_embedding_ctx_length=False, **place
    )  # it would count in GPT's tokens
    assert vectors.embed_query("a") == pytest.approx(client.embed("all-minilm", "a").embeddings[0], abs=1e-6)
