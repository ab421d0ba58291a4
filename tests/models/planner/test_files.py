"""Plans of files that exist: bytes of their own tensors, and sizes from their headers."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from course_lib.cli import main
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models.gguf import export
from course_lib.models.planner import architecture, choose_context, kv_bytes, plan
from course_lib.models.planner.architectures import Architecture
from course_lib.models.planner.memory import bytes_to_load
from course_lib.models.schema import ModelSpec
from tests.models.planner.gguf_files import tensor_shapes, write_model

SIZES = Architecture(
    name="tiny",
    type="llama",
    hidden=64,
    feed_forward=256,
    layers=6,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocabulary=4096,
    tied=True,
    context=4096,
    window=0,
    windowed=0,
)


def weights_of(planned):
    return planned.weights + planned.embeddings + planned.norms


def bytes_of(path):
    import gguf

    return sum(tensor.n_bytes for tensor in gguf.GGUFReader(path).tensors)


@pytest.mark.parametrize("weight_type", ["f32", "q8_0", "q4_0"])
def test_a_gguf_file_is_planned_by_its_own_tensors(weight_type, tmp_path):
    path = export(MODELS / "haneul-1m", tmp_path / "m.gguf", weight_type)
    planned = plan(path, context=512)
    assert weights_of(planned) == bytes_of(path)
    assert planned.driver == "llamacpp" and weight_type.endswith(planned.weight_format[-2:])
    folder = plan("haneul-1m", planned.weight_format, 512, driver="llamacpp")
    assert planned.parts == folder.parts, "as planned before it was written"


KINDS = {
    "llama": ("llama", {}),
    "qwen3": ("qwen3", {}),
    "gemma2": ("gemma2", {"window": 512, "windowed": 3}),
    "gemma3": ("gemma3_text", {"window": 512, "windowed": 5}),
    "qwen3moe": ("qwen3_moe", {"experts": 8, "experts_used": 2, "tied": False}),
    "llama4": ("llama4_text", {"window": 8192, "windowed": 5, "experts": 4, "experts_used": 1}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_says_the_sizes(kind, tmp_path):
    known, changes = KINDS[kind]
    sizes = replace(SIZES, name="m.gguf", type=known, **changes)
    path = write_model(tmp_path / "m.gguf", sizes, kind)
    assert architecture(path) == sizes
    planned = plan(path, context=4000, kv="q8_0")
    assert planned.kv == kv_bytes(sizes, 4000, kv="q8_0") and weights_of(planned) == bytes_of(path)
    assert weights_of(planned) == 4 * sizes.parameters


def test_layers_with_a_window_are_those_that_the_header_lists(tmp_path):
    sizes = replace(SIZES, type="gemma3_text", window=512)
    for pattern, windowed in (([True, False] * 3, 3), ([True] * 6, 6), (2, 3), (None, 5)):
        fields = {"gemma3.attention.sliding_window_pattern": pattern}
        path = write_model(tmp_path / f"{windowed}.gguf", sizes, "gemma3", fields)
        assert architecture(path).windowed == windowed
    heads = {"llama.attention.head_count_kv": [2, 1, 2, 1, 2, 1]}
    path = write_model(tmp_path / "heads.gguf", SIZES, "llama", heads)
    assert architecture(path).kv_heads == 2, "the most of all layers: an upper bound"


def test_only_the_chosen_experts_count_for_a_token_and_all_for_the_memory(tmp_path):
    sizes = replace(SIZES, type="qwen3_moe", experts=8, experts_used=2)
    planned = plan(write_model(tmp_path / "m.gguf", sizes, "qwen3moe"), context=256)
    experts = 4 * sizes.layers * 3 * sizes.feed_forward * sizes.hidden
    assert planned.idle == 6 * experts and planned.weights > 8 * experts
    assert planned.bytes_per_token == planned.total - planned.overhead - 6 * experts
    assert "One token uses" in str(planned)
    assert planned.idle == plan(sizes, "float32", 256).idle
    assert plan(SIZES, "q4_0").idle == 0 and "One token" not in str(plan(SIZES, "q4_0"))


@pytest.fixture
def folder(tmp_path):
    """haneul-300k in three shards that its index names."""
    shutil.copytree(MODELS / "haneul-300k", tmp_path / "m")
    (whole := tmp_path / "m" / "model.safetensors").rename(tmp_path / "whole.safetensors")
    assert not whole.exists()
    tensors = load_file(tmp_path / "whole.safetensors")
    parts = {f"model-0000{i}-of-00003.safetensors": sorted(tensors)[i - 1 :: 3] for i in (1, 2, 3)}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, tmp_path / "m" / file, {"format": "pt"})
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path / "m"


def test_of_a_folder_only_what_its_index_names_counts(folder):
    expected = plan("haneul-300k", context=64)
    assert weights_of(expected) == 2 * architecture("haneul-300k").parameters
    assert expected.driver == "huggingface" and expected.weight_format == "bfloat16"
    extra = {"a.weight": torch.ones(10, 10)}
    for name in ("consolidated", "model-00001-of-00002", "model-00002-of-00002"):
        save_file(extra, folder / f"{name}.safetensors")
    assert plan(folder, context=64).parts == expected.parts
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CourseError, match=r"model-00002-of-00003\.safetensors is missing"):
        plan(folder, context=64)


def test_a_folder_with_one_gguf_file_is_that_file(tmp_path):
    file = write_model(tmp_path / "m.gguf", SIZES, "llama")
    assert plan(tmp_path) == plan(file) and architecture(tmp_path) == architecture(file)
    shutil.copy(file, tmp_path / "other.gguf")
    with pytest.raises(CourseError, match=r"holds 2 GGUF models: m\.gguf, other\.gguf"):
        plan(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(CourseError, match=r"none has no readable config\.json"):
        plan(tmp_path / "none")


def test_a_folder_can_be_planned_in_another_format_and_for_the_other_engine(folder):
    assert plan(folder, "q8_0", 64).parts == plan("haneul-300k", "q8_0", 64).parts
    stored, converted = plan(folder, context=64), plan(folder, context=64, driver="llamacpp")
    assert converted.driver == "llamacpp" and converted.weights == stored.weights
    assert converted.norms == 2 * stored.norms, "32 bits in a GGUF file"


def test_a_model_that_also_reads_images_is_planned_by_its_text_part(tmp_path):
    text = json.loads((MODELS / "haneul-1m" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    assert architecture(tmp_path).layers == text["num_hidden_layers"]


def test_the_command_prints_the_plan_and_what_fits(tmp_path, capsys):
    path = write_model(tmp_path / "m.gguf", SIZES, "llama")
    assert main(["models", "plan", str(path), "--context", "512", "--batch", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(str(plan(path, context=512, batch=2)))
    assert "it fits.\nThe longest context that fits: 4,096 tokens." in printed
    assert main(["models", "plan", "Llama-3.1-8B", "--format", "q4_k_m"]) == 0
    assert str(plan("Llama-3.1-8B", "q4_k_m")) in capsys.readouterr().out
    assert main(["models", "plan", str(tmp_path / "none.gguf")]) == 1
    assert "does not exist" in capsys.readouterr().err


# -- files that cannot be planned ---------------------------------------------------------------------------


def test_a_split_model_is_planned_as_a_whole_from_any_of_its_files(tmp_path):
    import gguf

    whole = write_model(tmp_path / "whole.gguf", SIZES, "llama")
    first, second = (tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    shapes = list(tensor_shapes(SIZES).items())
    write_model(first, SIZES, "llama", shapes=dict(shapes[:5]))
    writer = gguf.GGUFWriter(second, "llama")
    writer.add_uint16("split.no", 1)
    for name, shape in shapes[5:]:
        writer.add_tensor(f"{name}.weight", np.full(shape, 0.01, dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    assert plan(first).parts == plan(second).parts == plan(whole).parts
    size = first.stat().st_size + second.stat().st_size
    assert bytes_to_load(ModelSpec.parse(str(first))) == size, "as the manager counts it"
    second.unlink()
    with pytest.raises(CourseError, match=r"m-00002-of-00002\.gguf does not exist"):
        plan(first)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"llama.block_count": None}, "has no 'llama.block_count', from which its memory follows"),
        ({"llama.attention.head_count": 0}, "states sizes that cannot be: .*division"),
        ({"llama.attention.head_count_kv": 0}, "states sizes that cannot be: layers=6"),
        ({"llama.block_count": 2**31}, "states sizes that cannot be: layers=2147483648"),
        ({"llama.expert_count": 2, "llama.expert_used_count": 3}, "states sizes .* 3 of 2 experts are used"),
        ({"llama.context_length": 0}, "states sizes that cannot be: .*context=0"),
        ({"llama.attention.value_length": 8}, "states sizes that cannot be: keys are 16 wide, values 8"),
        ({"llama.attention.kv_lora_rank": 8}, "keeps more than keys and values .*kv_lora_rank"),
        ({"llama.ssm.state_size": 8}, "keeps more than keys and values .*ssm"),
    ],
)
def test_a_header_from_which_no_memory_follows_is_refused_by_name(fields, message, tmp_path):
    path = write_model(tmp_path / "m.gguf", SIZES, "llama", fields)
    with pytest.raises(CourseError, match=f"m.gguf {message}"):
        plan(path)
    with pytest.raises(CourseError):
        choose_context(path)


def test_other_files_are_refused_by_what_they_are(tmp_path):
    for kind, told in (("adapter", "is a LoRA adapter"), ("mmproj", "is of type 'mmproj', not a model")):
        file = write_model(tmp_path / f"{kind}.gguf", SIZES, "llama", general_type=kind)
        with pytest.raises(CourseError, match=told):
            plan(file)
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "pickle.bin").write_bytes(b"\x80\x04")
    whole = write_model(tmp_path / "m.gguf", SIZES, "llama").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-1000])
    for name, message in (
        ("empty.gguf", "not a GGUF file: it has 0 bytes"),
        ("pointer.gguf", "is a Git LFS pointer"),
        ("pickle.bin", "is a pickle"),
        ("cut.gguf", "is truncated or damaged: its tensors need"),
    ):
        with pytest.raises(CourseError, match=message):
            plan(tmp_path / name)


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_header_is_planned_or_refused_in_words(seed, tmp_path):
    """200 files each, with some bytes of the header changed, and some values of the sizes."""
    raw = write_model(tmp_path / "m.gguf", SIZES, "llama").read_bytes()
    rng = random.Random(seed)
    names = [f"llama.{n}".encode() for n in ("block_count", "context_length", "attention.head_count_kv")]
    for _ in range(200):
        changed = bytearray(raw)
        for place in rng.sample(range(8, 900), 3):
            changed[place] = rng.randrange(256)
        start = raw.index(name := rng.choice(names)) + len(name) + 4
        changed[start : start + 4] = rng.randbytes(4)
        (tmp_path / "m.gguf").write_bytes(changed)
        try:
            assert plan(tmp_path / "m.gguf", rng.choice([None, "q8_0"]), 1).total > 0
        except CourseError as error:
            assert len(error.what) < 1000


@pytest.mark.parametrize("kind", ["bert", "nomic-bert"])
def test_an_encoder_keeps_no_tokens_and_reads_a_text_in_one_piece(kind, tmp_path):
    encoder = replace(SIZES, type="bert", kv_heads=4)
    file = write_model(tmp_path / "e.gguf", encoder, kind)
    assert choose_context(file).tokens == 4096
    short, long = plan(file, context=512), plan(file, context=1024)
    assert short.kv == long.kv == 0 and long.overhead > 2 * short.overhead - 4 * SIZES.vocabulary
    assert weights_of(plan(file)) == bytes_of(file)


def test_an_unknown_kind_of_model_is_planned_by_its_own_tensors_alone(tmp_path):
    path = write_model(tmp_path / "m.gguf", SIZES, "granite", {"granite.attention.sliding_window": 512})
    planned = plan(path, context=4096)
    assert weights_of(planned) == bytes_of(path)
    assert planned.kv == kv_bytes(SIZES, 4096), "as if all layers attended to all tokens: an upper bound"


def test_the_configuration_of_a_folder_is_read_once_until_it_changes(tmp_path, monkeypatch):
    folder = shutil.copytree(MODELS / "haneul-300k", tmp_path / "m")
    read, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: read.append(text) or loads(text))
    assert choose_context(folder).tokens == 2048
    config = (folder / "config.json").read_text()
    assert len([text for text in read if text == config]) == 1
    (folder / "config.json").write_text(
        config.replace('"max_position_embeddings": 2048', '"max_position_embeddings": 512')
    )
    assert choose_context(folder).tokens == 512
