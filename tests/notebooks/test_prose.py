"""In a chapter's text, each number with a unit must be followed by a reference to a claim or to a source.

A claim is a measured number that a cell of the chapter asserts. The reference is a comment in the Markdown:
<!-- claim: NAME --> or <!-- cite: KEY -->. Other tests here show that each rule finds violations.
"""

import ast
import re
from dataclasses import dataclass

import nbformat
import pytest

from course_lib.chapters import all_chapters, read_notebook

UNITS = (
    r"%|ms|s|min|minutes?|hours?|seconds?|[kKMGT]i?B|bytes?|bits?|tokens?(?:/s)?|passages|questions|messages|characters|points"
    r"|times|won|watts?|W|[kMG]?Hz|(?:thousand |million |billion )?(?:weights|parameters)"
)
TIE = r"(?: *<!-- (?P<kind>claim|cite): (?P<name>[^>]*?) -->)?"
RANGE = r"(?:\d[\d,.]*-)?"  # in 10-20 ms, only the last number is checked
NUMBER = re.compile(
    rf"(?<![\w.,/-]){RANGE}(?P<number>[-+]?\d[\d,]*(?:\.\d+)?) ?(?P<unit>(?:{UNITS})(?:/s)?)(?![\w/])\**{TIE}"
)
CODE = re.compile(r"```.*?```|`[^`]*`", re.S)


@dataclass(frozen=True)
class Stated:
    """A number in the text. kind: claim, cite or None. name: the claim or source that it refers to, or ''."""

    number: float
    unit: str
    kind: str | None
    name: str


def stated(markdown: str) -> list[Stated]:
    """Return the numbers with units in a text, outside of code."""
    found = NUMBER.finditer(CODE.sub("", markdown))
    return [Stated(float(m["number"].replace(",", "")), m["unit"], m["kind"], m["name"] or "") for m in found]


def claimed(notebook) -> set[str]:
    """Return the names of all claims that the chapter's code cells make."""
    names = set()
    for cell in notebook.cells:
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("claim", "claim_order")
            ):
                names |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


def problems(notebook) -> list[str]:
    """Return every violation of the rules in a notebook."""
    texts = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    references = "\n".join(t.partition("## References")[2] for t in texts)
    claims, found = claimed(notebook), []
    for s in (s for t in texts for s in stated(t)):
        what = f"{s.number:g} {s.unit}"
        if s.kind is None:
            found.append(f"{what}: neither <!-- claim: NAME --> nor <!-- cite: KEY --> behind it")
        elif s.kind == "claim" and s.name not in claims:
            found.append(f"{what}: no claim is named {s.name!r}")
        elif s.kind == "cite" and f"**{s.name}**" not in references:
            found.append(f"{what}: {s.name!r} is not among the references")
    found += [f"a blank stays before {m!r}" for t in texts for m in re.findall(r" <!-- [^>]*-->[,.;:)!?]", t)]
    loose = {m for t in texts for m in re.findall(r"<!-- (?:claim|cite): [^>]*-->", t)}
    tied = {f"<!-- {s.kind}: {s.name} -->" for t in texts for s in stated(t)}
    return found + [f"{m}: no number with a unit before it" for m in sorted(loose - tied)]


@pytest.mark.parametrize("path", all_chapters(), ids=lambda p: p.stem)
def test_numbers_in_the_text_are_tied(path):
    assert problems(read_notebook(path)) == []


def chapter(text, code='claim("size", 4.5, about=4.5, within=0.1)'):
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
    return nbformat.v4.new_notebook(cells=cells)


def test_a_tied_number_is_read_with_its_tie():
    assert stated("It has **4.5 million weights** <!-- claim: size --> and 12 MB.") == [
        Stated(4.5, "million weights", "claim", "size"),
        Stated(12, "MB", None, ""),
    ]
    assert problems(chapter("4.5 million weights <!-- claim: size -->")) == []
    assert problems(chapter("95% <!-- cite: Efron 1979 -->\n\n## References\n- **Efron 1979**: ...")) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("It takes 12 MB.", "neither"),
        ("Right in 71% of cases.", "neither"),
        ("10-20 ms", "neither"),
        ("5 MB/s", "neither"),
        ("15 passages/s", "neither"),
        ("2 GHz", "neither"),
        ("80 W", "neither"),
        ("It writes 1,200 tokens/s.", "neither"),
        ("4.5 MB <!-- claim: size -->, or so", "a blank stays before"),
        ("12 MB <!-- claim: other -->", "no claim is named"),
        ("95% <!-- cite: Nobody 1900 -->", "not among the references"),
        ("Large <!-- claim: size -->", "no number"),
    ],
)
def test_each_rule_bites(text, complaint):
    assert complaint in " ".join(problems(chapter(text)))


@pytest.mark.parametrize(
    "text", ["a 32-bit number", "`12 MB`", "chapter 01", "KRW 1,500", "4,096", "in 2 of them"]
)
def test_names_prices_and_code_are_left_alone(text):
    assert problems(chapter(text)) == []
