"""The command `course exam` with its actions: run, report, questions, rules and plan."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_write_text
from course_lib.errors import CourseError
from course_lib.exam import plan_command
from course_lib.names import existing_path

# Files in the folder of a run.
QUESTIONS, CHECKPOINT, ANSWERS, REPORT = "questions.jsonl", "run.jsonl", "answers.csv", "report.txt"


def _run(args: argparse.Namespace) -> int:
    from course_lib.exam.offline import offline
    from course_lib.exam.questions import write_answers
    from course_lib.exam.report import report
    from course_lib.exam.run import run_exam

    rules = _rules(args.rules)
    questions = _questions(args.questions)
    minutes = _minutes(args.minutes, rules.minutes)
    if rules.questions not in (None, len(questions)):
        what = f"{args.questions} has {len(questions)} questions; the rules say {rules.questions}"
        raise CourseError(
            what, "course exam rules > my-rules.yaml   (change questions there; --rules my-rules.yaml)"
        )
    names = args.system or ["best", "guess"]
    for name in names:
        _check_allowed(name, rules)
    folder = existing_path(args.out)
    with _wrap_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with nullcontext() if rules.network else offline() as attempts:
        systems = [_system(name) for name in names]  # models are loaded before the clock starts
        _keep_questions(folder, questions)
        given = run_exam(questions, systems, folder / CHECKPOINT, minutes=minutes)
    write_answers(folder / ANSWERS, questions, {each.id: each.answer for each in given})
    text = report(questions, given)
    connections = attempts.list() if attempts is not None else []
    lines = [f"connection outside this machine, {a.event} {a.target}: {a.program}" for a in connections]
    atomic_write_text(folder / REPORT, "\n".join([text, *lines]) + "\n")
    print("\n".join([text, *lines, f"{ANSWERS}, {REPORT} and {CHECKPOINT} are in {folder}"]))
    return 1 if lines else 0


def _report(args: argparse.Namespace) -> int:
    from course_lib.exam.questions import read_questions
    from course_lib.exam.report import report
    from course_lib.exam.run import read_given

    folder = existing_path(args.folder)
    questions, given = read_questions(folder / QUESTIONS), read_given(folder / CHECKPOINT)
    print(report(questions, given) if given else "no question is answered yet")
    return 0


def _write(args: argparse.Namespace) -> int:
    from course_lib.exam.haneul import haneul_exam

    questions = haneul_exam(args.part, args.count)
    with _wrap_write_errors(args.out):
        atomic_write_text(args.out, _lines(questions))
    print(f"{len(questions)} questions are in {args.out}")
    return 0


def _show_rules(args: argparse.Namespace) -> int:
    from course_lib.exam.rules import CONTEST

    rules = _rules(args.rules)
    if not args.model:
        print(Path(args.rules or CONTEST).read_text("utf-8"), end="")
        return 0
    refused = {model: rules.broken(model, args.bits) for model in args.model}
    for model, reasons in refused.items():
        print("\n".join(f"refused: {reason}" for reason in reasons) or f"allowed: {_terms(model)}")
    return int(any(refused.values()))


def _terms(model: str) -> str:
    from course_lib.models import catalog

    entry = catalog.parts().get(model) or catalog.entry(model)
    published = f", published {entry.published}" * bool(entry.published)
    return f"{entry.model}, {entry.licence}{published}; {entry.terms.note}"


@contextmanager
def _wrap_write_errors(path: Path) -> Iterator[None]:
    """Turn an error while `path` is written into a CourseError."""
    try:
        yield
    except OSError as error:
        what = f"{path} cannot be written: {error}"
        raise CourseError(what, "give --out a folder or a file that you may write to") from error


def _rules(path: Path | None) -> Any:
    from course_lib.exam.rules import CONTEST, read_rules

    return read_rules(path or CONTEST)


def _questions(path: str) -> list[Any]:
    from course_lib.exam.haneul import haneul_exam
    from course_lib.exam.questions import read_questions

    return haneul_exam() if path == "haneul" else read_questions(Path(path))


def _minutes(given: float | None, allowed: float) -> float:
    if given is not None and not 0 < given <= allowed:
        raise CourseError(f"--minutes {given:g}; the rules allow up to {allowed:g}", f"--minutes {allowed:g}")
    return given or allowed


def _check_allowed(name: str, rules: Any) -> None:
    """Raise CourseError, which quotes the rule, if a system uses a model that the rules forbid."""
    from course_lib.exam.strategies import STRATEGIES

    for model in STRATEGIES[name].models() if name in STRATEGIES else ():
        if reasons := rules.broken(model):
            raise CourseError(f"system {name}: {reasons[0]}", "course exam run --system guess --out exam-run")


def _system(name: str) -> Any:
    """Return a system by its name, or the user's own function, given as module:function."""
    from course_lib.exam.run import System
    from course_lib.exam.strategies import build

    if ":" not in name:
        return build(name)
    module, _, function = name.partition(":")
    try:
        answer = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise CourseError(
            f"--system {name}: {error}", "--system module:function, in a module on PYTHONPATH"
        ) from error
    return System(name, answer)


