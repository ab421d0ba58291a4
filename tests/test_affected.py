"""`pytest --changed`: the map by imports, and what it leaves out."""

import pytest

from course_lib.chapters import all_chapters
from course_lib.data import ROOT
from tests.affected import SECONDS, affected, distances, file_of, imports_of


def names(files):
    return {file.relative_to(ROOT).as_posix() for file in files}


@pytest.mark.parametrize(
    ("changed", "test"),
    [
        ("course_lib/retrieval/bm25.py", "tests/retrieval/test_bm25.py"),  # imported through the package
        ("course_lib/learn/budget.py", "tests/learn/test_budget.py"),
        ("course_lib/learn/exercises/chapter_03.py", "tests/notebooks/test_runner.py"),  # import_module
        ("tests/notebooks/wrong_answers/chapter_00.yaml", "tests/notebooks/test_wrong_answers.py"),
        ("tests/retrieval/conftest.py", "tests/retrieval/test_bm25.py"),
        ("tests/models/test_spec.py", "tests/models/test_spec.py"),
        ("chapters/00-start-here.ipynb", "tests/notebooks/test_cells.py"),
    ],
)
def test_what_imports_a_changed_file_is_chosen(changed, test):
    chosen, left = affected({changed}, {})
    assert test in names(chosen) | names(left)


def test_tests_that_do_not_import_it_are_not_chosen():
    chosen, left = affected({"tests/models/test_spec.py"}, {})
    assert names(chosen) == {"tests/models/test_spec.py"} and left == []


def test_a_chapter_runs_where_its_own_file_changed_and_nowhere_else():
    chapter = names(all_chapters()[:1]).pop()
    assert chapter in names(affected({chapter}, {})[0])
    assert not any(".ipynb" in name for name in names(affected({"course_lib/data.py"}, {})[0]))


def test_the_nearest_are_chosen_until_the_time_is_spent():
    files = [f for folder in ("course_lib", "tests") for f in (ROOT / folder).rglob("*.py")]
    near = distances({"course_lib/errors.py"}, files)
    chosen, left = affected({"course_lib/errors.py"}, {})
    assert left and max(map(near.get, chosen)) <= min(map(near.get, left))
    assert affected({"tests/models/test_spec.py"}, {"tests/models/test_spec.py": 2 * SECONDS})[1] == []


def test_a_name_that_a_package_exports_leads_to_its_own_file():
    test = file_of("tests.retrieval.test_bm25")
    assert file_of("course_lib.retrieval.bm25") in imports_of(test)
    assert file_of("numpy") is None
