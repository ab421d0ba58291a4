"""The catalogue: complete, true where it can be checked here, and as strict as each licence."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import ModelSpec, catalog, load
from course_lib.models.files import on_this_machine

ENTRIES = catalog.entries()
NAMES = [e.model for e in ENTRIES]
BY_NAME = {e.model: e for e in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_entry_is_complete(entry):
    TypeAdapter(catalog.Entry).validate_json(json.dumps(asdict(entry)), strict=True)
    TypeAdapter(catalog.Licence).validate_json(json.dumps(asdict(entry.terms)), strict=True)
    assert entry.tier in catalog.TIERS and entry.parameters > 0 and entry.context >= 256 and entry.languages
    assert set(entry.purposes) <= set(catalog.PURPOSES)
    assert (entry.hub is None) == (entry.tier == "tiny") == (entry.download_bytes == 0)
    assert entry.revision is None or (len(entry.revision) == 40 and int(entry.revision, 16))
    assert entry.sha256 is None or (len(entry.sha256) == 64 and int(entry.sha256, 16) and entry.revision)
    assert entry.driver != "ollama" or entry.ollama


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_load_takes_the_specification_of_every_entry(entry):
    spec = ModelSpec.parse(entry.spec)
    assert (spec.driver, spec.task) == (entry.driver, entry.task)
    expected = {"huggingface": entry.hub, "server": entry.ollama, "local": spec.name}[spec.source.type]
    assert spec.name == expected
    if spec.source.type == "huggingface":
        assert spec.source.revision == entry.revision
        assert spec.source.sha256 == ({"model.safetensors": entry.sha256} if entry.sha256 else {})


def test_no_name_is_given_twice_and_no_licence_is_without_a_model():
    text = (Path(catalog.__file__).parent / "catalog.yaml").read_text("utf-8")
    models = {key.value: value for key, value in yaml.compose(text).value}["models"]
    keys = [name.value for _, tier in models.value for name, _ in tier.value]
    assert sorted(keys) == sorted(NAMES), "YAML keeps the last of two equal keys, and says nothing"
    assert set(yaml.safe_load(text)["licences"]) == {e.licence for e in ENTRIES}


@pytest.mark.parametrize("tier", catalog.TIERS)
def test_every_role_of_a_tier_is_played_by_a_model_of_its_kind(tier, monkeypatch):
    monkeypatch.setenv("COURSE_TIER", tier)
    assert catalog.tier() == tier
    kind = {"embed": "text-embedding", "embed-tokens": "text-embedding", "rerank": "rerank"}
    assert {r: catalog.role(r).task for r in catalog.roles()} == {
        r: kind.get(r, "chat-completion") for r in catalog.roles()
    }
    assert [e.role for e in catalog.chat_models()] == ["chat-smallest", "chat-small", "chat"], (
        "each larger than the one before"
    )
    assert not any(catalog.role(r).gated for r in catalog.roles()), "a chapter must run without an account"
    assert all(catalog.role(r).terms.commercial == "yes" for r in catalog.roles())


def test_every_tier_has_the_same_roles(monkeypatch):
    roles = {}
    for tier in catalog.TIERS:
        monkeypatch.setenv("COURSE_TIER", tier)
        roles[tier] = set(catalog.roles())
    assert roles["laptop"] == roles["gpu"] == roles["tiny"]


def test_an_unknown_tier_role_and_model_name_those_that_are_there(monkeypatch):
    with pytest.raises(ValueError, match="chat-smallest, embed"):
        catalog.role("vision")
    with pytest.raises(CourseError, match=r"choose Qwen2\.5-0\.5B-Instruct or"):
        catalog.entry("qwen2.5-0.5b")
    with pytest.raises(CourseError, match="haneul-4m"):
        catalog.entry("?")
    monkeypatch.setenv("COURSE_TIER", "huge")
    with pytest.raises(CourseError, match="tiny, laptop, gpu"):
        catalog.tier()


def test_a_shipped_model_loads_by_its_role():
    for role in ("chat-smallest", "embed", "embed-tokens", "rerank"):
        engine = load(catalog.role(role).spec)
        assert engine.parameters == catalog.role(role).parameters
        assert engine.context == catalog.role(role).context
        assert on_this_machine(catalog.role(role)) is True


def test_the_size_of_a_file_follows_from_parameters_and_bits():
    files = {p.parent.name: p.stat().st_size for p in MODELS.glob("*/model.safetensors")}
    for name, size in files.items():
        assert BY_NAME[name].weight_bytes(16) == pytest.approx(size, rel=0.01)
    published = {  # bytes of model.safetensors, or of its parts, as public repositories give them
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


def test_the_parameters_of_exaone_follow_from_its_cards():
    """Version 3.5 has the shape of Llama (arXiv:2412.04862), 4.0 a class of its own."""
    import torch
    from transformers import AutoModelForCausalLM, Exaone4Config, LlamaConfig

    def card(layers: int, hidden: int, intermediate: int, tied: bool) -> dict[str, object]:
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
        "EXAONE-3.5-2.4B-Instruct": LlamaConfig(**card(30, 2560, 7168, True)),
        "EXAONE-3.5-7.8B-Instruct": LlamaConfig(**card(32, 4096, 14336, False)),
        "EXAONE-4.0-1.2B": Exaone4Config(**card(30, 2048, 4096, True)),
    }
    for name, config in configs.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert sum(p.numel() for p in model.parameters()) == BY_NAME[name].parameters, name


def test_common_falsehoods_are_not_repeated():
    assert not any(e.ollama and ("13b" in e.ollama or e.ollama.endswith("-q4_0")) for e in ENTRIES)
    exaone = [e for e in ENTRIES if "EXAONE" in e.model]
    assert len(exaone) == 3 and all(
        e.hub.startswith("LGAI-EXAONE/") and e.terms.commercial == "no" for e in exaone
    )
    assert BY_NAME["Llama-3.3-70B-Instruct"].weight_bytes(4.5) == pytest.approx(39.7e9, rel=1e-3)
    seven = BY_NAME["Mistral-7B-Instruct-v0.3"]
    assert seven.weight_bytes(4.5) < 4.1e9 and 1.2 * seven.weight_bytes(32) == pytest.approx(34.8e9, rel=1e-2)


def test_what_needs_an_agreement_is_gated_and_what_forbids_trade_says_so():
    assert {e.model for e in ENTRIES if e.gated} == {
        e.model for e in ENTRIES if e.licence.startswith(("Llama", "Gemma"))
    }
    forbidding = {e.model for e in ENTRIES if e.terms.commercial == "no"}
    assert forbidding == {"Qwen2.5-3B-Instruct"} | {e.model for e in ENTRIES if "EXAONE" in e.model}
    assert {e.model for e in ENTRIES if e.driver == "ollama"} == {
        "EXAONE-3.5-2.4B-Instruct",
        "EXAONE-3.5-7.8B-Instruct",
        "bge-m3",
    }, "the others are read from safetensors without code of their own"


def fitting(*said, **how):
    return {f.entry.model for f in catalog.rank_models(*said, **how) if not f.exclusions}


def test_the_guide_knows_what_fits():
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
    ("said", "how"),
    [(("poetry", 8), {}), (("chat", -1), {}), (("chat", 8, 0), {}), (("chat", float("nan")), {})],
)
def test_the_guide_refuses_what_makes_no_sense(said, how):
    with pytest.raises(ValueError, match=r"one of chat, korean"):
        catalog.rank_models(*said, **how)


@given(
    st.sampled_from(catalog.PURPOSES),
    st.floats(0, 200),
    st.floats(0, 50),
    st.sampled_from([4.5, 8.5, 16.0]),
    st.booleans(),
)
def test_the_guide_is_sound(purpose, memory, more, bits, commercial):
    fits = catalog.rank_models(purpose, memory, bits, commercial=commercial)
    assert {f.entry.model for f in fits} == {e.model for e in ENTRIES if purpose in e.purposes}, (
        "nothing is left out"
    )
    chosen = [f for f in fits if not f.exclusions]
    assert fits[: len(chosen)] == chosen and chosen == sorted(chosen, key=lambda f: -f.entry.parameters)
    assert all(f.weights_gib <= memory for f in chosen)
    assert not (commercial and any(f.entry.terms.commercial == "no" for f in chosen))
    assert all(
        any(f.entry.licence in text for text in f.drawbacks)
        for f in chosen
        if f.entry.terms.commercial != "yes"
    )
    assert {f.entry.model for f in chosen} <= fitting(purpose, memory + more, bits, commercial=commercial)


def test_a_model_that_is_not_shipped_is_not_looked_for_in_models():
    with pytest.raises(
        CourseError,
        match=r"988 MB to download\n.*course models pull Qwen/Qwen2\.5-0\.5B-Instruct --revision 7ae55",
    ):
        catalog.verify_shipped("Qwen2.5-0.5B-Instruct")
    with pytest.raises(CourseError, match=r"ollama pull bge-m3:567m"):
        catalog.verify_shipped("bge-m3")


def test_the_hub_cache_is_looked_into(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    entry = BY_NAME["SmolLM2-135M-Instruct"]
    folder = tmp_path / "models--HuggingFaceTB--SmolLM2-135M-Instruct" / "snapshots" / entry.revision
    folder.mkdir(parents=True)
    assert on_this_machine(entry) is False
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    unpinned = replace(entry, sha256=None)
    assert on_this_machine(unpinned) is False, "no weights yet"
    (folder / "model.safetensors").write_bytes(b"not these")
    assert on_this_machine(unpinned) is True
    assert on_this_machine(entry) is False, "not the published weights"
    assert on_this_machine(BY_NAME["bge-m3"]) is None


def test_importing_the_catalogue_loads_neither_yaml_nor_the_hub():
    heavy = "{'yaml', 'huggingface_hub', 'torch', 'pydantic'}"
    code = f"import sys; from course_lib.models import catalog; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
