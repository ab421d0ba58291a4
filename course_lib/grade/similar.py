"""Find submissions with the same answers, for `course grade`; names, comments and layout do not matter."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping

from course_lib.chapters import all_chapters
from course_lib.grade.answers import CHECK, cells_of, parse_notebook

FEWEST = 2  # equal answers for which two submissions are reported
SHORTEST = 13  # nodes of a syntax tree: shorter answers of two learners can be equal by chance


class _Plain(ast.NodeTransformer):
    """Replaces the names of a source by numbers in order of appearance; drops annotations and docstrings."""

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}

    def _number(self, name: str) -> str:
        return self.numbers.setdefault(name, f"n{len(self.numbers)}")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._number(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._number(node.arg))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name, node.returns, node.decorator_list = self._number(node.name), None, []
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)


def plain(source: str) -> str:
    """Return an answer in a form that is independent of names, comments, layout and its call of `check`.

    A source that is not valid Python is returned without white space.
    """
    try:
        tree = _Plain().visit(ast.parse(CHECK.sub("", source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "".join(source.split())
    return ast.dump(tree, annotate_fields=False)


def solutions(numbers: frozenset[str]) -> dict[str, str]:
    """Return exercise id -> `plain` form of the course's solution, for these chapters."""
    texts = (path.read_text("utf-8") for path in all_chapters() if path.name[:2] in numbers)
    cells = (cells_of(notebook, notebook) for notebook in map(parse_notebook, texts))
    return {id_: plain(source) for each in cells for id_, source in each.items()}


def like(answers: Mapping[str, Mapping[str, str]], ours: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return submission -> other submission -> how many of its answers are the same.

    answers: submission -> exercise id -> source. ours: exercise id -> the course's solution in `plain` form.
    Answers that are short, or equal to the course's solution, do not count. A pair of submissions is reported
    if it has two equal answers and they are more than half of those that both have, or if all texts are
    equal.
    """
    forms = {
        name: {
            id_: form
            for id_, source in own.items()
            if (form := plain(source)) and _is_distinctive(form, id_, ours)
        }
        for name, own in answers.items()
    }
    found: dict[str, dict[str, int]] = {}
    for a, b in itertools.combinations(forms, 2):
        both = forms[a].keys() & forms[b].keys()
        same = sum(forms[a][id_] == forms[b][id_] for id_ in both)
        copied = same and answers[a] == answers[b]
        if copied or (same >= FEWEST and same > len(both) / 2):
            found.setdefault(a, {})[b] = found.setdefault(b, {})[a] = same
    return found


def _is_distinctive(form: str, id_: str, ours: Mapping[str, str]) -> bool:
    return form != ours.get(id_) and form.count("(") >= SHORTEST
