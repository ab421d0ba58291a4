"""Files that services and other people's tools read: they can be read, and name things that are there."""

import datetime
import importlib.util
import json
import re
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import course_lib
from course_lib.data import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))


def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_is_the_same_wherever_it_is_named():
    for name, pattern in release().NAMED_IN.items():
        found = re.findall(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        assert [version for _, version, _ in found] == [course_lib.__version__], name


@pytest.fixture
def copy(tmp_path):
    for name in (*release().NAMED_IN, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    return tmp_path


def test_a_release_writes_its_version_and_date(copy):
    release().prepare(copy, "12.3.4", datetime.date(2030, 1, 2))
    for name in release().NAMED_IN:
        assert (copy / name).read_text("utf-8").count("12.3.4") >= 1, name
    assert "\n## 12.3.4 (2030-01-02)\n" in (copy / "CHANGELOG.md").read_text("utf-8")
    with pytest.raises(SystemExit, match="0 headings"):
        release().prepare(copy, "12.3.5", datetime.date(2030, 1, 2))
    assert course_lib.__version__ not in (copy / "CITATION.cff").read_text("utf-8")


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3rc1"])
def test_a_version_that_is_not_semantic_is_refused(copy, version):
    with pytest.raises(SystemExit, match=r"MAJOR\.MINOR\.PATCH"):
        release().prepare(copy, version, datetime.date(2030, 1, 2))


def test_the_workflow_runs_ci_and_the_first_command_on_three_systems():
    assert [s["run"] for s in WORKFLOW["jobs"]["test"]["steps"] if "run" in s] == [".ci/run"]
    lab = WORKFLOW["jobs"]["lab"]
    systems = {name.partition("-")[0] for name in lab["strategy"]["matrix"]["os"]}
    assert systems == {"ubuntu", "macos", "windows"}
    assert all(v in SpecifierSet(PROJECT["requires-python"]) for v in lab["strategy"]["matrix"]["python"])
    assert {s["run"].split()[1] for s in lab["steps"] if "run" in s} == {"course.py"}


def test_images_have_a_python_that_the_course_supports():
    named = {
        "Dockerfile": r"^FROM python:(\S+)-slim$",
        ".binder/runtime.txt": r"^python-(\S+)$",
        ".devcontainer/devcontainer.json": r'"image": "[^"]+/python:([^"]+)"',
    }
    for name, pattern in named.items():
        (version,) = re.findall(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        assert version in SpecifierSet(PROJECT["requires-python"]), name
    created = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))["postCreateCommand"]
    assert created.startswith("python3 course.py set-up")


def test_no_file_that_git_ignores_gets_into_an_image():
    ignored, left_out = (
        {line.strip("/").removeprefix("**/") for line in (ROOT / name).read_text("utf-8").splitlines()}
        for name in (".gitignore", ".dockerignore")
    )
    assert ignored <= left_out and ".git" in left_out


def test_issue_forms_have_what_github_asks_of_them():
    forms = [p for p in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if p.name != "config.yml"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text("utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert len({field["id"] for field in form["body"]}) == len(form["body"])
        assert all(field["type"] in ("input", "textarea") for field in form["body"])
        assert all(field["attributes"]["label"] for field in form["body"])


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_paths_that_a_page_names_are_there(name):
    text = (ROOT / name).read_text("utf-8")
    found = re.findall(r"`((?:course_lib|tests|chapters|\.ci)/[^`]*)`|\]\(([^)]+)\)", text)
    for path in filter(None, (a or b for a, b in found)):
        parts = path.replace("NN-name", "00-start-here").replace("NN_*", "03_scoring").replace("NN", "00")
        if "NAME" not in path:
            assert (ROOT / parts).exists(), path
