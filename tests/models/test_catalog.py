"""The catalogue of models: complete entries, correct sizes, licences, roles and rankings."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from course_lib import cli
from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import ModelSpec, catalog, load
from course_lib.models.files import on_this_machine
from course_lib.models.files.headers import read_safetensors_header
from course_lib.models.files.resolution import require
from course_lib.models.schema.pictures import ARCHITECTURES

ENTRIES = catalog.entries()
NAMES = [e.model for e in ENTRIES]
BY_NAME = {e.model: e for e in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_entry_is_complete(entry):
    TypeAdapter(catalog.Entry).validate_json(json.dumps(asdict(entry)), strict=True)
    TypeAdapter(catalog.Licence).validate_json(json.dumps(asdict(entry.terms)), strict=True)
    has_text = entry.task not in ("image-upscale", "face-embedding")
    assert entry.tier in catalog.TIERS and entry.parameters > 0
    assert bool(entry.context) == bool(entry.languages) == has_text
    assert entry.context >= 256 or entry.task in ARCHITECTURES  # those of pictures
    assert set(entry.purposes) <= set(catalog.PURPOSES)
    assert (entry.tier == "tiny") == (entry.download_bytes == 0) == (entry.download_command is None)
    assert (entry.hub is None) == (entry.tier in ("tiny", "real"))
    assert (entry.package is None) == (entry.tier != "real")
    assert entry.revision is None or (len(entry.revision) == 40 and int(entry.revision, 16))
    assert entry.sha256 is None or (len(entry.sha256) == 64 and int(entry.sha256, 16) and entry.revision)
    assert entry.driver != "ollama" or entry.ollama


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_entrys_specification_is_valid(entry):
    spec = ModelSpec.parse(entry.spec)
    assert (spec.driver, spec.task) == (entry.driver, entry.task)
    expected = {"huggingface": entry.hub, "server": entry.ollama, "local": spec.name}[spec.source.type]
    assert spec.name == expected
    if spec.source.type == "huggingface":
        assert spec.source.revision == entry.revision
        assert spec.source.sha256 == ({"model.safetensors": entry.sha256} if entry.sha256 else {})


def test_names_are_unique_and_every_licence_is_used():
    text = (Path(catalog.__file__).parent / "catalog.yaml").read_text("utf-8")
    models = {key.value: value for key, value in yaml.compose(text).value}["models"]
    keys = [name.value for _, tier in models.value for name, _ in tier.value]
    assert sorted(keys) == sorted(NAMES), "YAML silently keeps the last of two equal keys"
    assert set(yaml.safe_load(text)["licences"]) == {e.licence for e in ENTRIES}


@pytest.mark.parametrize("tier", catalog.TIERS)
def test_every_role_of_a_tier_has_a_model_with_the_right_task(tier, monkeypatch):
    monkeypatch.setenv("COURSE_TIER", tier)
    assert catalog.tier() == tier
    tasks = {"embed": "text-embedding", "embed-tokens": "text-embedding", "rerank": "rerank"}
    assert {r: catalog.role(r).task for r in catalog.roles()} == {
        r: tasks.get(r, "chat-completion") for r in catalog.roles()
    }
    assert [e.role for e in catalog.chat_models()] == ["chat-smallest", "chat-small", "chat"], (
        "sorted by size"
    )
    assert not any(catalog.role(r).gated for r in catalog.roles()), "a chapter must run without an account"
    assert all(catalog.role(r).terms.commercial == "yes" for r in catalog.roles())


def test_every_tier_has_the_same_roles(monkeypatch):
    roles = {}
    for tier in catalog.TIERS:
        monkeypatch.setenv("COURSE_TIER", tier)
        roles[tier] = set(catalog.roles())
    assert roles["laptop"] == roles["gpu"] == roles["tiny"]


def test_errors_for_unknown_tiers_roles_and_models_list_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match="chat-smallest, embed"):
        catalog.role("vision")
    with pytest.raises(CourseError, match=r"choose Qwen2\.5-0\.5B-Instruct or"):
        catalog.entry("qwen2.5-0.5b")
    with pytest.raises(CourseError, match="smollm2-135m-instruct or SmolLM2-360M-Instruct"):
        catalog.entry("smollm2")
    with pytest.raises(CourseError, match="haneul-4m"):
        catalog.entry("?")
    monkeypatch.setenv("COURSE_TIER", "huge")
    with pytest.raises(CourseError, match="tiny, real, laptop, gpu"):
        catalog.tier()


def test_a_shipped_model_loads_by_its_role():
    for role in ("chat-smallest", "embed", "embed-tokens", "rerank"):
        engine = load(catalog.role(role).spec)
        assert engine.parameters == catalog.role(role).parameters
        assert engine.context == catalog.role(role).context
        assert on_this_machine(catalog.role(role)) is True


def test_a_folder_that_somebody_put_into_models_is_not_shipped(monkeypatch, tmp_path):
    shutil.copytree(MODELS / "haneul-300k", tmp_path / "haneul-300k")
    shutil.copytree(MODELS / "haneul-300k", tmp_path / "Own", ignore=lambda *_: ["manifest.json"])
    monkeypatch.setattr("course_lib.data.MODELS", tmp_path)
    assert catalog.shipped() == ["haneul-300k"]
    assert load(tmp_path / "Own").parameters == 344384, "by its path it loads"


def test_models_for_pictures_are_shipped_apart_from_language_models():
    pictures = {e.model for e in ENTRIES if e.tier == "tiny" and e.task in ARCHITECTURES}
    assert set(catalog.shipped_picture_models()) == pictures and not pictures & set(catalog.shipped())
    for name in pictures:
        assert catalog.verify_shipped(name) == MODELS / name
    assert "haneul-300k" in catalog.shipped()


def test_file_sizes_follow_from_parameters_and_bits():
    files = {
        path.parent.name: sum(tensor.bytes for tensor in read_safetensors_header(path).values())
        for path in MODELS.glob("*/model.safetensors")
    }
    for name, size in files.items():
        assert BY_NAME[name].weight_bytes(16) == pytest.approx(size, rel=0.01)
    published = {  # bytes of model.safetensors or its shards, as stated by public repositories
        "SmolLM2-135M-Instruct": 269_060_552,
        "SmolLM2-360M-Instruct": 723_674_912,
        "Qwen2.5-0.5B-Instruct": 988_097_824,
        "Qwen2.5-1.5B-Instruct": 3_087_467_144,
        "Qwen2.5-7B-Instruct": 15_231_271_888,
        "Qwen2.5-14B-Instruct": 29_540_134_000,
        "Llama-3.2-1B-Instruct": 2_471_645_608,
        "gemma-3-1b-it": 1_999_811_208,
        "gemma-2-9b-it": 18_483_411_968,
        "Phi-4-mini-instruct": 7_672_066_216,
        "multilingual-e5-small": 470_641_600,
        "ms-marco-MiniLM-L6-v2": 90_870_598,
        "bge-reranker-v2-m3": 2_271_071_852,
    }
    for name, size in published.items():
        assert BY_NAME[name].download_bytes == pytest.approx(size, rel=2e-4), name


def test_exaone_parameters_follow_from_the_model_cards():
    """Version 3.5 has Llama's architecture (arXiv:2412.04862); version 4.0 has its own class."""
    import torch
    from transformers import AutoModelForCausalLM, Exaone4Config, LlamaConfig

    def config_fields(layers: int, hidden: int, intermediate: int, tied: bool) -> dict[str, object]:
        return {
            "vocab_size": 102400,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "intermediate_size": intermediate,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": tied,
        }

    configs = {
        "EXAONE-3.5-2.4B-Instruct": LlamaConfig(**config_fields(30, 2560, 7168, True)),
        "EXAONE-3.5-7.8B-Instruct": LlamaConfig(**config_fields(32, 4096, 14336, False)),
        "EXAONE-4.0-1.2B": Exaone4Config(**config_fields(30, 2048, 4096, True)),
    }
    for name, config in configs.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert sum(p.numel() for p in model.parameters()) == BY_NAME[name].parameters, name


