"""One store for all tests of the server, a server process over it, and an application in this process."""

import ollama
import pytest
from starlette.testclient import TestClient

from course_lib.serve import discovery
from course_lib.serve.app import application
from course_lib.serve.store import Store
from course_lib.serve.worker import Worker
from tests.gguf_files import export_shipped_models


@pytest.fixture(scope="session")
def exports():
    export_shipped_models()


@pytest.fixture(scope="session")
def store(exports, tmp_path_factory):
    filled = Store(tmp_path_factory.mktemp("store"))
    filled.add_shipped()
    return filled


@pytest.fixture(scope="session")
def server(store):
    started = discovery.start(store=store.manifests.parent)
    yield started
    started.close()


@pytest.fixture(scope="session")
def client(server):
    """The official client."""
    return ollama.Client(server.url)


@pytest.fixture(scope="module")
def worker(store):
    worker = Worker(store)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def http(worker):
    """Requests to the application without a network between."""
    with TestClient(application(worker), base_url="http://127.0.0.1:11434") as asking:
        yield asking
