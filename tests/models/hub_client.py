"""Short ways in which the tests of hub models ask for one."""

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
BIG = save(
    {"w": np.random.default_rng(0).standard_normal(6_500_000, dtype=np.float32)}
)  # 26 MB: the client keeps 10 at a time
PARTIAL = "blobs/*.incomplete"


def source(repository="o/tiny", **more):
    return ModelSpec.parse({"source": {"type": "huggingface", "repository": repository, **more}}).source


def get(repository="o/tiny", *, pull=False, **more):
    return from_hub(source(repository, **more), pull=pull)


def refused(match, repository="o/tiny", **more):
    """The error of a source, whose two halves, what happened and what mends it, are matched together."""
    with pytest.raises(CourseError, match=f"(?s){match}") as caught:
        get(repository, **more)
    return caught.value


def cached(tmp_path, repository="o/tiny"):
    return tmp_path / "cache" / f"models--{repository.replace('/', '--')}"


def pull(*arguments, **environment):
    """The command in a process of its own, which can be interrupted even where the tests cannot."""
    clean = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-m", "course_lib.cli", "models", "pull", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def done(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
