"""Find a model's files on this machine, download them from the hub if needed, and check them.

A tier is the set of models chosen by COURSE_TIER; a role is what a model is used for in the chapters. The
catalogue is the list of models that the course knows (catalog.yaml).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.files.headers import (
    PIPELINE_FILE,
    check_gguf,
    gguf_models,
    missing_weights_error,
    only_gguf,
    read_json,
    read_safetensors_header,
    weight_files,
    weight_paths,
)
from course_lib.models.schema.sources import HuggingFaceSource, LocalSource, ServerSource
from course_lib.names import existing_path


def resolve(source: HuggingFaceSource | LocalSource | ServerSource) -> Path:
    """Return the model's folder (config.json and safetensors) or .gguf file, complete and checked.

    Raises CourseError if files are missing or damaged, or the format is not supported.
    """
    if isinstance(source, LocalSource):
        try:
            return _resolve_local(source)
        except (OSError, RuntimeError) as error:  # no permission, a name too long, ~ of an unknown user
            raise CourseError(f"{source.path} cannot be read: {error}", 'load("./FOLDER")') from error
    if isinstance(source, HuggingFaceSource):
        path = from_hub(source)
        return check_gguf(path) if path.is_file() else check_folder(path, source.repository)
    fix = f'load("{source.model}", driver="ollama")'
    raise CourseError(f"{source.model} is on a server and has no local files", fix)


def from_hub(source: HuggingFaceSource, *, pull: bool = False) -> Path:
    """Download a model with `hub.download`, and return its folder or .gguf file in the hub's cache.

    pull: Whether this is an explicit request to download, as for `hub.download`.
    Raises what `check_hub_id` and `hub.download` raise. If there is a local file or folder of this name, the
    error says to write `./name`.
    """
    from course_lib.models.files.hub import download

    name = source.repository
    try:
        check_hub_id(name, pull=pull)
        return download(source, pull=pull)
    except CourseError as error:
        if Path(name).exists():
            what = f"{error.what}; but there is a file or folder of this name here"
            raise CourseError(what, f'load("./{name}")') from error
        raise


def check_hub_id(name: str, *, pull: bool = False) -> None:
    """Raise CourseError for a name without an owner. The fix proposes a similar model of the catalogue.

    pull: Whether the fix is the command that downloads that model, instead of the call that loads it.
    """
    if "/" in name:
        return
    similar = catalog.similar_names(name)
    if name in catalog.roles():
        similar = [catalog.role(name).model]
        what = f"{name} is a role, not a model; in tier {catalog.tier()} it is {similar[0]}"
    else:
        exact = catalog.find(name)
        hub = f"; on the hub it is {exact.hub}" if exact and exact.hub else ""
        shipped = ", ".join(catalog.shipped())
        what = f"a hub id is OWNER/NAME, and the course ships {shipped}, but no {name}{hub}"
        what += f"; similar names are {', '.join(similar)}" if similar else ""
    if not similar:
        raise CourseError(what, "course models list")
    raise CourseError(what, f"course models pull {similar[0]}" if pull else f'load("{similar[0]}")')


def check_entry(entry: catalog.Entry) -> None:
    """Check the files of an included model or of a local path; other entries are not checked.

    Raises CourseError if files are missing, damaged, or altered.
    """
    if entry.path:
        resolve(LocalSource(path=Path(entry.path)))
    elif entry.tier == "tiny":
        catalog.verify_shipped(entry.model)


def on_this_machine(entry: catalog.Entry) -> bool | None:
    """Whether a model's files are on this machine: in the course, pulled, in the hub's cache, or at its path.

    None (unknown) for a model that runs in Ollama; `ollama list` shows those.
    """
    if entry.path:
        return Path(entry.path).exists()
    if entry.package:
        return entry.pulled_path.exists()
    if entry.driver == "ollama":
        return None
    if entry.adapter_of and not (data.MODELS / entry.model / "adapter_model.safetensors").is_file():
        return False
    if entry.hub is None:
        folder = catalog.shipped_folder(entry.adapter_of or entry.model)
        return folder is not None and folder.is_dir()
    from course_lib.models.files.hub import download

    try:
        return download(HuggingFaceSource(**entry.spec["source"], local_files_only=True)).exists()
    except CourseError:
        return False


def has_size(entry: catalog.Entry) -> bool:
    """Whether a pulled model is complete: its file has the right size, or its folder passes `check_folder`.

    Faster than verifying the SHA-256.
    """
    path, package = entry.pulled_path, entry.package
    assert package, f"{entry.model} is not in a package"
    if not package.unpacker:  # a model with several files (`others`) is a folder
        largest = path / package.file if package.others else path
        return largest.is_file() and largest.stat().st_size == package.bytes
    try:
        return check_folder(path).is_dir()
    except CourseError:
        return False


def require(entries: Iterable[catalog.Entry]) -> None:
    """Raise CourseError if models are not on this machine, with one command that downloads all of them."""
    missing = {e.model: e for e in entries if on_this_machine(e) is False}
    if missing:
        sizes = ", ".join(f"{e.model} ({e.download_bytes / 1e6:,.0f} MB)" for e in missing.values())
        commands = [e.download_command or data.restore("models") for e in missing.values()]
        raise CourseError(
            f"tier {catalog.tier()}: not on this machine: {sizes}", " && ".join(dict.fromkeys(commands))
        )


def _resolve_local(source: LocalSource) -> Path:
    """Return the checked folder or .gguf file at the source's path. Raises CourseError as `resolve`."""
    path = existing_path(source.path)
    if shipped := catalog.verified_folder(path):
        _check_format(source, "safetensors")
        return shipped
    if pulled := catalog.pulled_entry(path):
        catalog.verify_pulled(pulled)
    if path.is_file():
        _check_format(source, path.suffix.removeprefix("."))
        return check_gguf(path)
    if not path.is_dir():
        raise missing_path_error(path)
    names = [p.name for p in path.iterdir()]
    formats = [
        kind for kind, files in (("safetensors", weight_files(names)), ("gguf", gguf_models(names))) if files
    ]
    actual = source.format if source.format in formats else next(iter(formats), "")
    _check_format(source, actual)
    if actual == "gguf":
        fix = f'load("{path.absolute() / gguf_models(names)[0]}")'
        return check_gguf(path / only_gguf(names, str(path), fix)[0])
    return check_folder(path)


