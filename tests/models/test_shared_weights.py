"""The manager and adapters: a base model is in memory once, as long as an adapter uses it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers import pretrained
from course_lib.models.planner import memory_footprint

BASE, BYTES = "haneul-300k", 4 * 344_384
PROMPTS = ["When do you open?", "What is the fee of a card?", "Hello"]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Folders of two random adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        lora = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
        get_peft_model(load(BASE).model, lora).save_pretrained(folder / name)
    return {name: {"source": BASE, "adapters": [str(folder / name)]} for name in ("one", "two")}


@pytest.fixture(scope="module")
def expected(adapters):
    """What each model says when it is loaded by itself."""
    replies = {name: load(spec).generate(PROMPTS) for name, spec in adapters.items()} | {
        "base": load(BASE).generate(PROMPTS)
    }
    assert len(set(map(tuple, replies.values()))) == 3
    return replies


@pytest.fixture
def read(monkeypatch):
    """The names of the folders that transformers has read a model from."""
    from transformers import AutoModelForCausalLM

    names, read = [], AutoModelForCausalLM.from_pretrained.__func__
    monkeypatch.setattr(
        AutoModelForCausalLM,
        "from_pretrained",
        classmethod(lambda cls, folder, **more: names.append(folder.name) or read(cls, folder, **more)),
    )
    return names


def places(engine):
    """Where the weights of a model lie, those of adapters left out."""
    return {p.data_ptr() for name, p in engine.model.named_parameters() if ".lora_" not in name}


def listed(manager):
    return {line.name: line for line in manager.loaded_models()}


# -- once in memory --


def test_adapters_are_exchanged_without_reading_the_base_again(manager, adapters, expected, read):
    bases = []
    for name in ("one", "two", "one", "two"):
        with manager.use(adapters[name], keep_alive=0) as engine, manager.use(BASE) as base:
            assert engine.generate(PROMPTS) == expected[name] and places(engine) == places(base)
            bases.append(base)
        assert list(listed(manager)) == [BASE]
    assert len({id(base) for base in bases}) == 1 and read == [BASE]
    assert bases[0].counters.requests == 0  # it was not the base that answered


def test_all_are_used_at_once_and_none_takes_anothers_place(manager, adapters, expected, read):
    def ask(i):
        name = ("one", "two", "base")[i % 3]
        with manager.use(adapters.get(name, BASE)) as engine:
            return name, engine.generate(PROMPTS)

    with ThreadPoolExecutor(6) as pool:
        for name, replies in pool.map(ask, range(18)):
            assert replies == expected[name]
    assert read == [BASE] and len(manager.loaded_models()) == 3


def test_bytes_are_counted_once(manager, adapters):
    with manager.use(adapters["one"]) as one, manager.use(adapters["two"]) as two:
        lines = listed(manager)
        assert (
            lines[BASE].bytes == BYTES and lines[BASE].users == 2 and set(lines) == {BASE, one.name, two.name}
        )
        for engine in (one, two):
            own = sum(p.nbytes for name, p in engine.model.named_parameters() if ".lora_" in name)
            assert 0 < lines[engine.name].bytes == own == memory_footprint(engine.model) - BYTES < BYTES / 10
            assert engine.weight_bytes == BYTES + own  # what it needs, were it alone


def test_closing_one_leaves_the_others(manager, adapters, expected):
    with manager.use(adapters["one"]) as one:
        with manager.use(adapters["two"], keep_alive=0), manager.use(BASE, keep_alive=0):
            pass
        assert one.generate(PROMPTS) == expected["one"] and set(listed(manager)) == {BASE, one.name}


def test_unloading_a_base_unloads_what_shares_its_weights(manager, adapters, expected):
    with manager.use(adapters["two"]) as two:
        pass
    with manager.use(adapters["one"]) as one:
        base = next(held.base for held in manager._entries.values() if held.base)
        assert manager.unload(BASE) and manager.loaded_models() == [] and two.model is None
        assert (
            one.generate(PROMPTS) == expected["one"] and base.engine.model is not None
        )  # weights that are used stay
    assert base.engine.model is None and one.model is None  # and go with their last user
    with manager.use(adapters["one"]) as again:
        assert again.generate(PROMPTS) == expected["one"] and len(manager.loaded_models()) == 2


def test_what_is_unloaded_and_still_used_counts(manager, adapters):
    manager.byte_limit = 4 * 1_377_408 + BYTES // 2
    with manager.use(adapters["one"]):
        manager.unload(BASE)
        with pytest.raises(
            CourseError, match=r"haneul-1m takes 5\.5 MB, .*in use: haneul-300k, haneul-300k\+one\n"
        ):
            manager.use("haneul-1m").__enter__()
    with manager.use("haneul-1m"):
        manager.unload("haneul-1m")
        with pytest.raises(CourseError, match="in use: haneul-1m"):
            manager.use(BASE, precision="float32", task="text-generation").__enter__()
    assert manager._dropped_in_use == []


def test_a_base_unloaded_while_an_adapter_is_loaded_takes_it_along(manager, adapters, monkeypatch):
    from course_lib.models.drivers.huggingface import HuggingFace

    with_adapters = HuggingFace.with_adapters
    monkeypatch.setattr(
        HuggingFace,
        "with_adapters",
        lambda engine, spec: (manager.unload(BASE), with_adapters(engine, spec))[1],
    )
    with manager.use(adapters["one"]) as one:
        assert manager.loaded_models() == [] and one.generate(["Hello"])
    assert one.model is None and manager._dropped_in_use == []


def test_a_mixture_shares_too(manager, adapters, expected, read):
    both = {
        "source": BASE,
        "adapters": [{"source": spec["adapters"][0], "weight": 0.5} for spec in adapters.values()],
    }
    alone = load(both).generate(PROMPTS)
    read.clear()
    with manager.use(both) as engine, manager.use(adapters["one"]) as one:
        assert engine.generate(PROMPTS) == alone and places(engine) == places(one)
        assert one.generate(PROMPTS) == expected["one"]
    assert read == [BASE]


def test_packed_weights_are_shared_as_well(manager, adapters):
    packed = {"quantization": "nf4", "compute_dtype": "float32"}
    alone = load(adapters["one"] | packed).generate(PROMPTS)
    with manager.use(BASE, **packed) as base, manager.use(adapters["one"] | packed) as engine:
        before = base.generate(PROMPTS)
        assert engine.generate(PROMPTS) == alone != before and places(engine) == places(base)
        assert base.generate(PROMPTS) == before
        assert listed(manager)[engine.name].bytes < BYTES / 10


def test_models_in_another_type_share_nothing(manager, adapters):
    with manager.use(adapters["one"]) as one, manager.use(adapters["two"], precision="bfloat16") as two:
        assert not places(one) & places(two) and len(manager.loaded_models()) == 4


def test_an_adapter_beside_shared_weights_is_saved_as_a_model_of_its_own(
    manager, adapters, expected, tmp_path
):
    with manager.use(adapters["one"]) as one, manager.use(BASE) as base:
        saved = one.save(tmp_path / "saved")
        assert one.generate(PROMPTS) == expected["one"] and base.generate(PROMPTS) == expected["base"]
    assert load(saved).generate(PROMPTS) == expected["one"]


# -- as long as it is used --


def test_idle_adapters_and_then_their_base_make_room(manager, adapters):
    manager.byte_limit = 4 * 1_377_408 + BYTES // 2  # haneul-1m, and no other model
    for name in ("one", "two"):
        with manager.use(adapters[name]):
            pass
    assert len(manager.loaded_models()) == 3
    bases = {id(held.base): held.base for held in manager._entries.values() if held.base}
    with manager.use("haneul-1m"):
        assert list(listed(manager)) == ["haneul-1m"]
    assert [base.engine.model for base in bases.values()] == [None]
    with manager.use(adapters["one"]):
        assert set(listed(manager)) == {BASE, f"{BASE}+one"}


def test_a_base_whose_adapter_is_used_stays(manager, adapters, expected):
    manager.byte_limit = 4 * 1_377_408 + BYTES // 2
    with manager.use(adapters["two"]):
        pass
    with manager.use(adapters["one"]) as one:
        with pytest.raises(
            CourseError, match=r"haneul-1m takes 5\.5 MB, .*in use: haneul-300k\+one, haneul-300k\n"
        ):
            manager.use("haneul-1m").__enter__()
        assert (
            one.generate(PROMPTS) == expected["one"] and len(manager.loaded_models()) == 3
        )  # nothing went in vain


def test_only_so_many_go_as_are_needed(manager, adapters):
    for name in ("one", "two"):
        with manager.use(adapters[name]):
            pass
    manager.byte_limit = sum(line.bytes for line in manager.loaded_models()) + 4 * 1_377_408 - 1
    with manager.use("haneul-1m"):
        assert set(listed(manager)) == {BASE, f"{BASE}+two", "haneul-1m"}


def wait_until(true):
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_idle_time_ends_an_adapter_and_then_its_base(manager, adapters):
    with manager.use(adapters["one"] | {"keep_alive": 0.2}) as one:
        base = next(held.base for held in manager._entries.values() if held.base)
        time.sleep(0.4)
        assert len(manager.loaded_models()) == 2
    wait_until(lambda: not manager.loaded_models())
    assert one.model is None and base.engine.model is None
    with manager.use(adapters["one"] | {"keep_alive": 0}):
        assert len(manager.loaded_models()) == 2
    assert manager.loaded_models() == []


def test_a_base_that_is_used_for_itself_outlives_its_adapter(manager, adapters, expected):
    with manager.use(BASE) as base:
        with manager.use(adapters["one"], keep_alive=0):
            pass
        assert base.generate(PROMPTS) == expected["base"] and list(listed(manager)) == [BASE]
    assert listed(manager)[BASE].users == 0


def test_an_adapter_that_cannot_be_loaded_lets_the_base_go(manager, adapters, expected, tmp_path, read):
    broken = {"source": BASE, "adapters": [str(tmp_path / "nothing")]}

    def ask():
        with pytest.raises(CourseError, match="nothing is not a LoRA adapter"), manager.use(broken):
            pass

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ask) for _ in range(4)]:
            done.result(timeout=30)
    assert [(line.name, line.users) for line in manager.loaded_models()] == [(BASE, 0)] and read == [BASE]
    with (
        pytest.raises(CourseError, match="nothing is not a LoRA adapter"),
        manager.use(broken | {"keep_alive": 0}),
    ):
        pass
    with manager.use(adapters["one"]) as one:
        assert one.generate(PROMPTS) == expected["one"]
    manager.unload_all()
    with (
        pytest.raises(CourseError, match="nothing is not a LoRA adapter"),
        manager.use(broken | {"keep_alive": 0}),
    ):
        pass
    assert manager.loaded_models() == [] and manager._entries == {}


def test_a_base_that_cannot_be_loaded_leaves_nothing(manager, adapters, monkeypatch):
    monkeypatch.setattr(
        pretrained, "select_device", lambda spec: (_ for _ in ()).throw(CourseError("no device", "wait"))
    )
    with pytest.raises(CourseError, match="no device"), manager.use(adapters["one"]):
        pass
    assert manager.loaded_models() == [] and manager._entries == {}
    monkeypatch.undo()
    with manager.use(adapters["one"]):
        assert len(manager.loaded_models()) == 2


def test_many_threads_load_and_close_and_leave_nothing(manager, adapters, expected):
    """Whatever comes when: the right answer, and in the end nobody holds anything."""
    manager.byte_limit = BYTES + BYTES // 2

    def ask(i):
        name = ("one", "two", "base")[i % 3]
        with manager.use(adapters.get(name, BASE), keep_alive=(0, 0.01, 60)[i // 3 % 3]) as engine:
            return engine.generate(PROMPTS[:1]) == expected[name][:1]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(27)))
    assert all(
        line.users == sum(held.base is not None for held in manager._entries.values()) * (line.name == BASE)
        for line in manager.loaded_models()
    )
    manager.unload_all()
    assert manager._entries == {}
