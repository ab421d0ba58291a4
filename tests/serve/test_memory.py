"""What the server holds in memory: its own process, and that of the model."""

import sys

import ollama
import psutil
import pytest

from course_lib.models.planner import plan
from course_lib.serve import discovery
from course_lib.serve.placement import MAX_SLOTS
from course_lib.serve.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which pages are shared")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
SHORT = {"num_predict": 8, "seed": 1}


def held(pid):
    """Bytes of each of the server's two processes. A file that both have mapped counts for the first."""
    found, counted = {}, {}
    for process in (psutil.Process(pid), *psutil.Process(pid).children()):
        maps = process.memory_maps(grouped=True)
        files = {one.path: one.rss - one.anonymous for one in maps}
        own = sum(max(0, size - counted.get(path, 0)) for path, size in files.items())
        found[process.pid] = own + sum(one.anonymous for one in maps)
        counted |= files
    assert len(found) == 2
    return list(found.values())


@pytest.fixture
def fresh(request):
    """A server process that has answered nothing yet, over this store."""

    def start(store):
        server = discovery.start(store=store.manifests.parent)
        request.addfinalizer(server.close)
        return ollama.Client(server.url), server.process.pids[-1]

    return start


def test_the_servers_own_process_stays_small(fresh, store):
    """NumPy would add 11 MB, a pattern with 200 times all letters 18, a grammar of addresses 19."""
    client, pid = fresh(store)
    client.generate("haneul-300k", "Hi", options=SHORT)
    assert held(pid)[0] < 60_000_000
    client.generate("haneul-300k", "Hi", options=SHORT, format=SCHEMA)
    assert held(pid)[0] < 68_000_000


def test_smollm2_takes_its_file_its_cache_and_120_mb(fresh, smollm2, tmp_path):
    store = Store(tmp_path)
    store.add_file(smollm2, "smollm2")
    client, pid = fresh(store)
    for _ in range(3):
        client.generate("smollm2", "Why is the sky blue?", options=SHORT)
    needed = smollm2.stat().st_size + plan(smollm2, batch=MAX_SLOTS).kv
    assert needed < sum(held(pid)) < needed + 120_000_000
