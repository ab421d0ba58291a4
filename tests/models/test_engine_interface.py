"""The common behaviour of all engine classes: lists in and out, a repr with sizes, picklable errors."""

import copy
import pickle

import pandas
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from course_lib.errors import CourseError
from course_lib.models import catalog, load
from course_lib.models.drivers.arguments import InputError
from course_lib.models.drivers.capabilities import TASKS
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.reply import Reply
from course_lib.models.schema import SpecError
from tests.fake_server import default_responses, fake_server, load_from

CALLS = {  # name -> (a call with a list of texts, the correct call that an error shows)
    "generate": (lambda engine, texts: engine.generate(texts), "generate([{}])[0]"),
    "embed": (lambda engine, texts: engine.embed(texts), "embed([{}])[0]"),
    "embed_tokens": (lambda engine, texts: engine.embed_tokens(texts), "embed_tokens([{}])[0]"),
    "rerank": (lambda engine, texts: engine.rerank("hi", texts), "rerank(query, [{}])[0]"),
    "classify": (lambda engine, texts: engine.classify(texts), "classify([{}])[0]"),
    "score": (lambda engine, texts: engine.score(texts, ["a"]), "score([{}], continuations)"),
    "score continuations": (lambda engine, texts: engine.score(["a"], texts), "score(prompts, [{}])"),
    "perplexity": (lambda engine, texts: [engine.perplexity(texts)], "perplexity([{}])"),
}
SUPPORTED_CALLS = {  # "class, task" -> names in CALLS
    "HuggingFace": ["generate", "score", "score continuations", "perplexity"],
    "Encoder, text-embedding": ["embed", "embed_tokens"],
    "Encoder, rerank": ["rerank"],
    "Encoder, text-classification": ["classify"],
    "LlamaCpp": ["generate"],
    "LlamaCpp, text-embedding": ["embed"],
    "OpenAI": ["generate"],
    "Ollama": ["generate"],
}


@pytest.fixture(scope="module", params=SUPPORTED_CALLS)
def engine(request, tmp_path_factory):
    """An engine of every driver class and task."""
    name, _, task = request.param.partition(", ")
    if name in ("OpenAI", "Ollama"):
        with fake_server(default_responses(name.lower())) as server:
            yield load_from(server, name.lower())
        return
    source, driver = "haneul-300k", "llamacpp" if name == "LlamaCpp" else "huggingface"
    if name == "Encoder":
        source = tmp_path_factory.mktemp("encoder")
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        torch.manual_seed(1)
        labels = 3 if task == "text-classification" else 1
        BertForSequenceClassification(BertConfig(num_labels=labels, **sizes)).save_pretrained(source)
        AutoTokenizer.from_pretrained(catalog.verify_shipped("all-MiniLM-L6-v2")).save_pretrained(source)
    engine = load(source, driver=driver, task=task or "chat-completion")
    engine.class_and_task = request.param
    yield engine
    engine.close()


def test_a_single_text_is_refused_with_the_correct_call(engine):
    engine_class = getattr(engine, "class_and_task", type(engine).__name__)
    for call, fix in map(CALLS.get, SUPPORTED_CALLS[engine_class]):
        for text, shown in (("hello", "'hello'"), ("a long text " * 9, "text")):
            with pytest.raises(CourseError, match=", a single text, where a list is expected") as caught:
                call(engine, text)
            assert caught.value.fix == fix.format(shown)
        assert len(call(engine, ["hello"])) == 1
    if "generate" in SUPPORTED_CALLS[engine_class]:
        turns = [{"role": "user", "content": "hello"}]
        with pytest.raises(
            CourseError, match=r"is a single conversation, .* where(.|\n)*generate\(\[conversation\]\)\[0\]"
        ):
            engine.generate(turns)
        assert len(engine.generate([turns])) == 1


def test_a_table_is_not_taken_for_the_names_of_its_columns(engine):
    table = pandas.DataFrame({"text": ["hello"]})
    engine_class = getattr(engine, "class_and_task", type(engine).__name__)
    for call, _ in map(CALLS.get, SUPPORTED_CALLS[engine_class]):
        with pytest.raises(InputError, match="DataFrame"):
            call(engine, table)
        assert len(call(engine, table["text"])) == 1


