"""The command-line interface `course`: its commands and options, and the printing of errors with fixes."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.gguf.writer import TYPES
from course_lib.shell import pasteable


def _lab(args: argparse.Namespace) -> int:
    from course_lib.lab import open_lab

    return open_lab(args.port, browser=not args.no_browser)


def _run(args: argparse.Namespace) -> int:
    from course_lib.chapters import run_chapter, save_chapter

    return save_chapter(args.chapter) if args.save else run_chapter(args.chapter)


def _test(args: argparse.Namespace) -> int:
    from course_lib.testing import run_all, run_chapter, run_tier

    if args.tier and args.only:
        raise CourseError(f"--tier runs chapters only, not {args.only}", f"course test --tier {args.tier}")
    if args.tier:
        return run_tier(args.tier, args.chapter)
    return run_chapter(args.chapter) if args.chapter else run_all(args.only)


def _check(args: argparse.Namespace) -> int:
    from course_lib.testing import run_changed

    return run_changed()


def _doctor(args: argparse.Namespace) -> int:
    from course_lib.doctor import report

    return report(args.json)


def _start(args: argparse.Namespace) -> int:
    from course_lib.learn.workspace import start

    start()
    return 0


def _progress(args: argparse.Namespace) -> int:
    from course_lib.learn.progress import report

    return report()


def _budget(args: argparse.Namespace) -> int:
    from course_lib.learn.budget import report

    return report(args.chapter)


def _handout(args: argparse.Namespace) -> int:
    from course_lib.learn.handout import handout

    handout(args.out, solutions=not args.no_solutions)
    return 0


def _export(args: argparse.Namespace) -> int:
    from course_lib.models import catalog
    from course_lib.models.drivers.adapters import (
        CONFIG_FILE,
        adapter_path,
        base_model_name,
        resolve_adapters,
    )
    from course_lib.models.files import resolve
    from course_lib.models.gguf import export, export_adapter
    from course_lib.models.schema import Adapter, ModelSpec

    is_folder, adapter = Path(args.name).is_dir() and catalog.shipped_folder(args.name) is None, None
    if catalog.is_adapter(args.name) or (Path(args.name) / CONFIG_FILE).is_file():
        adapter = Adapter(source=Path(args.name) if is_folder else args.name)
        spec = ModelSpec.parse(args.base or base_model_name(adapter_path(adapter)))
    else:
        spec = ModelSpec.parse(Path(args.name) if is_folder else args.name)
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


def _models(args: argparse.Namespace) -> int:
    from course_lib.models import catalog
    from course_lib.models.files import on_this_machine

    print(f"tier {catalog.tier()}")
    for entry in (catalog.role(r) for r in catalog.roles()):
        if entry.tier == "tiny":
            catalog.verify_shipped(entry.model)
            place = "files verified"
        else:
            here = on_this_machine(entry)
            place = (
                "downloaded"
                if here
                else f"{entry.download_bytes / 1e6:,.0f} MB to download: {entry.download_command}"
            )
        print(
            f"  {entry.role:14} {entry.model:30} {entry.parameters:>14,} parameters  {entry.licence}  {place}"
        )
    return 0


def _pull(args: argparse.Namespace) -> int:
    from course_lib.models import catalog
    from course_lib.models.files.hub import snapshot_commit
    from course_lib.models.files.resolution import from_hub
    from course_lib.models.schema import HuggingFaceSource, ModelSpec

    known = {e.model: e for e in catalog.entries()}.get(args.name)
    if known and known.driver == "ollama":
        raise CourseError(f"{args.name} must be downloaded by Ollama", str(known.download_command))
    if known and known.hub is None:
        print(f"{args.name} comes with the course, in {catalog.verify_shipped(args.name)}; files verified")
        return 0
    options = {"revision": args.revision, "filename": args.file, "cache_dir": args.cache_dir}
    pinned = known.spec["source"] if known and not args.revision else {}
    repository = {"type": "huggingface", "repository": known.hub if known else args.name}
    given = {name: value for name, value in options.items() if value}
    source = ModelSpec.parse({"source": repository | pinned | given}).source
    assert isinstance(source, HuggingFaceSource)
    path = from_hub(source, pull=True)
    print(f"{source.repository}: downloaded and verified, at commit {snapshot_commit(path)}, in {path}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from course_lib.serve.server import serve

    return serve(args.port, args.store)


def _data(args: argparse.Namespace) -> int:
    from course_lib import data

    passages, questions, messages = data.load_passages(), data.load_questions(), data.load_messages()
    counts = f"{len(passages)} passages, {len(questions)} questions, {len(messages)} messages"
    print(f"Haneul Bank: {counts}; files verified")
    return 0


def _port(text: str) -> int:
    """Parse a port number that needs no administrator rights."""
    if not text.isdigit() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1024 to 65535")
    return int(text)


def _add_models(commands: Any) -> None:
    models = commands.add_parser(
        "models", help="list this tier's models and verify their files, pull one, or export one"
    )
    models.set_defaults(do=_models)
    actions = models.add_subparsers(title="actions", metavar="ACTION")
    actions.add_parser("list", help="list and verify (the default action)").set_defaults(do=_models)
    pull = actions.add_parser("pull", help="download a model from the Hugging Face Hub, or resume a download")
    pull.add_argument("name", help="its id, OWNER/NAME, or its name in the course's catalogue")
    pull.add_argument("--revision", help="branch, tag or commit (default main)")
    pull.add_argument("--file", help="download only this .gguf file")
    pull.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="folder to use instead of the default cache"
    )
    pull.set_defaults(do=_pull, offline="0")
    export = actions.add_parser(
        "export", help="write a model as GGUF, the one file that llama.cpp and Ollama read"
    )
    export.add_argument(
        "name", help="name of a model or LoRA adapter, such as haneul-4m, or the path of its folder"
    )
    export.add_argument("--to", choices=("gguf",), default="gguf", help="the format (default gguf)")
    export.add_argument("--type", choices=TYPES, help="type of a model's weights (default f16)")
    export.add_argument(
        "--base", metavar="MODEL", help="base model of an adapter, if its configuration does not name it"
    )
    export.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default NAME-TYPE.gguf in this folder)"
    )
    export.add_argument("--force", action="store_true", help="replace the file if it exists")
    export.set_defaults(do=_export)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="course", description="Local AI, Measured: a course on running AI models locally."
    )
    parser.set_defaults(offline="1")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_models(commands)

    lab = commands.add_parser("lab", help="open JupyterLab on chapter 00")
    lab.add_argument("--port", type=_port, default=8888, help="port on this machine (default 8888)")
    lab.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    lab.set_defaults(do=_lab)

    run = commands.add_parser("run", help="run a chapter in the terminal and write the result as HTML")
    run.add_argument("chapter", help="its number, such as 01")
    run.add_argument("--save", action="store_true", help="for authors: save the outputs in chapters/ itself")
    run.set_defaults(do=_run)

    test = commands.add_parser(
        "test", help="check everything: lint, types, tests, every cell of every notebook"
    )
    test.add_argument(
        "--tier",
        choices=("real",),
        help="only run the chapters, with the models of this tier (see COURSE_TIER)",
    )
    part = test.add_mutually_exclusive_group()
    part.add_argument("--only", choices=("lint", "types", "tests", "notebooks"), help="run one step only")
    part.add_argument("--chapter", metavar="NN", help="test one chapter: its run, text and exercises")
    test.set_defaults(do=_test)

    doctor = commands.add_parser("doctor", help="check that this machine has what the course needs")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(do=_doctor)

    budget = commands.add_parser("budget", help="run chapters; print declared and measured time and memory")
    budget.add_argument("chapter", nargs="?", help="its number (default: all chapters)")
    budget.set_defaults(do=_budget)

    handout = commands.add_parser("handout", help="write a zip of the course for a class")
    handout.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the zip")
    handout.add_argument("--no-solutions", action="store_true", help="leave the solutions out")
    handout.set_defaults(do=_handout)

    serve = commands.add_parser(
        "serve", help="serve this machine's models with the APIs of Ollama and OpenAI"
    )
    serve.add_argument(
        "--port", type=_port, default=11434, help="port on this machine (default 11434, which is Ollama's)"
    )
    serve.add_argument(
        "--store", type=Path, metavar="DIR", help="folder for the models (default: a temporary folder)"
    )
    serve.set_defaults(do=_serve)

    for name, do, text in (
        ("start", _start, "make or update your copies of the chapters in workspace/; what you wrote stays"),
        ("check", _check, "quick check: lint, types, and the tests affected since the last commit"),
        ("progress", _progress, "show chapters done, exercises passed and predictions"),
        ("data", _data, "verify the data of Haneul Bank, the course's fictional bank, and count them"),
    ):
        commands.add_parser(name, help=text).set_defaults(do=do)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status. A CourseError is printed as two lines; the status is 1."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show Hangul must not stop a command
    args = _parser().parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", args.offline)  # nothing is downloaded unless somebody asks for it
    try:
        return int(args.do(args))
    except CourseError as error:
        print(f"course: {error.what}\n  Fix: {pasteable(error.fix)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("course: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
