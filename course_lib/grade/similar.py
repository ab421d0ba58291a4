"""Find submissions with the same answers, for `course grade`; names, comments and layout do not matter."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from typing import NamedTuple

from course_lib.chapters import all_chapters
from course_lib.grade.answers import CHECK, cells_of, parse_notebook

MIN_EQUAL_ANSWERS = 2  # for which two submissions are reported
MIN_SIZE = 13  # a `Form.size`; smaller answers, such as `x = 3.0`, are often equal by chance


class Form(NamedTuple):
    """An answer without what a copyist changes. size: nodes of the syntax tree, plus words of its texts.

    Of a source that is not valid Python, the text without white space, and the number of its words.
    """

    text: str
    size: int


def form(source: str) -> Form:
    """Return an answer in a form that is independent of names, comments, layout and its call of `check`.

    Names that the answer binds are replaced by numbers in the order of appearance. Names that it only uses,
    such as `max`, stay. Annotations, docstrings and decorators are dropped.
    """
    try:
        tree = ast.parse(CHECK.sub("", source))
        tree = _Renamed(_bound_names(tree)).visit(tree)
        return Form(ast.dump(tree, annotate_fields=False), sum(map(_size, ast.walk(tree))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Form("".join(source.split()), len(source.split()))


def _bound_names(tree: ast.AST) -> set[str]:
    """Return the names that a source binds: by assignment, as arguments, functions, classes, imports."""
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.alias(asname=str(name)):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
    return names


def _size(node: ast.AST) -> int:
    return len(node.value.split()) if isinstance(node, ast.Constant) and isinstance(node.value, str) else 1


class _Renamed(ast.NodeTransformer):
    """Replaces bound names by numbers in order of appearance; drops annotations, docstrings, decorators."""

    def __init__(self, bound: set[str]) -> None:
        self.bound, self.numbers = bound, dict[str, str]()

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            node.decorator_list = []
        for name in ("returns", "annotation"):
            if hasattr(node, name):
                setattr(node, name, None)
        for name in ("name", "id", "arg", "asname"):
            of_module = name == "name" and isinstance(node, ast.alias)
            if (value := getattr(node, name, None)) in self.bound and not of_module:
                setattr(node, name, self.numbers.setdefault(value, f"n{len(self.numbers)}"))
        return super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign([node.target], node.value))


def solutions(numbers: frozenset[str]) -> dict[str, str]:
    """Return exercise id -> text of the `form` of the course's solution, for chapters with these numbers."""
    texts = (path.read_text("utf-8") for path in all_chapters() if path.name[:2] in numbers)
    cells = (cells_of(chapter, chapter) for chapter in map(parse_notebook, texts))
    return {id_: form(source).text for each in cells for id_, source in each.items()}


def matching_submissions(
    answers: Mapping[str, Mapping[str, str]], ours: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Return submission -> other submission -> how many of its answers are the same.

    answers: submission -> exercise id -> source. ours: exercise id -> the course's solution, as `solutions`
    returns it. Answers that are short, or equal to the course's solution, do not count. A pair of submissions
    is reported if at least one answer that counts is the same and all their sources are equal, or if
    MIN_EQUAL_ANSWERS are the same and they are more than half of those that both have.
    """
    forms = {
        name: {
            id_: made.text
            for id_, source in cells.items()
            if (made := form(source)).size >= MIN_SIZE and made.text != ours.get(id_)
        }
        for name, cells in answers.items()
    }
    matches: dict[str, dict[str, int]] = {}
    for a, b in itertools.combinations(forms, 2):
        both = forms[a].keys() & forms[b].keys()
        same = sum(forms[a][id_] == forms[b][id_] for id_ in both)
        copied = same and answers[a] == answers[b]
        if copied or (same >= MIN_EQUAL_ANSWERS and same > len(both) / 2):
            matches.setdefault(a, {})[b] = matches.setdefault(b, {})[a] = same
    return matches