def test_what_no_driver_reads_in_a_turn_is_refused(engine):
    if "generate" in SUPPORTED_CALLS[getattr(engine, "class_and_task", type(engine).__name__)]:
        turn = {"role": "user", "content": "hello", "images": ["a.png"]}
        with pytest.raises(InputError, match=r"\[0\] has images, which no driver reads"):
            engine.generate([[turn]])


NOT_TEXTS = [None, 3, float("nan"), b"hello", ["hello"], {"a": "hello"}]


@pytest.mark.parametrize("value", NOT_TEXTS, ids=repr)
def test_what_is_no_list_of_texts_is_refused_with_the_name_of_the_argument(engine, value):
    engine_class = getattr(engine, "class_and_task", type(engine).__name__)
    for call, _ in map(CALLS.get, SUPPORTED_CALLS[engine_class]):
        if not isinstance(value, list):
            with pytest.raises(
                InputError, match=r"^(prompts|texts|continuations) is .*, where a list is expected"
            ):
                call(engine, value)
        with pytest.raises(InputError, match=r"^(prompts|texts|continuations)\[1\]\S* is "):
            call(engine, ["hello", value])


@pytest.mark.parametrize("value", NOT_TEXTS, ids=repr)
def test_what_is_no_text_is_refused_with_the_name_of_the_argument(engine, value):
    calls = {
        "stream": engine.stream,
        "score": engine.log_probabilities,
        "rerank": lambda value: engine.rerank(value, ["hello"]),
    }
    offered = [name for name in engine.capabilities if engine.spec.task in TASKS[name]]
    chosen = [calls[name] for name in offered if name in calls]
    chosen += [] if engine.driver in ("openai", "ollama") else [engine.count_tokens]
    for call in [*chosen, *([engine.ids] if hasattr(engine, "ids") else [])]:
        with pytest.raises(InputError, match=r"^(prompt|query|text)\S* is "):
            call(value)


def test_options_and_batch_sizes_of_the_wrong_type_are_refused(engine):
    if "generate" not in SUPPORTED_CALLS[getattr(engine, "class_and_task", type(engine).__name__)]:
        return
    for size in (0, -1, "2", 1.5):
        with pytest.raises(InputError, match="batch_size="):
            engine.generate(["hello"], batch_size=size)
    for call in (
        lambda options: engine.generate(["hello"], options),
        lambda options: engine.stream("hello", options),
    ):
        with pytest.raises(InputError, match=r"options is .*no Generation"):
            call({"temperature": 1})


def test_a_stream_has_the_reply_of_generate_at_its_end(engine):
    if getattr(engine, "class_and_task", "") not in ("HuggingFace", "LlamaCpp"):
        return  # the other drivers: test_served_drivers.py
    for options in ({"max_output_length": 3}, {"max_output_length": 60, "stop": ["e"]}):
        reply, stream = engine.generate(["hello"], **options)[0], engine.stream("hello", **options)
        assert stream.reply is None and "".join(stream).strip() == reply
        assert stream.reply == reply and vars(stream.reply) == vars(reply)


def test_the_repr_shows_sizes_and_settings(engine):
    text = repr(engine)
    assert text.startswith(f"{type(engine).__name__}({engine.name!r}, driver={engine.driver!r}, task=")
    for name in ("parameters", "weight_bytes", "device", "context"):
        assert f"{name}={getattr(engine, name)!r}" in text
    assert "object at 0x" not in text


def test_a_closed_engine_raises_an_error_and_has_a_repr():
    for driver in ("huggingface", "llamacpp"):
        engine = load("haneul-300k", driver=driver)
        engine.close()
        engine.close()
        assert repr(engine).endswith(f"driver={driver!r}, task='chat-completion', closed=True)")
        for use in (lambda: engine.generate(["hi"]), lambda: engine.stream("hi")):  # noqa: B023
            with pytest.raises(CourseError, match="haneul-300k has been closed\n  Fix: load it again"):
                use()


@pytest.mark.parametrize("error_class", [CourseError, Unsupported, SpecError])
def test_errors_and_replies_can_be_pickled_and_copied(error_class):
    error = error_class("7 tokens", 'load("x")')
    for copied in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301
        assert type(copied) is error_class and str(copied) == str(error) and copied.fix == error.fix
    reply = Reply("text", 5, 2, "length")
    for copied in (pickle.loads(pickle.dumps(reply)), copy.deepcopy(reply)):  # noqa: S301
        assert copied == "text"
        assert (copied.prompt_tokens, copied.tokens, copied.finish_reason) == (5, 2, "length")
