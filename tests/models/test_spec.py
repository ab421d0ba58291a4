"""Parsing model specifications (ModelSpec) from strings and dicts, and the errors for wrong fields."""

import os
import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import Generation, ModelSpec, catalog, load
from course_lib.models.schema import Adapter, HuggingFaceSource, LocalSource, ServerSource, SpecError
from course_lib.models.schema.sources import read_token

PATHS = [
    "/models/x",
    "./x",
    "../x",
    "~/x",
    "~",
    ".",
    "..",
    "C:\\models\\x",
    "D:/x",
    ".\\x",
    "..\\x",
    "./모델",
]
IDS = ["Qwen/Qwen2.5-0.5B-Instruct", "gpt2", "BAAI/bge-m3", "microsoft/phi-2", "a/b.c-d_e"]
INVALID_IDS = [
    "llama3:13b",
    "a/b/c",
    "a b",
    "",
    "-x",
    "a/../b",
    "ü/x",
    "a/b\n",
    "a//b",
    "http://x",
    "a" * 300,
    "x\0y",
    "owner/.hidden",
]


@pytest.mark.parametrize("text", PATHS)
def test_a_path_is_recognized_by_its_beginning(text):
    assert ModelSpec.parse(text).source == LocalSource(path=Path(text))


@pytest.mark.parametrize("text", IDS)
def test_anything_else_is_a_hub_id(text):
    assert ModelSpec.parse(text).source == HuggingFaceSource(repository=text)


@pytest.mark.parametrize("text", INVALID_IDS)
def test_a_text_that_is_neither_path_nor_hub_id_is_refused_with_the_shipped_names(text):
    with pytest.raises(
        SpecError, match=r"source\.repository: .*the course ships haneul-1m.*a hub id is 'owner/name'"
    ):
        ModelSpec.parse(text)


def test_a_shipped_model_is_found_by_name_and_a_server_model_by_its_driver():
    assert ModelSpec.parse("haneul-1m").source == LocalSource(path=MODELS / "haneul-1m")
    assert ModelSpec.parse("llama3.2:1b", driver="ollama").source == ServerSource(model="llama3.2:1b")


