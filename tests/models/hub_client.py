"""Helpers for the tests of models on a hub: download one, expect an error, run the download command."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save

from course_lib.data import ROOT
from course_lib.errors import CourseError
from course_lib.models.files.resolution import from_hub
from course_lib.models.schema import ModelSpec

NAME = "haneul-300k"
REPOSITORY = f"course/{NAME}"
WEIGHTS = save({"w": np.arange(100, dtype=np.float32)})
TINY = {"config.json": b"{}", "tokenizer.json": b'{"a": 1}', "model.safetensors": WEIGHTS}
GGUF = b"GGUF" + bytes(60)
# 26 MB, because the client writes to disk in chunks of 10 MB
BIG = save({"w": np.random.default_rng(0).standard_normal(6_500_000, dtype=np.float32)})
PARTIAL = "blobs/*.incomplete"


def source(repository="o/tiny", **more):
    """Return the source of a model on the test hub."""
    return ModelSpec.parse({"source": {"type": "huggingface", "repository": repository, **more}}).source


def download(repository="o/tiny", *, pull=False, **more):
    """Download a model from the test hub, and return its folder or file."""
    return from_hub(source(repository, **more), pull=pull)


def download_error(match, repository="o/tiny", **more):
    """Return the error of a download. match: regular expression over its message and its fix."""
    with pytest.raises(CourseError, match=f"(?s){match}") as caught:
        download(repository, **more)
    return caught.value


def cached(tmp_path, repository="o/tiny"):
    """Return the folder of a repository in the test's cache."""
    return tmp_path / "cache" / f"models--{repository.replace('/', '--')}"


def start_pull(*arguments, **environment):
    """Start `course models pull` in a new process, which reacts to SIGINT even if the tests ignore it."""
    inherited = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-m", "course_lib.cli", "models", "pull", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=inherited | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait(process):
    """Wait for a process, and return its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
