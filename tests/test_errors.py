"""Every error says what happened and how to fix it: the form of each fix, and what public calls raise."""

import ast
import re
import shlex
from typing import Any

import pytest
from pydantic import ValidationError

from course_lib import data
from course_lib.chapters import chapter_path
from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.learn.claims import claim, claim_order
from course_lib.learn.exercises import find_exercise
from course_lib.learn.predictions import predict, reveal
from course_lib.learn.widgets.choose_model import model_chooser
from course_lib.measure import bootstrap_interval, measure
from course_lib.models import catalog, load
from course_lib.models.planner import plan
from course_lib.models.planner.gpus import gpu_bytes
from course_lib.models.schema import Generation, ModelSpec
from course_lib.plots import bars, curves
from course_lib.retrieval import BM25, HybridRetriever, Tokenizer
from course_lib.retrieval.chunk import TokenSpans, split_text
from course_lib.retrieval.metrics import ndcg
from course_lib.retrieval.rerank import rerank
from course_lib.tuning import train
from course_lib.tuning.formats import format_of

FIX_ARGUMENT = {
    "CourseError": 1,
    "HubUnreachable": 1,
    "Unsupported": 1,
    "ApiError": 2,
}  # place among the arguments
COMMANDS = {"course", "git", "pip", "python", "make", "export", "ollama", "hf", "sudo", "apt", "cp", "rm"}
CALL = re.compile(r"[A-Za-z_][\w.]*\(")
FIELDS = {*ModelSpec.model_fields, *Generation.model_fields}
YAML = re.compile(rf"\b({'|'.join(sorted(FIELDS))}): ")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|\{[^{}]*\}")