def test_common_errors_are_not_repeated():
    assert not any(e.ollama and ("13b" in e.ollama or e.ollama.endswith("-q4_0")) for e in ENTRIES)
    exaone = [e for e in ENTRIES if "EXAONE" in e.model]
    assert len(exaone) == 3 and all(
        e.hub.startswith("LGAI-EXAONE/") and e.terms.commercial == "no" for e in exaone
    )
    assert BY_NAME["Llama-3.3-70B-Instruct"].weight_bytes(4.5) == pytest.approx(39.7e9, rel=1e-3)
    mistral = BY_NAME["Mistral-7B-Instruct-v0.3"]
    assert mistral.weight_bytes(4.5) < 4.1e9 and 1.2 * mistral.weight_bytes(32) == pytest.approx(
        34.8e9, rel=1e-2
    )


def test_gated_models_noncommercial_licences_and_ollama_models_are_marked():
    assert {e.model for e in ENTRIES if e.gated} == {
        e.model for e in ENTRIES if e.licence.startswith(("Llama", "Gemma"))
    }
    noncommercial = {e.model for e in ENTRIES if e.terms.commercial == "no"}
    assert noncommercial == {"Qwen2.5-3B-Instruct"} | {e.model for e in ENTRIES if "EXAONE" in e.model}
    assert {e.model for e in ENTRIES if e.driver == "ollama"} == {
        "EXAONE-3.5-2.4B-Instruct",
        "EXAONE-3.5-7.8B-Instruct",
        "bge-m3",
    }, "all others load from safetensors without custom code"


