"""One store for all tests of the server, a server process over it, and an application in this process."""

import ollama
import pytest
from starlette.testclient import TestClient

from course_lib.models import catalog
from course_lib.models.gguf import cached_export
from course_lib.models.gguf.writer import TYPES
from course_lib.serve import discovery
from course_lib.serve.app import application
from course_lib.serve.store import Store
from course_lib.serve.worker import Worker


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """Write the GGUF files that tests pull here, where torch is imported: `pull` imports it anew for each."""
    for model in catalog.shipped():
        for weight_type in TYPES:
            cached_export(catalog.verify_shipped(model), weight_type, tmp_path_factory.mktemp("unused"))


@pytest.fixture(scope="session")
def store(exports, tmp_path_factory):
    filled = Store(tmp_path_factory.mktemp("store"))
    filled.fill()
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
