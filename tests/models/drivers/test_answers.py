"""Answers: whole characters, the caller's options and not the author's, a chosen context, bounded JSON."""

import json
import shutil

import gguf
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.json_answers import bounded, is_runaway, matches
from course_lib.models.drivers.recommended import recommended_options
from course_lib.models.drivers.streaming import TokenDecoder
from course_lib.models.schema import Generation

DRIVERS = ["huggingface", "llamacpp"]
KOREAN = "질문: 하늘은행의 🙂 수수료는 얼마입니까? 하늘은행의 🙂"


@pytest.fixture(scope="module", params=DRIVERS)
def engine(request):
    """A model that continues texts."""
    engine = load("haneul-300k", driver=request.param, task="text-generation")
    yield engine
    engine.close()


def test_an_answer_that_is_cut_inside_a_character_ends_before_it(engine):
    seen = set()
    for seed in range(40):  # nearly any token is as likely as another, also those of parts of characters
        options = {"temperature": 100.0, "seed": seed, "max_output_length": 3}
        text = str(engine.generate([KOREAN], **options)[0])
        assert not text.endswith("\ufffd")
        assert "".join(engine.stream(KOREAN, **options)).rstrip() == text.rstrip()
        seen.add(text)
    assert len(seen) > 30


@pytest.mark.parametrize("text", ["하늘은행 🙂🇰🇷", "é e\u0301", "fee"])
def test_tokens_are_decoded_into_whole_characters_wherever_they_are_cut(text):
    tokenizer = load("haneul-300k").tokenizer
    prompt, ids = tokenizer.encode("fee"), tokenizer.encode(text, add_special_tokens=False)
    for end in range(len(ids) + 1):
        decoded = TokenDecoder(tokenizer, prompt).decode(ids[:end])
        assert text.startswith(decoded) and "\ufffd" not in decoded
    assert decoded == text


@pytest.fixture
def recommending(tmp_path):
    """A folder whose author recommends options that change every answer."""
    folder = shutil.copytree(MODELS / "haneul-300k", tmp_path / "haneul-300k")
    config = json.loads((folder / "generation_config.json").read_text())
    config |= {"do_sample": True, "temperature": 3.0, "top_k": 7, "repetition_penalty": 5.0}
    config |= {"bad_words_ids": [[i] for i in range(80, 900)], "min_new_tokens": 9}
    (folder / "generation_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_the_author_recommends_is_shown_and_not_applied(driver, recommending, tmp_path):
    prompt = "Question: What is the monthly fee?"
    plain, theirs = load("haneul-300k", driver=driver), load(recommending, driver=driver)
    assert theirs.recommended == {"temperature": 3.0, "top_k": 7, "repetition_penalty": 5.0}
    assert "recommended={'temperature': 3.0" in repr(theirs) and "recommended" not in repr(plain)
    assert theirs.generate([prompt]) == plain.generate([prompt])
    assert theirs.generate([prompt], **theirs.recommended) == plain.generate([prompt], **theirs.recommended)
    assert theirs.generate([prompt], **theirs.recommended) != plain.generate([prompt])
    if driver == "huggingface":
        saved = json.loads((theirs.save(tmp_path / "saved") / "generation_config.json").read_text())
        assert saved["repetition_penalty"] == 5.0


def test_a_gguf_file_may_recommend_options_too(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_float32("general.sampling.temp", 0.5)
    writer.add_uint32("general.sampling.top_k", 20)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert recommended_options(tmp_path / "m.gguf") == {"temperature": 0.5, "top_k": 20}


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_whole_context_of_the_training_is_not_taken_silently(driver, tmp_path):
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1)
    marks = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    LlamaForCausalLM(
        LlamaConfig(vocab_size=4096, max_position_embeddings=131_072, **sizes, **marks)
    ).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MODELS / "haneul-300k" / name, tmp_path)
    engine = load(tmp_path, driver=driver)
    assert engine.context == 4096 and "context=4096" in repr(engine)
    with pytest.raises(CourseError, match=r"5\d\d\d tokens .* loaded to read 4096 of its 131072") as raised:
        engine.generate(["fee " * 5000], max_output_length=1)
    assert raised.value.fix.startswith("load(..., context_length=5")
    engine.close()
    longer = load(tmp_path, driver=driver, context_length=6000)
    assert longer.generate(["fee " * 5000], max_output_length=1)[0].prompt_tokens > 5000
    longer.close()


