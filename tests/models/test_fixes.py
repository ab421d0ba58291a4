"""The fixes of errors about models: they do not lead in a circle, and what is not a text is told in words."""

from contextlib import closing
from pathlib import Path

import pytest

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import ModelManager, ModelSpec, load
from course_lib.models.downloads import check
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.context import check_fits
from course_lib.models.drivers.fields import Unsupported, with_driver
from course_lib.models.gguf import export, export_adapter, unpack
from course_lib.models.schema import Generation
from tests.fake_server import default_responses, fake_server, load_from
from tests.vision import tiny


def test_a_folder_that_is_no_path_is_refused_by_every_save(tmp_path):
    tiny.esrgan(tmp_path / "x4")
    upscaler = load(tmp_path / "x4", task="image-upscale", architecture="esrgan")
    for model in (load("haneul-300k"), upscaler):
        for folder in (None, 3, b"saved"):
            with pytest.raises(CourseError, match=r"folder is .*, where a path is expected\n.*save\("):
                model.save(folder)


def test_fixes_do_not_lead_in_a_circle(tmp_path):
    file = export(MODELS / "haneul-300k", tmp_path / "m.gguf")
    with (
        closing(load(str(file))) as engine,
        pytest.raises(Unsupported, match="llamacpp cannot score") as error,
    ):
        engine.log_probabilities("x")
    assert error.value.fix == f"course models unpack {file}"
    with closing(load(str(file))) as engine, pytest.raises(Unsupported, match="does not save") as error:
        engine.save(tmp_path / "saved")
    assert error.value.fix == f"course models unpack {file}"
    pulled = ModelSpec.parse("smollm2-135m-instruct")
    assert with_driver(pulled, "huggingface") == 'load("smollm2-135m-instruct-bf16")'
    with (
        closing(load("all-MiniLM-L6-v2")) as encoder,
        pytest.raises(Unsupported, match="cannot generate") as error,
    ):
        encoder.generate(["x"])
    assert error.value.fix == 'load a language model, such as load("haneul-4m")'


def test_the_prefixes_of_the_catalogue_are_for_its_task():
    name = "multilingual-e5-small-q4"
    assert ModelSpec.parse(name).query_prefix and ModelSpec.parse(name, task="rerank").query_prefix is None


def test_a_gguf_adapter_in_place_of_a_model_is_told(tmp_path):
    adapter = export_adapter(MODELS / "haneul-knowledge", MODELS / "haneul-4m", tmp_path / "kn.gguf")
    for use in (load, lambda path: unpack(Path(path), tmp_path / "new")):
        with pytest.raises(CourseError, match=r"kn\.gguf is a LoRA adapter") as error:
            use(str(adapter))
    fix = error.value.fix.replace("BASE", "haneul-4m")
    with closing(eval(fix, {"load": load})) as engine:
        assert engine.generate(["x"], max_output_length=2)


@pytest.mark.parametrize("item", [None, 3, [None]])
def test_prompts_and_texts_that_are_none_are_refused_in_words(item):
    with (
        closing(load("haneul-300k")) as engine,
        pytest.raises(InputError, match="a prompt is a text or a list of turns"),
    ):
        engine.generate([item])
    with (
        closing(load("all-MiniLM-L6-v2")) as encoder,
        pytest.raises(InputError, match=r"texts\[0\] is .*, where a text is expected"),
    ):
        encoder.embed([item])


def test_a_prompt_that_is_too_long_at_any_context_is_told_the_longest():
    with pytest.raises(CourseError, match="m reads 4096, at most 8192 with context_length=8192"):
        check_fits("m", 9000, 4096, 8192)


def test_an_address_without_v1_is_told_where_the_models_are():
    with fake_server(default_responses("openai")) as server:
        with pytest.raises(CourseError, match="has no models at /models, but at /v1/models") as error:
            load_from(server, "openai", source={"url": server.url})
        assert eval(error.value.fix, {"load": load}).generate(["hi"]) == ["Hello"]


def test_a_path_to_pull_gets_a_command_as_its_fix():
    with pytest.raises(CourseError) as error:
        check("../x")
    assert error.value.fix == "course models list"


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda: load("haneul-300k", temperature=0.5), "load(..., generation={'temperature': 0.5})"),
        (lambda: load("haneul-300k", max_tokens=5), "load(..., generation={'max_output_length': 5})"),
        (lambda: load("haneul-300k", n_ctx=512), "load(..., context_length=512)"),
        (lambda: load("haneul-4m", adapters="haneul-style"), "load(..., adapters=['haneul-style'])"),
        (lambda: Generation().replace(max_new_tokens=5), "generate(..., max_output_length=5)"),
        (lambda: Generation().replace(stop="x"), "generate(..., stop=['x'])"),
    ],
)
def test_the_names_of_other_libraries_and_texts_for_lists_get_the_right_call(call, fix):
    with pytest.raises(CourseError) as error:
        call()
    assert error.value.fix == fix


def test_an_encoder_is_no_chat_model():
    for name in ("all-MiniLM-L6-v2", "multilingual-e5-small-q4"):
        with pytest.raises(CourseError, match="is a model for text-embedding and generates no text"):
            ModelManager().get_chat_model(name)


@pytest.mark.parametrize("driver", ["huggingface", "llamacpp"])
def test_a_with_block_closes_a_model(driver):
    with load("haneul-300k", driver=driver) as engine:
        assert engine.generate(["hi"], max_output_length=1)
    assert "closed=True" in repr(engine)
