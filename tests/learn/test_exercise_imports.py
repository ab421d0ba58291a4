"""Checking an answer imports no model library and no search engine."""

import subprocess
import sys

import pytest

from course_lib.learn.exercises import all_exercises

HEAVY = ("torch", "faiss", "langchain_core", "transformers", "sklearn", "pandas", "matplotlib")
SEARCH_ENGINES = tuple(
    f"course_lib.retrieval.{name}" for name in ("bm25", "dense", "hybrid", "lsa", "storage")
)


def imported(code: str, modules: tuple[str, ...]) -> list[str]:
    """Those of the modules that are loaded after the code has run in a Python of its own."""
    code += f"\nimport sys\nprint('loaded', *(sys.modules.keys() & set({modules!r})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return out.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("chapter", sorted({id_[:2] for id_ in all_exercises()}))
def test_the_exercises_of_a_chapter_import_no_heavy_library(chapter):
    assert imported(f"import course_lib.learn.exercises.chapter_{chapter}", HEAVY) == []


def test_ndcg_is_checked_without_a_search_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "state.json"))
    case = (["x"], {"a": 1}, 1)
    code = f'from course_lib.learn.exercises import check\ncheck("03.1", dict.fromkeys("ABC", {case}))'
    assert imported(code, (*HEAVY, *SEARCH_ENGINES)) == []
