"""The command-line interface `course`: its commands and options, and the printing of errors with fixes.

A tier is a set of models, one for each purpose in the chapters; a GGUF file holds a model for llama.cpp.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from course_lib import class_commands, model_commands
from course_lib.errors import CourseError
from course_lib.exam import commands as exam_commands
from course_lib.models import catalog
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


def _serve(args: argparse.Namespace) -> int:
    if args.engine != "course":
        from course_lib.serve.managed import serve_with

        return serve_with(args.engine, args.model, args.port or 0, args.store)
    from course_lib.serve.server import serve

    serve(args.port, args.store, args.model)


def _data(args: argparse.Namespace) -> int:
    from course_lib import data

    passages, questions, messages = data.load_passages(), data.load_questions(), data.load_messages()
    counts = f"{len(passages)} passages, {len(questions)} questions, {len(messages)} messages"
    print(f"Haneul Bank: {counts}; files verified")
    return 0


def _port(text: str) -> int:
    """Parse a port from 1024 to 65535 (lower ones need administrator rights)."""
    if not text.isdigit() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1024 to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="course", description="Local AI, Measured: a course on running AI models locally."
    )
    parser.set_defaults(offline=True)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    model_commands.add(commands)
    class_commands.add(commands)
    exam_commands.add(commands)

    lab = commands.add_parser("lab", help="open JupyterLab on chapter 00")
    lab.add_argument("--port", type=_port, default=8888, help="port on this machine (default 8888)")
    lab.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    lab.set_defaults(do=_lab)

    run = commands.add_parser(
        "run", help="run a chapter in the terminal and write it with its outputs as HTML"
    )
    run.add_argument("chapter", help="its number, such as 01")
    run.add_argument(
        "--save", action="store_true", help="for authors: overwrite the notebook in chapters/ instead"
    )
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
    part.add_argument("--chapter", metavar="NN", help="run one chapter, and check its text and exercises")
    test.set_defaults(do=_test)

    doctor = commands.add_parser("doctor", help="check that this machine has what the course needs")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(do=_doctor)

    budget = commands.add_parser("budget", help="run chapters; print declared and measured time and memory")
    budget.add_argument("chapter", nargs="?", help="its number (default: all chapters)")
    budget.set_defaults(do=_budget)

    serve = commands.add_parser(
        "serve", help="serve this machine's models with the APIs of Ollama and OpenAI"
    )
    serve.add_argument(
        "--port",
        type=_port,
        help="port on this machine (default: from $OLLAMA_HOST, else 11434; with --engine a free one)",
    )
    serve.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="folder for the models (default: $OLLAMA_MODELS, otherwise a temporary folder)",
    )
    serve.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="FILE.gguf|MODEL[=NAME]",
        help="also serve this GGUF file or catalogue model; repeatable",
    )
    serve.add_argument(
        "--engine",
        default="course",
        help="the server: course (default), llama-server, vllm, tgi, transformers or ollama",
    )
    serve.set_defaults(do=_serve)

    for name, do, text in (
        ("start", _start, "make or update your copies of the chapters in workspace/; your changes are kept"),
        ("check", _check, "quick check: lint, types, and the tests affected since the last commit"),
        ("progress", _progress, "show chapters done, exercises passed and predictions"),
        (
            "data",
            _data,
            "check the data files of Haneul Bank, the course's fictional bank, and count their items",
        ),
    ):
        commands.add_parser(name, help=text).set_defaults(do=do)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an error, or 130 for Ctrl+C.

    A CourseError is printed as two lines. Raises SystemExit with status 2 for wrong arguments.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # for terminals without Korean letters
    args = _parser().parse_args(argv)
    # Unless a command downloads or the user has set it, the Hugging Face Hub is not contacted for models.
    if args.offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        if args.do is not _doctor:  # `course doctor` reports a misspelled variable as one of its findings
            catalog.check_environment()
        status = int(args.do(args))
        sys.stdout.flush()
        return status
    except CourseError as error:
        print(f"course: {error.what}\n  Fix: {pasteable(error.fix)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # by `course ... | head`; docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("course: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