def missing_path_error(path: Path) -> CourseError:
    """The error for a path without a file or folder. Its fix is a similar path, if there is one."""
    near = get_close_matches(path.name, os.listdir(path.parent), n=1) if path.parent.is_dir() else []
    fix = f'load("{path.parent / near[0]}")' if near else "give the path of a model's file or folder"
    if path.parent == data.MODELS:
        fix = data.restore(f"models/{path.name}")
    return CourseError(f"{path} does not exist", fix)


def _check_format(source: LocalSource, actual: str) -> None:
    """Raise CourseError if the source states a format other than the actual one."""
    if source.format not in ("auto", actual) and actual in ("gguf", "safetensors"):
        fix = f'load({{"source": {{"type": "local", "path": "{source.path}", "format": "{actual}"}}}})'
        raise CourseError(f"format: {source.format!r}, but {source.path} is {actual}", fix)


def check_folder(folder: Path, name: str = "") -> Path:
    """Return `folder` if it has config.json and complete safetensors files. Raises CourseError if not.

    name: The user's name for the model, for messages; by default the folder's name.
    """
    shown = name or folder.name
    names = sorted(p.name for p in folder.iterdir())
    if "adapter_config.json" in names and "config.json" not in names:
        base = read_json(folder, "base.json").get("model", "BASE")  # the course writes it with its adapters
        what = f"{shown} is a LoRA adapter, not a complete model"
        raise CourseError(what, f'load("{base}", adapters=["{name or folder}"])')
    if PIPELINE_FILE in names:
        enlarges = "SuperResolution" in str(read_json(folder, PIPELINE_FILE).get("_class_name"))
        what = f"{shown} is a pipeline of diffusers, which draws pictures"
        raise CourseError(what, f'load(..., task="image-{"upscale" if enlarges else "generation"}")')
    paths = weight_paths(folder)
    if not paths:
        raise missing_weights_error(names, shown)
    if "config.json" not in names:
        raise CourseError(f"{name or folder} has no config.json", "name a Hugging Face model folder")
    for path in paths:
        read_safetensors_header(path)
    return folder
