"""The examples in docstrings hold, and searching by words loads no model library."""

import doctest
import subprocess
import sys
from importlib import import_module

import pytest

from course_lib.data import ROOT


@pytest.mark.parametrize("name", ["tokenize", "scores", "bm25", "fusion", "metrics", "chunk"])
def test_examples_hold(name):
    found = doctest.testmod(import_module(f"course_lib.retrieval.{name}"))
    assert found.attempted and not found.failed


def test_importing_loads_nothing_heavy():
    heavy = {
        "torch",
        "pydantic",
        "transformers",
        "faiss",
        "scipy",
        "sklearn",
        "langchain_core",
        "snowballstemmer",
    }
    heavy |= {"kiwipiepy", "course_lib.retrieval.bm25", "course_lib.retrieval.dense"}
    imports = "import sys, course_lib.retrieval.metrics, course_lib.retrieval.fusion"
    code = f"{imports}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[]"