def test_parsing_a_specification_again_returns_an_equal_one():
    fields = {
        "source": {
            "type": "huggingface",
            "repository": "Qwen/Qwen2.5-0.5B-Instruct",
            "revision": "main",
            "token": "${env.HF_TOKEN}",
        },
        "precision": "bfloat16",
        "generation": {"temperature": 0, "stop": ["END"]},
    }
    assert ModelSpec.parse(fields) == ModelSpec.parse(ModelSpec.parse(fields))
    assert ModelSpec.parse("haneul-1m", precision="bfloat16").precision == "bfloat16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"precision": "int3"},
            "precision: 'int3': Input should be 'auto', 'float32', 'float16' or 'bfloat16'",
        ),
        ({"driver": "tensorrt"}, "driver: 'tensorrt': Input should be 'huggingface', 'llamacpp'"),
        (
            {"task": "image-segmentation"},
            "task: 'image-segmentation': Input should be 'text-generation', 'chat-completion'",
        ),
        (
            {"quantization": "q3"},
            "quantization: 'q3': Input should be 'none', 'int8', 'nf4', 'fp4', 'q8_0' or 'q4_0'",
        ),
        (
            {"quantization": "q4_0"},
            "quantization: 'q4_0' needs the driver llamacpp; the driver huggingface supports int8, nf4, fp4",
        ),
        (
            {"compute_dtype": "int8"},
            "compute_dtype: 'int8': Input should be 'auto', 'float32', 'float16' or 'bfloat16'",
        ),
        (
            {"double_quantization": "perhaps"},
            "double_quantization: 'perhaps': Input should be a valid boolean",
        ),
        ({"device": "tpu"}, "device: 'tpu': Input should be 'auto', 'cpu', 'cuda' or 'mps'"),
        ({"batch_size": 0}, "batch_size: 0: Input should be greater than or equal to 1"),
        (
            {"generation": {"temperature": -1}},
            "generation.temperature: -1: Input should be greater than or equal to 0",
        ),
        (
            {"generation": {"temprature": 1}},
            "generation.temprature: no such field; the fields are max_output_length",
        ),
        ({"quantisation": "q8_0"}, "quantisation: no such field; the fields are source"),
        (
            {"driver": "ollama", "source": {"type": "local", "path": "x"}},
            "driver: ollama needs a server source, not local",
        ),
        ({"implementation": "x"}, "implementation: 'x'; required by the driver custom"),
        (
            {"adapters": [{"source": "a", "weight": "heavy"}]},
            "adapters.0.weight: 'heavy': Input should be a valid number",
        ),
        (
            {"adapters": [{"source": "a", "weight": 10.1}]},
            "adapters.0.weight: 10.1: Input should be less than or equal to 10",
        ),
        ({"adapters": [{"source": "a", "weight": float("nan")}]}, "adapters.0.weight: "),
        ({"adapters": [{"source": "a", "wieght": 1}]}, "adapters.0.wieght: no such field"),
        ({"adapters": [{"weight": 1}]}, "adapters.0.source: "),
        ({"adapters": ["a b"]}, "adapters.0.source.repository: 'a b': "),
        (
            {"adapters": [{"source": {"type": "server", "model": "x"}}]},
            "adapters.0.source: Input tag 'server'",
        ),
        ({"adapters": [{"source": "a", "name": ""}]}, "adapters.0.name: "),
        ({"adapters": ["a"] * 17}, "adapters: "),
        ({"combination_type": "sum"}, "combination_type: 'sum': Input should be 'cat', 'svd' or 'linear'"),
        ({"source": {"type": "ftp"}}, "source: Input tag 'ftp'"),
        (
            {"source": {"type": "huggingface", "repository": "a/b", "filename": "../x.gguf"}},
            "source.filename: '../x.gguf': only",
        ),
        (
            {"source": {"type": "huggingface", "repository": "a/b", "sha256": {"x": "1"}}},
            "source.sha256: a SHA-256 is 64 hex digits",
        ),
        (
            {"source": {"type": "server", "model": "x"}},
            "driver: huggingface needs a source of type huggingface or local",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(change, message):
    with pytest.raises(SpecError) as error:
        ModelSpec.parse({"source": "haneul-1m"} | change)
    assert message in str(error.value)


def test_an_adapter_is_a_path_a_name_a_hub_id_or_a_dict():
    for text, source in (
        ("./a", LocalSource(path=Path("./a"))),
        (Path("a"), LocalSource(path=Path("a"))),
        ("owner/a", HuggingFaceSource(repository="owner/a")),
        ("haneul-cross-encoder", LocalSource(path=MODELS / "haneul-cross-encoder")),
    ):
        for form in (text, {"source": text}, {"source": source.model_dump()}, {"source": source}):
            spec = ModelSpec.parse("haneul-1m", adapters=[form])
            assert spec.adapters == (Adapter(source=source),) and spec.adapters[0].weight == 1
            assert ModelSpec.parse(spec) == spec and ModelSpec.parse(spec).key() == spec.key()
    named = ModelSpec.parse(
        "haneul-1m", adapters=["/x/style", "owner/a", {"source": "owner/a", "name": "manners"}]
    )
    assert named.name == "haneul-1m+style+owner/a+manners"


def test_adapter_weights_and_combination_change_the_key_but_names_do_not(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")

    def key(*adapters, **more):
        return ModelSpec.parse("haneul-1m", adapters=adapters, **more).key()

    one, two = {"source": tmp_path / "a"}, {"source": tmp_path / "b"}
    assert key(one, two) == key(one | {"name": "x"}, two | {"weight": 1}) == key(tmp_path / "link", two)
    others = [
        key(),
        key(one),
        key(two, one),
        key(one | {"weight": 0.5}, two),
        key(one, two, combination_type="linear"),
        key(one, one),
    ]
    assert len({*others, key(one, two)}) == 7


def test_all_wrong_fields_are_reported_together():
    with pytest.raises(SpecError) as error:
        ModelSpec.parse({"source": "haneul-1m", "device": "tpu", "precision": "int3"})
    assert "device" in error.value.what and "precision" in error.value.what


def test_a_literal_token_is_refused_and_never_shown(monkeypatch):
    wrong = {"source": {"type": "huggingface", "repository": "a/b", "token": "hf_secretsecret"}}
    with pytest.raises(SpecError, match=r"source\.token: do not write the token itself") as error:
        ModelSpec.parse(wrong)
    with pytest.raises(ValueError, match="token") as raw:
        ModelSpec(**wrong)
    assert "secret" not in str(error.value) + str(raw.value) + repr(error.value)
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(CourseError, match="MY_TOKEN, which is not set"):
        read_token("${env.MY_TOKEN}")
    monkeypatch.setenv("MY_TOKEN", "hf_1")
    assert read_token("${env.MY_TOKEN}") == "hf_1" and read_token(None) is None


def test_wrong_generation_options_are_named():
    with pytest.raises(SpecError, match="min_output_length 9 is above max_output_length 4"):
        Generation().replace(max_output_length=4, min_output_length=9)
    with pytest.raises(SpecError, match="seed: -1"):
        Generation().replace(seed=-1)
    assert Generation(temperature=1).replace(seed=3) == Generation(temperature=1, seed=3)


FIELDS = [*ModelSpec.model_fields, "sourc", "__class__", ""]
INNER_FIELDS = [
    "type",
    "repository",
    "revision",
    "filename",
    "path",
    "format",
    "model",
    "url",
    "token",
    "sha256",
    "cache_dir",
    "weight",
]
INNER_FIELDS += Generation.model_fields
VALUES = [
    "huggingface",
    "local",
    "server",
    "haneul-300k",
    "auto",
    "none",
    "q8_0",
    "llamacpp",
    "ollama",
    "custom",
    "cpu",
    "float32",
]
VALUES += [
    "chat-completion",
    "text-embedding",
    "/nowhere",
    "C:\\x",
    "${env.HOME}",
    "${env.}",
    "",
    "\0",
    "하늘",
    "\ud800",
    "x" * 5000,
]


def random_value(rng, depth=0):
    """Return a random value, valid or invalid, for a field."""
    kind = rng.randrange(12 if depth < 3 else 8)
    if kind < 4:
        return rng.choice(VALUES)
    if kind == 4:
        return rng.choice([0, 1, -1, 2**70, 0.5, float("nan"), float("inf"), True, None])
    if kind == 5:
        return "".join(rng.choices(string.printable, k=rng.randrange(20)))
    if kind == 6:
        return rng.choice([Path("/nowhere"), b"bytes", {1, 2}, object(), 1j])
    if kind == 7:
        return ModelSpec.parse("haneul-300k")
    if kind < 10:
        return {
            rng.choice(INNER_FIELDS + FIELDS + [3, None]): random_value(rng, depth + 1)
            for _ in range(rng.randrange(5))
        }
    return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]


def test_ten_thousand_random_specifications_parse_or_raise_a_named_error():
    rng, parsed, names = random.Random(4), 0, [*FIELDS, *INNER_FIELDS, "specification"]
    for _ in range(10_000):
        fields = {rng.choice(FIELDS): random_value(rng) for _ in range(rng.randrange(6))}
        if rng.random() < 0.8:
            fields["source"] = rng.choice(["haneul-300k", random_value(rng)])
        try:
            spec = ModelSpec.parse(fields if rng.random() < 0.9 else random_value(rng))
            assert ModelSpec.parse(spec).key() == spec.key()
            parsed += 1
        except SpecError as error:
            assert any(name and name in error.what for name in names), error.what
            assert len(error.what) < 20_000
    assert 300 < parsed < 9_700


@given(st.text(max_size=60))
def test_any_text_is_a_source_or_raises_a_spec_error(text):
    try:
        ModelSpec.parse(text).key()
    except SpecError as error:
        assert "source" in error.what


def test_loading_a_missing_model_raises_a_course_error(tmp_path):
    unregistered = {"source": "haneul-1m", "driver": "custom", "implementation": "nobody"}
    for value in (tmp_path / "none", {"source": {"type": "local", "path": str(tmp_path)}}, unregistered):
        with pytest.raises(CourseError):
            load(value)
    assert os.listdir(tmp_path) == []


# -- names in the catalogue -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all-MiniLM-L6-v2", ("local", "huggingface", "text-embedding")),
        ("haneul-cross-encoder", ("local", "huggingface", "rerank")),
        ("Qwen2.5-0.5B-Instruct", ("huggingface", "huggingface", "chat-completion")),
        ("intfloat/multilingual-e5-small", ("huggingface", "huggingface", "text-embedding")),
        ("bge-m3", ("server", "ollama", "text-embedding")),
        ("BAAI/bge-m3", ("huggingface", "huggingface", "text-embedding")),
        ("./m.gguf", ("local", "llamacpp", "chat-completion")),
        ("m.gguf", ("local", "llamacpp", "chat-completion")),
        (Path("m.gguf"), ("local", "llamacpp", "chat-completion")),
        ({"source": LocalSource(path="m.gguf")}, ("local", "llamacpp", "chat-completion")),
        (
            {"source": {"type": "huggingface", "repository": "o/m", "filename": "m.gguf"}},
            ("huggingface", "llamacpp", "chat-completion"),
        ),
    ],
)
def test_source_driver_and_task_follow_from_the_catalogue_or_the_text(text, expected):
    spec = ModelSpec.parse(text)
    assert (spec.source.type, spec.driver, spec.task) == expected
    assert ModelSpec.parse(spec) == spec