def test_the_keys_and_the_white_space_of_json_are_bounded():
    inner = {"type": "object", "properties": {"properties": {"type": "string"}}}
    schema = {
        "type": "object",
        "properties": {
            "a": inner,
            "free": {"type": "object"},
            "open": inner | {"additionalProperties": True},
        },
        "$defs": {"B": inner},
        "anyOf": [{"required": ["a"]}],
    }
    result = bounded(schema)
    assert result["x-guidance"]["whitespace_flexible"] is False
    assert result["properties"]["a"]["additionalProperties"] is False
    assert result["properties"]["a"]["properties"] == inner["properties"]  # a key that is called "properties"
    assert result["properties"]["free"] == {"type": "object"}
    assert result["properties"]["open"]["additionalProperties"] is True
    assert result["$defs"]["B"]["additionalProperties"] is False and "additionalProperties" not in result
    joined = {"allOf": [inner, inner]}
    assert bounded(joined)["allOf"] == [inner, inner] and "x-guidance" not in joined


SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "array", "items": {"oneOf": [{"type": "boolean"}, {"type": "null"}]}, "maxItems": 3},
    },
    "required": ["a", "b"],
}


@pytest.fixture(scope="module")
def llamacpp():
    engine = load("haneul-300k", driver="llamacpp")
    yield engine
    engine.close()


def test_sampled_json_has_the_named_keys_and_no_other_white_space(llamacpp):
    for seed in range(8):
        options = {"temperature": 3.0, "seed": seed, "max_output_length": 200}
        text = llamacpp.generate(["x"], json_schema=SCHEMA, **options)[0]
        assert matches(text, SCHEMA) and list(json.loads(text)) == ["a", "b"]
        assert text == json.dumps(json.loads(text))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^((a{100}){100}){100}$"},
        {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(600)}},
    ],
)
def test_a_schema_that_llama_cpp_drops_after_the_first_token_is_refused(llamacpp, schema):
    with pytest.raises(Unsupported, match="does not enforce this JSON schema"):
        llamacpp.check_schema(schema)


INTEGER, NUMBER = {"type": "integer"}, {"type": "number"}
WANTED = [{"1": 50}, {"0": 50}, {"-": 90, "9": 50}, {".": 90, "3": 50}, {"e": 90, "9": 50}]


def answer_with_biases(engine, schema, biases):
    """What the model answers if it prefers these characters, and why it ends; a model may prefer any."""
    biases = [[engine._tokenize([text])[0][-1], bias] for text, bias in biases.items()]
    request = engine._request([5], Generation(json_schema=schema, max_output_length=60))
    choice = engine._completion(request | {"logit_bias": biases})["choices"][0]
    return choice["text"], choice["finish_reason"]


@pytest.mark.parametrize(
    "schema",
    [
        INTEGER,
        INTEGER | {"minimum": 5},
        INTEGER | {"maximum": 5},
        INTEGER | {"minimum": 10**16},
        INTEGER | {"multipleOf": 7, "minimum": 0},
        NUMBER | {"minimum": 0},
        NUMBER | {"exclusiveMinimum": 0.5, "maximum": 9},
        NUMBER | {"multipleOf": 0.01, "minimum": 0},
        {"type": ["number", "null"], "minimum": 0},
        {"allOf": [INTEGER, {"minimum": 5}]},
    ],
)
@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_a_number_ends_whatever_the_model_prefers(llamacpp, schema, wanted):
    text, finish_reason = answer_with_biases(llamacpp, schema, wanted)
    assert finish_reason == "stop" and matches(text, schema)


def test_a_number_keeps_its_sign_its_decimals_and_15_digits(llamacpp):
    assert answer_with_biases(llamacpp, NUMBER, {"9": 50}) == ("9" * 15, "stop")
    assert answer_with_biases(llamacpp, NUMBER, {".": 90, "3": 50}) == ("3.333333333", "stop")
    assert answer_with_biases(llamacpp, INTEGER, {"-": 90, "9": 50}) == ("-" + "9" * 15, "stop")
    assert answer_with_biases(llamacpp, NUMBER, {"-": 90, "9": 50})[0].startswith("-999999999")


@pytest.mark.parametrize(
    ("schema", "reason", "fix"),
    [
        (INTEGER | {"multipleOf": 5}, "multipleOf 5: llama.cpp writes no negative multiples", '"minimum": 0'),
        ({"type": "array", "uniqueItems": True}, r'Unimplemented keys: \["uniqueItems"\]', "leave that part"),
        ({"type": "string", "format": "banana"}, "Unknown format: banana", "leave that part"),
        (INTEGER | {"minimum": 6, "maximum": 5}, "Unsatisfiable schema", "leave that part"),
    ],
)
def test_what_llama_cpp_does_not_enforce_is_refused_by_name(llamacpp, schema, reason, fix):
    for _ in range(2):
        with pytest.raises(Unsupported, match=reason) as raised:
            llamacpp.generate(["x"], json_schema={"type": "array", "items": schema, "minItems": 1})
        assert fix in raised.value.fix


@pytest.mark.parametrize(
    "text", ["1" * 25, '{"a": "the fee, the fee, the fee, the fee, the fee, ', "[0, 0, 0, 0, 0, 0, 0, 0"]
)
def test_an_answer_that_repeats_itself_is_recognized(text):
    assert is_runaway(text) and not is_runaway("x" + text[:12])