def fitting(*args, **options):
    """Return the names of the models that `rank_models` does not exclude."""
    return {f.entry.model for f in catalog.rank_models(*args, **options) if not f.exclusions}


def test_rank_models_finds_the_models_that_fit():
    assert "Llama-3.1-8B-Instruct" in fitting("chat", 8)
    assert "Llama-3.3-70B-Instruct" not in fitting("chat", 24)
    assert "Llama-3.3-70B-Instruct" in fitting("chat", 37)
    assert "Llama-3.1-8B-Instruct" in fitting("chat", 8, 8.5) and "Llama-3.1-8B-Instruct" not in fitting(
        "chat", 8, 16
    )
    assert catalog.largest_fitting("embed", 0.05) == BY_NAME["all-MiniLM-L6-v2"]
    assert catalog.largest_fitting("chat", 0) is None
    assert fitting("korean", 24) >= {"Qwen2.5-14B-Instruct", "EXAONE-3.5-7.8B-Instruct", "gemma-3-4b-it"}
    assert not fitting("korean", 1000) & {"Llama-3.2-3B-Instruct", "gemma-3-1b-it", "phi-4", "haneul-4m"}


@pytest.mark.parametrize(
    "args",
    [("poetry", 8), ("chat", -1), ("chat", 8, 0), ("chat", float("nan"))],
)
def test_rank_models_refuses_invalid_arguments(args):
    with pytest.raises(ValueError, match=r"one of chat, korean"):
        catalog.rank_models(*args)


@given(
    st.sampled_from(catalog.PURPOSES),
    st.floats(0, 200),
    st.floats(0, 50),
    st.sampled_from([4.5, 8.5, 16.0]),
    st.booleans(),
)
def test_rank_models_lists_all_models_in_order_and_excludes_correctly(
    purpose, memory, extra, bits, commercial
):
    fits = catalog.rank_models(purpose, memory, bits, commercial=commercial)
    assert {f.entry.model for f in fits} == {e.model for e in ENTRIES if purpose in e.purposes}, (
        "no model is missing"
    )
    usable = [f for f in fits if not f.exclusions]
    assert fits[: len(usable)] == usable and usable == sorted(usable, key=lambda f: -f.entry.parameters)
    assert all(f.weights_gib <= memory for f in usable)
    assert not (commercial and any(f.entry.terms.commercial == "no" for f in usable))
    assert all(
        any(f.entry.licence in text for text in f.drawbacks)
        for f in usable
        if f.entry.terms.commercial != "yes"
    )
    assert {f.entry.model for f in usable} <= fitting(purpose, memory + extra, bits, commercial=commercial)