def _keep_questions(folder: Path, questions: Sequence[Any]) -> None:
    """Write the questions into the folder of the run, for `course exam report`."""
    path = folder / QUESTIONS
    if path.exists() and path.read_text("utf-8") != _lines(questions):
        raise CourseError(f"{folder} holds the run of another exam", f"course exam run --out {folder}-2")
    atomic_write_text(path, _lines(questions))


def _lines(questions: Sequence[Any]) -> str:
    return "".join(json.dumps(asdict(question), ensure_ascii=False) + "\n" for question in questions)


def _add_run(actions: Any) -> None:
    run = actions.add_parser("run", help="answer an exam within its time and without a network; resumable")
    run.add_argument(
        "--questions",
        default="haneul",
        metavar="FILE",
        help="a .jsonl or .csv file (default: Haneul Bank's 515 questions)",
    )
    run.add_argument("--rules", type=Path, metavar="FILE", help="a YAML file (default: course exam rules)")
    run.add_argument(
        "--system",
        action="append",
        metavar="NAME",
        help="how to answer, the best one first, the fastest last: "
        "guess, closed-book, adapter, rag, rerank, rag-adapter, options, best, or module:function of "
        "your own (default: best, then guess)",
    )
    run.add_argument("--minutes", type=float, metavar="M", help="less time than the rules allow")
    run.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for answers, report and checkpoint"
    )
    run.set_defaults(do=_run)


def add(commands: Any) -> None:
    """Add the command `exam` and its actions to a parser's commands."""
    exam = commands.add_parser(
        "exam", help="take an exam under a contest's rules, or plan one for a real card"
    )
    actions = exam.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_run(actions)
    report = actions.add_parser(
        "report", help="show the scores and times of a run, also of an unfinished one"
    )
    report.add_argument("folder", type=Path, help="the folder of --out")
    report.set_defaults(do=_report)
    write = actions.add_parser("questions", help="write an exam about Haneul Bank as a .jsonl file")
    write.add_argument("--part", choices=("exam", "practice", "held-back"), default="exam")
    write.add_argument("--count", type=int, default=515, help="number of questions (default 515)")
    write.add_argument("--out", type=Path, required=True, metavar="FILE")
    write.set_defaults(do=_write)
    rules = actions.add_parser("rules", help="print the rules, or say which models they allow")
    rules.add_argument("model", nargs="*", help="names of the catalogue, or of models behind an API")
    rules.add_argument("--rules", type=Path, metavar="FILE", help="a YAML file of your own")
    rules.add_argument("--bits", type=float, help="bits of a weight (default: those of the download)")
    rules.set_defaults(do=_show_rules)
    plan_command.add(actions)
