"""Fixtures: a hub, an empty cache, an impatient client. A test module names this file in `pytest_plugins`."""

from types import SimpleNamespace

import pytest
from huggingface_hub import constants, file_download

from course_lib.data import MODELS
from tests.models.hub import Hub
from tests.models.hub_client import BIG, NAME, REPOSITORY, TINY


@pytest.fixture
def online(tmp_path, monkeypatch):
    """No token, an empty cache, downloads on. Returns the function that starts a hub."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(variable, "")  # so that it is given back as it was, also where a command sets it
        monkeypatch.delenv(variable)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hubs = []

    def start(repositories, **more):
        hubs.append(Hub(repositories, **more))
        monkeypatch.setenv("HF_ENDPOINT", hubs[-1].__enter__().url)
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.__exit__()


@pytest.fixture
def hub(online):
    """A hub with a shipped model and a tiny one."""
    return online({REPOSITORY: MODELS / NAME, "o/tiny": TINY})


@pytest.fixture
def big_hub(online):
    """A hub with a model that takes more than one piece to receive."""
    return online({"o/big": TINY | {"model.safetensors": BIG}})


@pytest.fixture
def offline(monkeypatch):
    """The function that switches downloads off."""
    return lambda: monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def hasty(monkeypatch):
    """The client's library does not pause between its attempts."""
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def impatient(hasty, monkeypatch):
    """It waits 0.3 s for an answer. For hubs that give none; on a busy machine, others may take as long."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