def test_the_error_for_a_model_that_is_not_shipped_names_the_download_command():
    with pytest.raises(
        CourseError,
        match=r"988 MB to download\n.*course models pull Qwen/Qwen2\.5-0\.5B-Instruct --revision 7ae55",
    ):
        catalog.verify_shipped("Qwen2.5-0.5B-Instruct")
    with pytest.raises(CourseError, match=r"ollama pull bge-m3:567m"):
        catalog.verify_shipped("bge-m3")
    with pytest.raises(CourseError, match=r"not shipped .* 93 MB to download\n.*pull smollm2-135m-instruct$"):
        catalog.verify_shipped("smollm2-135m-instruct")  # also where it has been pulled


def test_a_model_without_its_folder_is_not_on_this_machine():
    entry = replace(catalog.entry("haneul-1m"), model="haneul-gone")
    assert on_this_machine(entry) is False
    with pytest.raises(CourseError, match="not on this machine: haneul-gone"):
        require([entry])


def test_on_this_machine_checks_the_hub_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    entry = BY_NAME["SmolLM2-135M-Instruct"]
    folder = tmp_path / "models--HuggingFaceTB--SmolLM2-135M-Instruct" / "snapshots" / entry.revision
    folder.mkdir(parents=True)
    assert on_this_machine(entry) is False
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    without_sha256 = replace(entry, sha256=None)
    assert on_this_machine(without_sha256) is False, "no weights yet"
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert on_this_machine(without_sha256) is True
    assert on_this_machine(entry) is False, "not the published weights"
    assert on_this_machine(BY_NAME["bge-m3"]) is None


def test_importing_the_catalogue_imports_no_heavy_packages():
    heavy = "{'yaml', 'huggingface_hub', 'torch', 'pydantic'}"
    code = f"import sys; from course_lib.models import catalog; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("smolm2", "smollm2-135m-instruct"),
        ("gema-3", "gemma-3-270m"),
        ("gemma-3-1b", "gemma-3-1b-it"),
        ("e5", "multilingual-e5-small-q4"),
        ("haneul", "haneul-4m"),
    ],
)
def test_a_model_that_can_be_had_here_is_proposed_first(name, first):
    assert catalog.similar_names(name)[0] == first


def test_show_names_the_other_forms_of_a_model(capsys):
    for name in ("smollm2-135m-instruct", "smollm2-135m-instruct-bf16", "smollm2:135m"):
        assert cli.main(["models", "show", name]) == 0
        shown, _, others = capsys.readouterr().out.partition("see also")
        forms = {"smollm2-135m-instruct", "smollm2-135m-instruct-bf16", "SmolLM2-135M-Instruct"}
        assert {part.split(" (")[0].strip() for part in others.split(";")} == forms - {shown.split("\n")[0]}


@pytest.mark.parametrize("action", ["export", "unpack"])
def test_a_misspelled_name_in_a_command_gets_a_command_as_its_fix(action, capsys):
    assert cli.main(["models", action, "smolm2"]) == 1
    error = capsys.readouterr().err
    assert "load(" not in error
    assert f"models {action} smollm2-135m-instruct" in error


def test_whether_a_model_is_shipped_is_told_by_its_own_folder():
    names = [path.name for path in MODELS.iterdir()]
    assert [name for name in names if catalog.is_shipped(name)] == [
        n for n in names if n in catalog.shipped()
    ]
    for other in ("", ".", "..", "haneul-4m/", "../models/haneul-4m", "llama-none", "x" * 999, "a\0"):
        assert not catalog.is_shipped(other) and catalog.shipped_folder(other) is None
