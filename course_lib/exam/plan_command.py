"""The command `course exam plan`: predict the time and memory of an exam with a model on a graphics card."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.catalog.names import TUNED

if TYPE_CHECKING:
    from course_lib.exam.cards import Card
    from course_lib.exam.plan import Exam, ExamPlan
    from course_lib.exam.rules import Rules

# The fix for a model that breaks a rule.
OTHER = "course exam plan --model EXAONE-3.5-7.8B"
UNKNOWN = "Rules: {} is not in the catalogue; see for yourself whether its licence and date are allowed."


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command `plan`."""
    parser = commands.add_parser("plan", help="minutes and memory of an exam on a card, before you have one")
    parser.add_argument("--model", required=True, help="such as EXAONE-3.0-7.8B, or a folder or .gguf file")
    parser.add_argument("--card", default="RTX 4090", help='such as "RTX 4090" (default), or "this machine"')
    parser.add_argument("--format", action="append", help="16, 8 and 4 bits by default; may be repeated")
    parser.add_argument(
        "--batch", type=_from(1), action="append", help="questions at a time; may be repeated"
    )
    parser.add_argument("--questions", type=_from(1), help="by default those of the rules, 515")
    parser.add_argument("--minutes", type=float, help="by default those of the rules, 270")
    for name, least, help_text in (
        ("passages", 0, "in a prompt"),
        ("passage-tokens", 1, "of a passage"),
        ("question-tokens", 1, "of a question with its options"),
        ("answer-tokens", 1, "of an answer"),
    ):
        parser.add_argument(f"--{name}", type=_from(least), help=help_text)
    parser.add_argument("--search-seconds", type=float, help="of searching and reranking, for a question")
    parser.add_argument("--rules", type=Path, help="a file of rules; by default those of the contest")
    parser.set_defaults(do=run)


def _from(least: int) -> Callable[[str], int]:
    """Return a function that parses a whole number of at least `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return parse


def run(arguments: argparse.Namespace) -> int:
    """Print the plans, the best of them and its limits.

    Returns 1 if no plan works. Raises CourseError for wrong options, and for a model that breaks a rule.
    """
    from course_lib.exam.cards import card
    from course_lib.exam.here import THIS_MACHINE
    from course_lib.exam.plan import BATCHES, FORMATS, Exam, best, choices, compared, limits
    from course_lib.exam.rules import CONTEST, read_rules
    from course_lib.models.planner import architecture

    rules = read_rules(arguments.rules or CONTEST)
    note = _refuse(arguments.model, rules)
    given: dict[str, Any] = {"minutes": rules.minutes, "questions": rules.questions or Exam().questions}
    given |= {name: value for name in vars(Exam()) if (value := getattr(arguments, name)) is not None}
    exam = Exam(**given)
    if arguments.card.strip().lower() == THIS_MACHINE:
        on, plans = _here(arguments, exam)
    else:
        on = card(arguments.card)
        formats, batches = arguments.format or FORMATS, arguments.batch or BATCHES
        plans = choices(architecture(arguments.model), on, exam, formats, batches)
    print(f"{plans[0].memory.model} on {on.name}: {exam.questions:,} questions, {exam.minutes:g} minutes\n")
    print(compared(plans))
    if chosen := best(plans):
        print(f"\nThe most bits that fit and are in time:\n\n{chosen}\n\nAll else equal, the most would be:")
        for limit in limits(chosen):
            print(f"- {limit.name.replace('_', ' ')}: {limit.most:,} (then {limit.because} ends it)")
    else:
        print("\nNone of these fits and is in time.")
    print("\n".join(filter(None, [f"\n{on.name}: {on.source}.", note])))
    return 0 if chosen else 1


def _here(arguments: argparse.Namespace, exam: Exam) -> tuple[Card, list[ExamPlan]]:
    """Time the model on this machine; return the machine as a card, and a plan without batches."""
    from course_lib.exam.here import timed_here
    from course_lib.exam.plan import plan_exam
    from course_lib.models import load

    if arguments.format or arguments.batch:
        what = "on this machine a model is timed as it is loaded, one question at a time"
        raise CourseError(what, "leave --format and --batch out")
    with load(arguments.model) as engine:
        on, weight_format, driver = timed_here(engine, arguments.model, exam)
    return on, [plan_exam(arguments.model, on, exam, weight_format, driver=driver)]


def _refuse(model: str, rules: Rules) -> str:
    """Raise CourseError, which quotes the rule, for a model that breaks a rule of the exam.

    Returns "", or a note if the planner knows the model's sizes but its licence and date are unknown.
    """
    from course_lib.models.catalog import entries
    from course_lib.models.planner import architecture

    base = TUNED.sub("", model).lower()  # the name without an ending such as -Instruct
    listed = next((e.model for e in entries() if TUNED.sub("", e.model).lower() == base), None)
    broken = rules.broken(listed or model, bits=4)  # whether more bits fit, the plan itself tells
    if not broken:
        return ""
    if listed:
        raise CourseError(broken[0], OTHER)
    if "(rule " in broken[0]:
        raise CourseError(broken[0], OTHER)
    return UNKNOWN.format(architecture(model).name)  # `architecture` raises CourseError for an unknown model