def text_of(node: ast.expr, constants: dict[str, Any]) -> str | None:
    """The text of a fix, with "x" in place of each value; None where it is computed elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, constants) or "" for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "'x'" if node.conversion == ord("r") else "x"
    return constants.get(node.id) if isinstance(node, ast.Name) else None


def fixes(source):
    """Line and text of every fix in a module, of both branches of a conditional one."""
    tree, found = ast.parse(source), []
    constants = {
        n.targets[0].id: n.value.value
        for n in tree.body
        if isinstance(n, ast.Assign)
        and isinstance(n.targets[0], ast.Name)
        and isinstance(n.value, ast.Constant)
    }
    for node in ast.walk(tree):
        place = (
            FIX_ARGUMENT.get(ast.unparse(node.func).split(".")[-1]) if isinstance(node, ast.Call) else None
        )
        if place is None:
            continue
        arguments = [k.value for k in node.keywords if k.arg == "fix"] or node.args[place : place + 1]
        for argument in arguments:
            options = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
            found += [(node.lineno, t) for o in options if (t := text_of(o, constants)) is not None]
    return found


def problems(fix: str) -> list[str]:
    """What is wrong with the form of a fix."""
    found = []
    if not fix or fix != fix.strip() or "\n" in fix or fix.removesuffix("...").endswith("."):
        found.append("is empty, has blanks around it or two lines, or ends with a full stop")
    if YAML.search(QUOTED.sub("", fix)):
        found.append("says `field: value`, which is no Python and no shell")
    if CALL.match(fix):
        try:
            ast.parse(fix)
        except SyntaxError:
            found.append("begins as a call and is no Python")
    elif fix.split(" ")[0] in COMMANDS:
        try:
            shlex.split(fix)
        except ValueError:
            found.append("begins as a command and cannot be split")
    return found


MODULES = sorted((ROOT / "course_lib").rglob("*.py"))


def test_every_fix_has_the_form_of_a_call_a_command_or_a_sentence():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {problem}: {fix}"
        for path in MODULES
        for line, fix in fixes(path.read_text("utf-8"))
        for problem in problems(fix)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "fix",
    ["", "use device: auto", 'load("x", device: auto)', "course run 'x", "Try again.", "a\nb", 'load("x'],
)
def test_a_fix_of_another_form_is_found(fix):
    assert problems(fix)


@pytest.mark.parametrize(
    "fix",
    [
        'load("x", device="auto")',
        "course models pull haneul-4m",
        "git checkout -- models/haneul-4m",
        "use it alone with weight=1",
        'write {"type": "local"}',
        "open http://127.0.0.1:11434",
    ],
)
def test_a_fix_that_can_be_pasted_or_read_passes(fix):
    assert problems(fix) == []


def test_fixes_are_found_with_their_values_replaced():
    source = 'FIX = "course data"\nraise CourseError("a", FIX)\n'
    source += 'raise X.CourseError("b", f"load({name!r}, {n})" if n else "c")'
    assert [fix for _, fix in fixes(source)] == ["course data", "load('x', x)", "c"]
    assert sum(len(fixes(path.read_text("utf-8"))) for path in MODULES) > 200


# -- what public calls raise


WORDS = TokenSpans(lambda text: [match.span() for match in re.finditer(r"\S+", text)])


def calls():
    """Name -> a call that a public function refuses; it is given a loaded model."""
    return {
        "load an unknown name": lambda engine: load("no-such-model"),
        "load a near name": lambda engine: load("haneul-4M"),
        "load a model of another program": lambda engine: load("llama3:13b"),
        "load by an unknown driver": lambda engine: load("haneul-300k", driver="torch"),
        "load in an unknown quantization": lambda engine: load("haneul-300k", quantization="q9"),
        "load on an unknown device": lambda engine: load("haneul-300k", device="tpu"),
        "load with an unknown field": lambda engine: load("haneul-300k", quantisation="nf4"),
        "load for an unknown task": lambda engine: load("haneul-300k", task="chat"),
        "load a missing folder": lambda engine: load(
            {"source": {"type": "local", "path": "/no/such/folder"}}
        ),
        "load a missing adapter": lambda engine: load(
            "haneul-300k", adapters=[{"source": "/no/such/adapter"}]
        ),
        "load too long a context": lambda engine: load("haneul-300k", context_length=10**6),
        "load without a source": lambda engine: ModelSpec.parse({"task": "text-generation"}),
        "generate from a lone string": lambda engine: engine.generate("hello"),
        "generate no tokens": lambda engine: engine.generate(["hello"], max_output_length=0),
        "generate with an unknown option": lambda engine: engine.generate(["hello"], temprature=0.5),
        "generate from too long a prompt": lambda engine: engine.generate(["hello " * 5000]),
        "embed with a model that writes": lambda engine: engine.embed(["hello"]),
        "rerank with a model that writes": lambda engine: engine.rerank("hello", ["a"]),
        "score a lone string": lambda engine: engine.score("hello", ["world"]),
        "plan an unknown model": lambda engine: plan("no-such-model"),
        "plan an unknown format": lambda engine: plan("Llama-3.1-8B", "q9"),
        "plan too long a context": lambda engine: plan("Llama-3.1-8B", context=10**9),
        "plan for an unknown GPU": lambda engine: gpu_bytes("RTX 1"),
        "a catalogue entry that is none": lambda engine: catalog.entry("haneul-5m"),
        "a role that is none": lambda engine: catalog.role("poet"),
        "a purpose that is none": lambda engine: catalog.rank_models("poetry", 8),
        "an unknown format of weights": lambda engine: format_of("q9"),
        "train on nothing": lambda engine: train("haneul-300k", [], "/no/such/folder/adapter"),
        "train with an unknown setting": lambda engine: train("haneul-300k", [("a", "b")], "/no/such", lr=1),
        "search with an unknown fusion": lambda engine: HybridRetriever.from_texts(["a"], Flat()).search(
            "a", fusion="sum"
        ),
        "search for no hits": lambda engine: HybridRetriever.from_texts(["a"], Flat()).search("a", 0),
        "words with an unknown tokenizer": lambda engine: Tokenizer("syllables"),
        "BM25 of an unknown variant": lambda engine: BM25(Tokenizer("words"), variant="bm26"),
        "the same document twice": lambda engine: twice(BM25(Tokenizer("words"))),
        "rerank by an unknown model": lambda engine: rerank("no-such-model", "a", ["b"]),
        "chunks that overlap wholly": lambda engine: split_text("a b c", WORDS, max_tokens=4, overlap=4),
        "the quality of no places": lambda engine: ndcg(["a"], {"a": 1}, 0),
        "a chapter that is none": lambda engine: chapter_path("77"),
        "an exercise that is none": lambda engine: find_exercise("99.1"),
        "a claim without a tolerance": lambda engine: claim("x", 1, about=1, within=0),
        "a claim without a relation": lambda engine: claim_order("x", 1, "=", 1),
        "a prediction without a range": lambda engine: predict("x", unit="s", low=2, high=1),
        "a prediction measured as nan": lambda engine: reveal("x", float("nan")),
        "passages in an unknown language": lambda engine: data.load_passages(language="fr"),
        "questions of an unknown split": lambda engine: data.load_questions("dev"),
        "a measurement without runs": lambda engine: measure(lambda: None, repeats=0),
        "an interval of nothing": lambda engine: bootstrap_interval([]),
        "a picture of nothing": lambda engine: bars({}, x="", title=""),
        "a picture of what is not a number": lambda engine: curves(
            {"line": {1.0: float("nan")}}, x="", y="", title=""
        ),
        "widgets without candidates": lambda engine: model_chooser([]),
    }


class Flat:
    """An embedder for which all texts are alike."""

    def embed_documents(self, texts):
        return [[1.0, 0.0] for _ in texts]

    def embed_query(self, text):
        return [1.0, 0.0]


def twice(index):
    index.add({"a": "b"})
    index.add({"a": "c"})


@pytest.fixture(scope="module")
def engine():
    return load("haneul-300k")


@pytest.mark.parametrize("name", calls())
def test_a_mistake_in_a_public_call_is_told_with_its_fix(name, engine, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))
    with pytest.raises((CourseError, ValueError)) as caught:
        calls()[name](engine)
    text = str(caught.value)
    assert text and "Traceback" not in text and not isinstance(caught.value, ValidationError)
    if isinstance(caught.value, CourseError):
        assert text == f"{caught.value.what}\n  Fix: {caught.value.fix}"
        assert problems(caught.value.fix) == []
