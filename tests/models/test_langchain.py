"""Our models behind LangChain's interfaces: invoke, stream, batch, async, structured output, a chain."""

import asyncio
import shutil
from typing import Annotated, Literal, TypedDict

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel, Field

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import ModelManager
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.gguf import export
from course_lib.models.schema import SpecError

PASSAGE = "[1] Hours\nThe Sorin branch opens at 09:30.\nQuestion: When does the {place} branch open?"
ASKED = PASSAGE.format(place="Sorin")


@pytest.fixture(scope="module")
def manager():
    manager = ModelManager()
    yield manager
    manager.unload_all()


@pytest.fixture(scope="module", params=["huggingface", "llamacpp"])
def chat(request, manager):
    return manager.get_chat_model({"source": "haneul-1m", "driver": request.param, "batch_size": 4})


def test_invoke_stream_batch_and_their_async_forms_agree(chat):
    answer = chat.invoke(ASKED)
    assert answer.content == "09:30" and answer.response_metadata == {"finish_reason": "stop"}
    assert answer.usage_metadata["output_tokens"] == 6 and answer.usage_metadata["input_tokens"] > 20
    assert "".join(c.content for c in chat.stream(ASKED)).strip() == "09:30"
    assert [m.content for m in chat.batch([ASKED, "hi", ASKED])] == [
        "09:30",
        chat.invoke("hi").content,
        "09:30",
    ]

    async def run_async():
        pieces = [c.content async for c in chat.astream(ASKED)]
        return (
            (await chat.ainvoke(ASKED)).content,
            "".join(pieces).strip(),
            [m.content for m in await chat.abatch([ASKED] * 3)],
        )

    assert asyncio.run(run_async()) == ("09:30", "09:30", ["09:30"] * 3)


def test_it_takes_its_place_in_a_chain(chat):
    chain = ChatPromptTemplate.from_messages([("human", PASSAGE)]) | chat | StrOutputParser()
    assert chain.invoke({"place": "Sorin"}) == "09:30"
    assert chain.batch([{"place": "Sorin"}] * 2, {"max_concurrency": 2}) == ["09:30"] * 2


def test_turns_of_a_conversation_arrive_in_order(chat):
    turns = [
        SystemMessage("Be brief."),
        HumanMessage("hi"),
        AIMessage("Hello."),
        HumanMessage([{"type": "text", "text": ASKED}]),
    ]
    with chat.manager.use(chat.spec) as engine:
        conversation = [
            {"role": r, "content": c}
            for r, c in (("system", "Be brief."), ("user", "hi"), ("assistant", "Hello."), ("user", ASKED))
        ]
        assert chat.invoke(turns).content == engine.generate([conversation])[0]


def test_options_act_and_unknown_ones_are_refused(chat):
    assert chat.invoke(ASKED, stop=["30"]).content == "09:"
    assert chat.bind(max_output_length=2).invoke(ASKED).response_metadata == {"finish_reason": "length"}
    drawn = {chat.invoke("hi", temperature=5.0, seed=s).content for s in range(4)}
    assert len(drawn) > 1
    with pytest.raises(SpecError, match="temprature: no such field"):
        chat.invoke(ASKED, temprature=1)


def test_what_it_cannot_read_is_refused(chat):
    with pytest.raises(ValueError, match="type 'tool'"):
        chat.invoke([ToolMessage("x", tool_call_id="1")])
    with pytest.raises(ValueError, match="images"):
        chat.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}])])


class Choice(BaseModel):
    """A choice of one of two colours."""

    colour: str
    sure: bool


SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}


def test_structured_output_is_held_to_the_schema(manager):
    chat = manager.get_chat_model({"source": "haneul-1m", "driver": "llamacpp"})
    assert chat.with_structured_output(SCHEMA).invoke(ASKED)["colour"] in ("red", "blue")
    raw = chat.with_structured_output(SCHEMA, include_raw=True).invoke(ASKED)
    assert raw["parsed"]["colour"] in ("red", "blue") and raw["raw"].content and raw["parsing_error"] is None
    assert chat.bind(max_output_length=2).invoke(ASKED).content
    with pytest.raises(ValueError, match="unknown options: method"):
        chat.with_structured_output(SCHEMA, method="json_mode")


class Count(BaseModel):
    """A number, which is also a number when its last digits are missing."""

    count: int = Field(ge=10**11, lt=10**12)


@pytest.mark.parametrize("schema", [Count, Count.model_json_schema()])
def test_a_structured_answer_that_is_cut_is_an_error_with_the_limit(manager, schema):
    chat = manager.get_chat_model({"source": "haneul-1m", "driver": "llamacpp"})
    structured = chat.with_structured_output(schema)
    whole = structured.invoke(ASKED)
    assert 10**11 <= (whole if isinstance(whole, dict) else whole.model_dump())["count"] < 10**12
    with pytest.raises(CourseError, match="max_output_length=8 cut the answer") as raised:
        structured.invoke(ASKED, max_output_length=8)
    assert raised.value.fix == "get_chat_model(..., max_output_length=16)"
    with pytest.raises(CourseError, match="max_output_length=8 cut"):
        list(structured.stream(ASKED, max_output_length=8))
    raw = chat.with_structured_output(schema, include_raw=True).invoke(ASKED, max_output_length=8)
    assert raw["parsed"] is None and "max_output_length=8 cut" in str(raw["parsing_error"])


