"""SmolLM2 and Gemma 3 270M: the tokens and answers of transformers and of llama.cpp's own server."""

import pytest

from benchmarks.real_texts import QUESTIONS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.gguf.header import read_header
from course_lib.models.gguf.unpack_tokenizer import unpack_tokenizer
from tests.models.drivers.templates import FAMILIES
from tests.models.drivers.test_tokens import TEXTS, conversations, llama_cpp_ids, turn


def raw_and_reference(file):
    engine = load(file, task="text-generation")
    return engine, unpack_tokenizer(read_header(file, decode_arrays=True).fields, file.name)


def test_smollm2_reads_the_tokens_of_both_references(smollm2):
    engine, tokenizer = raw_and_reference(smollm2)
    for text, ids in zip(TEXTS, engine._all_ids(TEXTS), strict=True):
        assert ids == tokenizer.encode(text) == llama_cpp_ids(engine, text)
    chats = conversations(FAMILIES["SmolLM2"])
    for turns, ids in zip(chats, engine._all_ids(chats), strict=True):
        prompt = engine.server.request("/apply-template", {"messages": turns})["prompt"]
        assert ids == llama_cpp_ids(engine, prompt)
        assert ids == tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    engine.close()


def test_smollm2_answers_as_llama_cpps_own_server(smollm2):
    engine = load(smollm2)
    for question in QUESTIONS:
        request = {"messages": [turn("user", question)], "temperature": 0, "max_tokens": 8}
        request["cache_prompt"] = False  # a part of a prompt that is kept is rounded otherwise
        response = engine.server.request("/v1/chat/completions", request)
        answer = engine.generate([question], max_output_length=8)[0]
        assert answer == response["choices"][0]["message"]["content"].strip()
        assert answer.prompt_tokens == response["usage"]["prompt_tokens"]
    engine.close()


def test_gemma_continues_texts_with_one_bos_and_refuses_a_chat(gemma):
    engine, tokenizer = raw_and_reference(gemma)
    for text, ids in zip(TEXTS, engine._all_ids(TEXTS), strict=True):
        assert ids == tokenizer.encode(text) == llama_cpp_ids(engine, text)
        assert ids[0] == tokenizer.bos_token_id and ids.count(ids[0]) == 1
    with pytest.raises(CourseError, match="has no chat template: it is a base model"):
        engine.ids([turn("user", "hi")])
    engine.close()
    with pytest.raises(CourseError, match="has no chat template: it is a base model") as raised:
        load(gemma)
    assert raised.value.fix == 'load(..., task="text-generation")'