def test_a_catalogue_name_has_a_fixed_revision_and_given_fields_take_precedence():
    pinned = ModelSpec.parse("SmolLM2-135M-Instruct").source
    entry = catalog.entry("SmolLM2-135M-Instruct")
    assert (pinned.repository, pinned.revision) == (entry.hub, entry.revision)
    assert pinned.sha256 == {"model.safetensors": entry.sha256}
    assert ModelSpec.parse("all-MiniLM-L6-v2", task="rerank").task == "rerank"
    assert ModelSpec.parse("m.gguf", driver="huggingface").driver == "huggingface"
    assert ModelSpec.parse("bge-m3", driver="huggingface").source == HuggingFaceSource(repository="bge-m3")


@pytest.mark.parametrize(
    ("fields", "fix"),
    [
        ({"driver": "llama.cpp"}, "load(..., driver='llamacpp')"),
        ({"quantization": "q8"}, "load(..., quantization='q8_0')"),
        ({"quantization": "q8_0"}, 'load(..., driver="llamacpp", quantization="q8_0")'),
        ({"device": "tpu"}, "load(..., device='cpu')"),
        ({"quantisation": "q8_0"}, "load(..., quantization=...)"),
        ({"source": "haneul:4m"}, 'load("haneul-4m")'),
        ({"driver": "custom"}, 'load(..., driver="custom", implementation="NAME")'),
        ({"generation": {"seed": -1}}, "see ModelSpec.model_fields"),
    ],
)
def test_the_fix_is_a_call_with_an_allowed_value(fields, fix):
    with pytest.raises(SpecError) as error:
        ModelSpec.parse({"source": "haneul-1m"} | fields)
    assert error.value.fix == fix


def test_a_repr_shows_the_fields_that_were_set():
    assert repr(Generation(seed=3)) == "Generation(seed=3)"
    spec = ModelSpec.parse("o/m", precision="bfloat16")
    assert (
        repr(spec)
        == "ModelSpec(source=HuggingFaceSource(type='huggingface', repository='o/m'), precision='bfloat16')"
    )
