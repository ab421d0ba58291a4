"""Fixtures for tests with a local test hub. A test module lists this file in `pytest_plugins`."""

from types import SimpleNamespace

import pytest
from huggingface_hub import constants, file_download

from course_lib.data import MODELS
from tests.models.hub import Hub
from tests.models.hub_client import BIG, NAME, REPOSITORY, TINY


@pytest.fixture
def online(tmp_path, monkeypatch):
    """Set up an empty cache, no token and downloads on; the value is a function that starts a hub."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(variable, "")  # restores it at the end, even if a command sets it
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
    """A running hub with a copy of a shipped model and with a tiny repository."""
    return online({REPOSITORY: MODELS / NAME, "o/tiny": TINY})


@pytest.fixture
def big_hub(online):
    """A running hub with a model that the client downloads in several chunks."""
    return online({"o/big": TINY | {"model.safetensors": BIG}})


@pytest.fixture
def offline(monkeypatch):
    """A function that switches downloads off."""
    return lambda: monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def no_retry_delay(monkeypatch):
    """huggingface_hub does not wait before it retries."""
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def short_timeout(no_retry_delay, monkeypatch):
    """huggingface_hub waits 0.3 s for an answer. Only for hubs that send none: a busy machine is slow too."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
