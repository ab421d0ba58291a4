"""Bodies: durations, schemas, and what is not set."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from course_lib.models.schema.json_schema import MAX_REPEATS, check_size
from course_lib.serve.errors import ApiError
from course_lib.serve.ollama_schemas import GenerateBody, Options
from course_lib.serve.schemas import generation
from course_lib.serve.tags import parse_name

UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def body(**fields):
    return GenerateBody.read(json.dumps({"model": "m", **fields}).encode())


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(list(UNITS))), min_size=1, max_size=4))
def test_a_duration_is_the_sum_of_its_parts(parts):
    text = "".join(f"{n}{unit}" for n, unit in parts)
    assert math.isclose(body(keep_alive=text).keep_alive, sum(n * UNITS[u] for n, u in parts), abs_tol=1e-12)
    assert body(keep_alive=f"-{text}").keep_alive in (-1, 0)


@pytest.mark.parametrize(
    ("value", "seconds"), [("1.5h", 5400), ("0", 0), (0, 0), (-5, -1), (2.5, 2.5), ("-1m", -1), (None, None)]
)
def test_durations_as_ollama_reads_them(value, seconds):
    assert body(keep_alive=value).keep_alive == seconds


@pytest.mark.parametrize(
    "value", ["5", "5 m", "m", "", "5m ", "1e3s", True, [], {}, 1e300, "9" * 90 + "h", "5m" * 60, "٣s"]
)
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ApiError) as found:
        body(keep_alive=value)
    assert found.value.field == "keep_alive"


def test_an_error_without_a_fix_prints_no_fix():
    assert str(ApiError("model", "model is required")) == "model is required"
    assert str(ApiError("name", "two names", "send one")) == "two names\n  Fix: send one"


def test_null_and_empty_mean_not_set():
    names = "suffix template images context think format system raw stream keep_alive"
    empty = dict.fromkeys(names.split())
    assert body(**empty) == body() == body(suffix="", images=[], think=False, format="")
    assert body(options={"mirostat": None, "stop": None}) == body(options={}) == body()


@given(
    st.dictionaries(
        st.sampled_from(["temperature", "top_p", "top_k", "seed", "repeat_penalty"]),
        st.floats() | st.integers(-(2**63), 2**63),
    )
)
def test_bounds_are_those_of_generation_and_named_as_they_were_sent(options):
    finite = {k: v for k, v in options.items() if not isinstance(v, float) or math.isfinite(v)}
    try:
        generation(Options.model_validate(finite).sampling({}), "options.", None)
    except ApiError as refused:
        assert refused.field.removeprefix("options.") in options
    except ValueError:
        assert any(isinstance(options.get(k), float) for k in ("top_k", "seed"))  # a whole number is wanted


def test_demands_that_exhaust_the_machine_are_found_however_deep_they_lie():
    deep = {"anyOf": [{"properties": {"a": {"items": [{"maxItems": MAX_REPEATS + 1}]}}}]}
    with pytest.raises(ValueError, match=r"2,001 repetitions: the sum of all maxItems"):
        check_size(deep)
    with pytest.raises(ValueError, match="multipleOf"):
        check_size({"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]})
    fine = {"maxItems": MAX_REPEATS, "multipleOf": 0.01, "properties": {"maxItems": {"type": "integer"}}}
    assert check_size(fine) is fine


class Branch(BaseModel):
    kind: Literal["branch"] = "branch"
    opens: Annotated[str, Field(pattern=r"^\d\d:\d\d$")]
    city: str | None = Field(None, description="where it lies")


class Machine(BaseModel):
    kind: Literal["machine"] = "machine"
    near: Branch | None = None
    notes: dict[str, Annotated[int, Field(ge=0, le=99)]] = {}


class Answer(BaseModel):
    places: Annotated[list[Annotated[Branch | Machine, Field(discriminator="kind")]], Field(max_length=50)]
    next: Answer | None = None
    best: Branch = Field(description="the nearest")


def test_what_pydantic_writes_for_models_is_within_the_bounds():
    schema = Answer.model_json_schema()
    assert check_size(schema) is schema
    parts = [{"$ref": f"#/$defs/{i}"} for i in range(300)]  # of old pydantic, for a field with a description
    old = {"anyOf": [{"allOf": [part], "description": "a part"} for part in parts]}
    assert check_size(old) is old


@pytest.mark.parametrize("name", ["\u212aelvin", "la\u017fer", "\u0130stanbul", "x:\u212a", "\u212a/x"])
def test_letters_of_a_name_are_those_of_english(name):
    """In Python, the Kelvin sign is a K in lower case: two names would be one file, or one name two."""
    with pytest.raises(ApiError, match="no valid model name"):
        parse_name(name)


@given(st.text(max_size=100))
def test_a_name_is_a_name_or_refused(text):
    try:
        name = parse_name(text)
    except ApiError as refused:
        assert refused.field == "model"
    else:
        assert (
            name.count(":") == 1
            and ".." not in name
            and name.count("/") <= 1
            and not set(name) & set("\\ \0\n")
            and parse_name(name) == name
        )


def chain(length):
    links = {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}]} for i in range(length)}
    return {"type": "object", "$ref": "#/$defs/a0", "$defs": links}


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "string",
            "pattern": f"^{'-'.join(f'[0-9a-f]{{{n}}}' for n in (8, 4, 4, 4, 12))}$",
        },  # a UUID
        {"type": "string", "pattern": "^[a-z]{40}-[a-z]{40}$"},
        {"type": "string", "pattern": r"^\{2000}$"},
        {"enum": ["가" * 4000]},
        {"enum": [{"maxItems": 5000}]},
        {"type": "object", "default": {"minItems": 3000}, "properties": {}},
    ],
)
def test_a_harmless_schema_is_allowed(schema):
    assert check_size(schema) is schema


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "string", "pattern": "(a{30}b{30}){20}"}, "has 1,200 characters, its counts written out"),
        ({"type": "string", "pattern": "a{40}{40}"}, "has 1,600 characters"),
        ({"type": "array", "maxItems": math.inf}, "the schema is no JSON"),
        ({"multipleOf": math.nan}, "the schema is no JSON"),
        (chain(400), "too deep into each other"),
    ],
)
def test_a_schema_that_is_too_much_is_told(schema, told):
    with pytest.raises(ValueError, match=told):
        check_size(schema)
