"""One store for all tests of the server, one server as a process of its own over it, and one application in this process."""

import ollama
import pytest
from starlette.testclient import TestClient

from course_lib.serve import find
from course_lib.serve.app import application
from course_lib.serve.desk import Desk
from course_lib.serve.store import Store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    filled = Store(tmp_path_factory.mktemp("store"))
    filled.fill()
    return filled


@pytest.fixture(scope="session")
def server(store):
    started = find.start(store=store.manifests.parent)
    yield started
    started.close()


@pytest.fixture(scope="session")
def client(server):
    """The official client."""
    return ollama.Client(server.url)


@pytest.fixture(scope="module")
def desk(store):
    desk = Desk(store)
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def http(desk):
    """Requests to the application without a network between."""
    with TestClient(application(desk), base_url="http://127.0.0.1:11434") as asking:
        yield asking