class City(TypedDict):
    """A city."""

    colour: Annotated[Literal["red", "blue"], ..., "its colour"]


class Colour(BaseModel):
    """A colour."""

    colour: Literal["red", "blue"]


def test_structured_output_takes_a_pydantic_class_a_typed_dict_or_a_schema(manager):
    chat = manager.get_chat_model({"source": "haneul-1m", "driver": "llamacpp"})
    for schema in (City, SCHEMA):
        assert chat.with_structured_output(schema).invoke(ASKED)["colour"] in ("red", "blue")
    structured = chat.with_structured_output(Colour)
    (answer,) = structured.batch([ASKED])
    assert structured.invoke(ASKED) == answer == asyncio.run(structured.ainvoke(ASKED))
    assert isinstance(answer, Colour) and answer.colour in ("red", "blue")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("City", "'City' is no JSON schema"),
        (Colour(colour="red"), "is no JSON schema"),
        (int, "<class 'int'> is no JSON schema"),
        (None, "None is no JSON schema"),
        ({"city": "string"}, "has none of the keywords type, properties,"),
        ({"city": str}, "the schema is no JSON"),
        ({"type": "strin"}, "'strin' is not valid"),
    ],
)
def test_structured_output_refuses_what_is_no_schema_at_once(schema, message):
    manager = ModelManager()
    chat = manager.get_chat_model({"source": "haneul-1m", "driver": "llamacpp"})
    with pytest.raises(CourseError, match=message):
        chat.with_structured_output(schema)
    assert not manager.loaded_models()


def test_tools_are_refused_in_words(manager):
    with pytest.raises(Unsupported, match="haneul-1m cannot call tools") as raised:
        manager.get_chat_model("haneul-1m").bind_tools([len])
    assert "with_structured_output" in raised.value.fix


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_a_stream_ends_with_usage_and_finish_reason(manager, driver):
    chat = manager.get_chat_model({"source": "haneul-300k", "driver": driver}, max_output_length=5)
    message, chunks = chat.invoke("hello"), list(chat.stream("hello"))
    whole = sum(chunks[1:], chunks[0])
    assert whole.content.strip() == message.content and whole.chunk_position == "last"
    assert whole.usage_metadata == message.usage_metadata and whole.usage_metadata["output_tokens"] == 5
    assert whole.response_metadata["finish_reason"] == "length"

    async def read():
        return [chunk async for chunk in chat.astream("hello")]

    assert [chunk.content for chunk in asyncio.run(read())] == [chunk.content for chunk in chunks]


def test_a_base_model_is_no_chat_model(manager, tmp_path):
    folder = shutil.copytree(MODELS / "haneul-300k", tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    file = export(folder, tmp_path / "base.gguf")
    for model in ("gemma-3-270m", str(folder), str(file)):
        with pytest.raises(CourseError, match="has no chat template: it is a base model") as raised:
            manager.get_chat_model(model)
        assert raised.value.fix == 'load(..., task="text-generation")'


def test_an_answer_that_would_never_end_asks_for_a_bound_in_the_schema(manager):
    chat = manager.get_chat_model({"source": "haneul-1m", "driver": "llamacpp"})
    endless = {"type": "array", "items": {"enum": [7]}, "minItems": 100}
    with pytest.raises(CourseError, match="it repeats itself and would not end") as raised:
        chat.with_structured_output(endless).invoke(ASKED, max_output_length=64)
    assert raised.value.fix.startswith('add "maxLength" to a text, "maxItems" to a list')


def test_a_driver_without_schemas_says_which_have_them(manager):
    with pytest.raises(Unsupported, match=r"use a driver that can: .*llamacpp"):
        manager.get_chat_model("haneul-1m").with_structured_output(SCHEMA)


def test_embeddings_serve_a_vector_store(manager):
    embeddings = manager.get_embedding_model("all-MiniLM-L6-v2")
    store = InMemoryVectorStore.from_texts(["My card was stolen.", "When do you open?"], embeddings)
    assert (
        store.similarity_search("Somebody took my debit card", k=1)[0].page_content == "My card was stolen."
    )
    vector = embeddings.embed_query("hello")
    assert len(vector) == 384 and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.allclose(asyncio.run(embeddings.aembed_query("hello")), vector)
    assert embeddings.embed_documents([]) == []


@pytest.mark.parametrize(
    ("method", "fix"),
    [
        ("embed_documents", "embed_documents(['hello'])[0]"),
        ("embed_queries", "embed_query('hello')"),
        ("embed_document_tokens", "embed_document_tokens(['hello'])[0]"),
    ],
)
def test_a_lone_text_is_not_taken_for_a_list_of_letters(manager, method, fix):
    embeddings = manager.get_embedding_model("all-MiniLM-L6-v2")
    with pytest.raises(
        CourseError, match="texts is 'hello', a single text, where a list is expected"
    ) as raised:
        getattr(embeddings, method)("hello")
    assert raised.value.fix == fix
