"""The command `course export-otter`: chapters as sources for `otter assign` (otter-grader.readthedocs.io).

As for nbgrader, an exercise cell becomes two: the answer, and the call of `check`. A test that calls the
course's check gives the point. Otter runs the imports and the answers, and skips the other cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from course_lib.grade.assignments import Form, check, write_assignments
from course_lib.learn.student import REGION, make_stub

SKIPPED = "otter_ignore"  # the tag of cells that Otter does not run
# Learners check with the course's own `check`, so that Otter need not be installed where they work.
CONFIG = """# ASSIGNMENT CONFIG
init_cell: false
export_cell: false
tests:
  ok_format: false
"""
TEST = """\
def test({name}):
    from {module} import check
    check("{id}", {name})
"""


def _with_prompt(region: Any) -> str:
    """Return a solution in Otter's delimiters, then the stub (placeholder) that learners get in its place."""
    indent, code = region[1], region[2]
    stub = make_stub(region[0])
    lines = [f"{indent}# BEGIN SOLUTION NO PROMPT", code.rstrip("\n"), f"{indent}# END SOLUTION"]
    return "\n".join([*lines, f'{indent}""" # BEGIN PROMPT', stub, f'{indent}""" # END PROMPT'])


def _exercise(id_: str, name: str, answer: Any, call: Any) -> Iterator[Any]:
    """Yield the cells of an exercise, between the raw cells that Otter reads."""
    from nbformat.v4 import new_code_cell, new_raw_cell

    question = f"q{id_.replace('.', '_')}"
    yield new_raw_cell(f"# BEGIN QUESTION\nname: {question}\npoints: 1\ncheck_cell: false")
    yield new_raw_cell("# BEGIN SOLUTION")
    answer.source = REGION.sub(_with_prompt, answer.source)
    yield answer
    yield new_raw_cell("# END SOLUTION")
    yield new_raw_cell("# BEGIN TESTS")
    yield new_code_cell(TEST.format(name=name, module=check.__module__, id=id_))
    yield new_raw_cell("# END TESTS")
    yield new_raw_cell("# END QUESTION")
    call.metadata["tags"] = [SKIPPED]
    yield call


def _before(imports: Any) -> list[Any]:
    from nbformat.v4 import new_raw_cell

    return [new_raw_cell(CONFIG), imports]


OTTER = Form(SKIPPED, _before, _exercise)


def export(out: Path, chapters: Sequence[str] = ()) -> None:
    """Write chapters to `out/NAME/NAME.ipynb`, as `write_assignments` does, and print the next command."""
    first = next(iter(write_assignments(out, chapters, OTTER, "export-otter")))
    print(f"Next, in {first.parent}: otter assign {first.name} dist")
