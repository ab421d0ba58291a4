"""The command `course models plan`: print how much memory a model needs, and whether this machine has it."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.names import existing_path

# Only for models that draw pictures. offload: which of the model's parts wait outside the GPU.
PICTURE_OPTIONS = ("width", "height", "offload", "text_format")


def add(actions: Any) -> None:
    """Add the action `plan` to the parser of `course models`."""
    plan = actions.add_parser("plan", help="show how much memory a model needs, before it is loaded")
    plan.add_argument("name", help="name of a well-known model, or the path of a .gguf file or a folder")
    plan.add_argument("--format", help="format of the weights, such as q4_k_m (default: that of the files)")
    plan.add_argument("--context", type=int, help="tokens of a text (default 4096, or all that it reads)")
    plan.add_argument("--batch", type=int, default=1, help="texts or pictures at the same time (default 1)")
    plan.add_argument("--width", type=int, help="pixels of a drawn picture (default 1024)")
    plan.add_argument("--height", type=int, help="pixels of a drawn picture (default 1024)")
    plan.add_argument(
        "--offload", help="model: only the component that computes is on the GPU (default none)"
    )
    plan.add_argument("--text-format", help="format of the text encoders, such as nf4 (default: as the rest)")
    plan.set_defaults(do=_plan)


def _plan(args: argparse.Namespace) -> int:
    from course_lib.models.planner.picture_models import picture_model

    path = existing_path(args.name)
    known = catalog.find(args.name) or not path.exists()
    given = {name: value for name in PICTURE_OPTIONS if (value := getattr(args, name)) is not None}
    if known and picture_model(args.name):
        return _plan_pictures(args, given)
    if given:
        option = "--" + next(iter(given)).replace("_", "-")
        raise CourseError(f"{option} is for models that draw pictures", f"leave {option} out")
    return _plan_texts(args, args.name if known else path)


def _plan_pictures(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from course_lib.models.planner.pictures import plan_pictures, ways_table

    if args.context is not None:
        raise CourseError("--context is for models that read or write texts", "leave --context out")
    print(plan_pictures(args.name, args.format, batch=args.batch, **options))
    size = {name: options[name] for name in ("width", "height") if name in options}
    print("\nWith other formats, and on which GPU it fits with a tenth free:\n")
    print(ways_table(args.name, batch=args.batch, **size))
    return 0


def _plan_texts(args: argparse.Namespace, model: Any) -> int:
    import psutil

    from course_lib.models.planner import GIB, plan
    from course_lib.models.planner.gpus import largest_context
    from course_lib.models.planner.lookup import architecture

    free, longest = psutil.virtual_memory().available, architecture(model).context
    if args.context is not None and not 0 < args.context <= longest:
        what = f"--context {args.context}: {args.name} reads 1 to {longest:,} tokens"
        raise CourseError(what, shlex.join(["course", "models", "plan", args.name, f"--context={longest}"]))
    planned = plan(model, args.format, args.context, args.batch)
    longest = largest_context(free, model, args.format, args.batch, reserve=0)
    verdict = "it fits" if planned.total <= free else "it does not fit"
    print(f"{planned}\nThis machine has {free / GIB:,.1f} GiB of free memory: {verdict}.")
    print(f"The longest context that fits: {f'{longest:,} tokens' if longest else 'none'}.")
    return 0
