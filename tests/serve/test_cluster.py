"""Workers and replicas on Ray: two on this machine, some of which are killed.

`pip install -e ".[cluster]"` installs Ray; without it, only the error that says so is tested.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import types
from functools import partial
from pathlib import Path

import httpx
import pandas as pd
import psutil
import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib import ray_connection
from course_lib.batch import map_batches, model_function
from course_lib.data import load_messages, load_passages
from course_lib.errors import CourseError
from course_lib.models import ModelManager
from course_lib.rag import NeighbourClassifier
from course_lib.ray_connection import INSTALL, connected
from course_lib.retrieval import Dense
from course_lib.retrieval.batch_embeddings import BatchEmbeddings
from course_lib.serve.server import bind
from tests.serve.test_managed import gone, wait_for

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason=f"Ray is not installed: {INSTALL}"
)
MESSAGES = [m.message for m in load_messages("validation")]
MODEL = {"source": "haneul-1m", "batch_size": 2, "context_length": 256}
EMBEDDER = {"source": "haneul-300k", "task": "text-embedding"}
CHAT = {"model": "haneul-1m", "messages": [{"role": "user", "content": "What is a fee?"}], "temperature": 0}


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def replica_processes() -> list[psutil.Process]:
    return [p for p in children() if p.name().startswith("ray::ServeReplica")]


@pytest.fixture(scope="module")
def ray():
    before = children()
    with connected("local") as module:
        yield module
    left = [p for p in children() if p not in before]
    assert psutil.wait_procs(left, 10)[1] == [], "processes are left"


@pytest.fixture(scope="module")
def server(ray):
    from course_lib.serve.cluster import deploy

    with deploy(
        {"source": "haneul-1m", "batch_size": 2, "context_length": 256}, replicas=2, cpus=0.5
    ) as server:
        yield server


# -- batches --


def lengths(folder: Path | None = None, deaths: int = 0):
    """A function of a batch whose process kills itself, `deaths` times in all."""

    def function(batch: list[str]) -> list[dict]:
        if folder and batch[0] == "text 12":
            (folder / f"death {len(list(folder.iterdir()))}").touch()
            if len(list(folder.iterdir())) <= deaths:
                os.kill(os.getpid(), signal.SIGKILL)
        return [{"text": text, "length": len(text), "third": len(text) / 3} for text in batch]

    return function


@needs_ray
def test_a_killed_worker_changes_no_byte(ray, tmp_path):
    items = [f"text {i}" for i in range(30)]
    here = map_batches(lengths, items, batch_size=4, output=tmp_path / "here.jsonl")
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    load = partial(lengths, deaths, 1)
    there = map_batches(
        load, items, batch_size=4, output=tmp_path / "there.jsonl", address="local", workers=2
    )
    assert len(list(deaths.iterdir())) == 2, "killed once, then computed"
    assert there == here and [row["text"] for row in here] == items
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


@needs_ray
def test_a_batch_that_always_kills_its_worker_is_an_error_and_what_was_done_stays(ray, tmp_path):
    items = [f"text {i}" for i in range(20)]
    (deaths := tmp_path / "deaths").mkdir()
    output = tmp_path / "out.jsonl"
    with pytest.raises(CourseError, match="died"):
        map_batches(
            partial(lengths, deaths, 99), items, batch_size=4, output=output, address="local", workers=1
        )
    lines = output.read_text().splitlines()
    assert len(lines) < 1 + 13 and len(lines) % 4 == 1, "whole batches before the deadly one"
    rows = map_batches(lengths, items, batch_size=4, output=output)
    assert [row["text"] for row in rows] == items


@needs_ray
def test_errors_of_the_function_come_as_they_are(ray):
    def failing():
        def function(batch):
            raise CourseError("3 texts are too long", "split them")

        return function

    with pytest.raises(CourseError, match="3 texts are too long") as caught:
        map_batches(failing, ["a"], address="local", workers=1)
    assert caught.value.fix == "split them"


@needs_ray
def test_a_classifier_labels_a_table_with_two_workers_to_the_same_bytes(ray, tmp_path):
    known = load_messages("train")[::8]
    store = InMemoryVectorStore(ModelManager.shared().get_embedding_model(EMBEDDER))
    store.add_texts([m.message for m in known], [{"label": m.intent} for m in known])
    classifier, frame = NeighbourClassifier(store, k=3), pd.DataFrame({"message": MESSAGES[:20]})
    here = classifier.classify_batch(frame, 4, output=tmp_path / "here", progress=False)
    there = classifier.classify_batch(
        frame, 4, output=tmp_path / "there", progress=False, address="auto", workers=2
    )
    assert there.equals(here) and (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


@needs_ray
def test_answers_of_two_workers_are_those_of_one_process(ray):
    load = partial(model_function, "haneul-1m", "generate", max_output_length=16)
    assert map_batches(load, MESSAGES[:12], address="local", workers=2) == map_batches(load, MESSAGES[:12])


@needs_ray
def test_an_index_that_two_workers_build_is_that_of_one_process(ray):
    passages = {p.id: p.text for p in [*load_passages().values()][:40]}
    model = ModelManager.shared().get_embedding_model(EMBEDDER)
    here, there = Dense(model), Dense(BatchEmbeddings(model, address="local", workers=2, batch_size=16))
    here.add(passages)
    there.add(passages)
    assert there.ids == here.ids and abs(there.vectors - here.vectors).max() < 1e-6
    assert [h.id for h in there.search("lost card")] == [h.id for h in here.search("lost card")]


@needs_ray
def test_more_workers_than_cpus_are_refused_and_other_addresses_too(ray):
    with pytest.raises(CourseError, match="99 CPUs are needed"):
        map_batches(lengths, ["a"], address="local", workers=99)
    with pytest.raises(CourseError, match="2 GPUs are needed"):
        map_batches(lengths, ["a"], address="local", gpus=1)
    with pytest.raises(CourseError, match=r"connected to Ray at local, not 10\.0\.0\.1:6379"):
        map_batches(lengths, ["a"], address="10.0.0.1:6379")


def test_an_address_is_forgotten_with_its_connection(monkeypatch):
    """A Ray that the program itself started later was taken for ours, which asks every caller for a token.

    Needs no Ray: a stand-in says what Ray's connection says.
    """
    ray = types.ModuleType("ray")
    running: list[str] = []
    ray.is_initialized, ray.shutdown = lambda: bool(running), running.clear
    ray.init = lambda address="", **_: running.append(address)
    ray.util = types.SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_connection, "_address", "")
    with connected("local"):
        assert running == ["local"]
    assert running == []
    ray.init()
    with pytest.raises(CourseError, match="at an address of its own, not local"), connected("local"):
        pass


# -- replicas --


def content(response: httpx.Response) -> str:
    return response.raise_for_status().json()["choices"][0]["message"]["content"]


@needs_ray
def test_both_protocols_answer_as_the_courses_own_server_does(server, http):
    expected = http.post("/v1/chat/completions", json=CHAT).json()["choices"]
    for _ in range(4):  # of either replica
        assert httpx.post(server.url + "/v1/chat/completions", json=CHAT).json()["choices"] == expected
    tags = httpx.get(server.url + "/api/tags").json()["models"]
    assert [tag["name"] for tag in tags] == [f"{server.model}:latest"]
    unknown = httpx.post(server.url + "/v1/chat/completions", json={**CHAT, "model": "haneul-9m"})
    assert unknown.status_code == 404 and "haneul-9m" in unknown.json()["error"]["message"]


@needs_ray
def test_an_answer_comes_in_pieces(server):
    whole = content(httpx.post(server.url + "/v1/chat/completions", json=CHAT))
    with httpx.stream("POST", server.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream") and lines[-1] == "[DONE]"
    pieces = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1]]
    assert len([p for p in pieces if p]) > 3 and "".join(pieces).strip() == whole


@needs_ray
def test_a_killed_replica_is_replaced_and_the_other_answers_meanwhile(server):
    wait_for(lambda: len(replica_processes()) == 2, 60)
    killed = replica_processes()[0]
    killed.kill()
    for _ in range(10):
        assert content(httpx.post(server.url + "/v1/chat/completions", json=CHAT, timeout=60))
    wait_for(lambda: len(replica_processes()) == 2 and killed not in replica_processes(), 60)
    assert content(httpx.post(server.url + "/v1/chat/completions", json=CHAT, timeout=60))


@needs_ray
def test_only_the_loopback_interface_is_listened_on_and_no_usage_is_sent(server):
    from ray._common.usage import usage_lib

    found = [
        c.laddr
        for p in [psutil.Process(), *children()]
        for c in p.net_connections("inet")
        if c.status == "LISTEN"
    ]
    assert len(found) > 5 and {address.ip.removeprefix("::ffff:") for address in found} == {"127.0.0.1"}
    assert not usage_lib.usage_stats_enabled()


@needs_ray
def test_what_cannot_be_deployed_is_refused(ray):
    from course_lib.serve.cluster import deploy, replicated

    with pytest.raises(CourseError, match="no flag for precision"):
        replicated({"source": "haneul-1m", "precision": "float32"})
    with pytest.raises(CourseError, match="99 CPUs are needed"), deploy(MODEL, replicas=99):
        pass
    with (
        bind(0) as taken,
        pytest.raises(CourseError, match="cannot be used"),
        deploy(MODEL, port=taken.getsockname()[1]),
    ):
        pass


@needs_ray
def test_a_killed_program_leaves_no_process():
    code = """
        import psutil, sys
        from course_lib.ray_connection import connected
        with connected("local"):
            print(*[p.pid for p in psutil.Process().children(recursive=True)], flush=True)
            sys.stdin.read()
    """
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert len(pids) > 5
    program.kill()
    program.wait()
    wait_for(lambda: all(map(gone, pids)), 100)  # two agents of Ray wait a minute for their own server
