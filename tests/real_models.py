"""Fixtures for tests with real models, such as `smollm2`: the path of each on this machine.

`smollm2` is pulled if that takes no more than a minute; the others only if COURSE_REAL_MODELS names them.
A test whose model is missing is skipped; the end of the run lists it, with the command that lets it run.
"""

import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from filelock import FileLock

from course_lib.errors import CourseError
from course_lib.models import catalog

FETCH_SECONDS = 60
MISSING = "real model "  # how the reason of a skip begins


def model_path(name: str, folder: Path, run: str) -> Path:
    """Return the path of a pulled model, pulled into `folder` if need be. Skips the test if it cannot be had.

    Several processes fetch a model once. run: id of the test run, in which a failure is not repeated.
    """
    entry = catalog.entry(name)
    try:
        return catalog.verify_pulled(entry)
    except CourseError as error:
        if name not in os.environ.get("COURSE_REAL_MODELS", "smollm2-135m-instruct").split():
            pytest.skip(f"{MISSING}{name}: {error.what}")
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, FileLock(folder / f"{name}.test-lock"):
        patch.setenv("COURSE_MODELS_DIR", str(folder))
        failure = folder / f"{name}.failure-{run}"
        if not failure.exists() and (output := _pull(name)):
            failure.write_text(output, "utf-8")
        if failure.exists():
            pytest.skip(f"{MISSING}{name}: {failure.read_text('utf-8')}")
        return catalog.verify_pulled(entry)


def _pull(name: str) -> str:
    """Pull a model. Returns the error in one line, or "" if the model is in place."""
    command = [sys.executable, "-m", "course_lib.cli", "models", "pull", "--accept-licence", name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        output = process.communicate(timeout=FETCH_SECONDS)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # so that it stops pip
        process.communicate()
        return f"not downloaded within {FETCH_SECONDS} seconds"
    errors = re.findall(r"^course: (.*)", output, re.MULTILINE)
    return "" if process.returncode == 0 else errors[-1] if errors else output[-200:].replace("\n", " ")


@pytest.fixture(scope="session")
def fetched_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which tests pull models: below pytest's cache, where there is one."""
    cache = os.environ.get("COURSE_CACHE_DIR")
    return Path(cache) / "models" if cache else tmp_path_factory.getbasetemp().parent / "models"


def _fixture(name: str):
    @pytest.fixture(scope="session")
    def path(fetched_models: Path) -> Path:
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
        return model_path(name, fetched_models, run)

    path.__doc__ = f"The file or folder of {name}; `path` is in COURSE_MODELS_DIR/{name}."
    return path


smollm2 = _fixture("smollm2-135m-instruct")
gemma = _fixture("gemma-3-270m")
e5 = _fixture("multilingual-e5-small-q4")
realesrgan = _fixture("realesrgan-x4plus")
dlib_faces = _fixture("dlib-face-recognition")


def pytest_terminal_summary(terminalreporter) -> None:
    """List the tests that did not run for lack of a model."""
    tests = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        if MISSING in (reason := str(report.longrepr[2])):
            tests[reason.partition(MISSING)[2]].append(report.nodeid)
    for reason, names in tests.items():
        name = reason.partition(":")[0]
        terminalreporter.section(f"{len(names)} tests did not run, for lack of {name}", red=True, bold=True)
        terminalreporter.line(reason)
        terminalreporter.line("\n".join(sorted(names)))
        terminalreporter.line(f"To run them: {catalog.entry(name).download_command}")
