"""Serve a model by several replicas (copies of the course's own server), on one machine or a cluster.

Each replica runs the web application of `app.py`, so all paths of the Ollama and OpenAI protocols are the
same. Ray Serve sends each request to a replica with few requests, and replaces replicas that die.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.schema.sources import LocalSource
from course_lib.models.schema.spec import ModelSpec
from course_lib.ray_connection import SEVERAL_MACHINES, check_resources, connected
from course_lib.serve.limits import MAX_QUEUED, MAX_RUNNING
from course_lib.serve.managed import start_command
from course_lib.serve.process import free_port

REPLICA_TRIES = 2  # attempts to start a replica before the deployment fails


@dataclass(frozen=True)
class Deployment:
    """A deployed model. url: the server's address. model: its name in requests."""

    url: str
    model: str


class Replica:
    """The course's server with one loaded model. model: as for the command `course serve --model`."""

    def __init__(self, model: str) -> None:
        from course_lib.serve import given_models
        from course_lib.serve.settings import Settings
        from course_lib.serve.store import Store
        from course_lib.serve.worker import Worker

        if os.environ.get(SEVERAL_MACHINES) == "0":
            _listen_on_loopback()
        self._folder = tempfile.TemporaryDirectory(prefix="course-replica-")
        store = Store(Path(self._folder.name))
        given_models.add(store, model)
        self.worker = Worker(store, Settings.from_environment())
        self.worker.load(store.find(model.rpartition("=")[2]), None)

    def __serve_build_asgi_app__(self) -> Any:
        """Return the application; Ray Serve calls this."""
        from course_lib.serve.app import application

        return application(self.worker)


def _listen_on_loopback() -> None:
    """Bind this replica's gRPC port, which Ray Serve 2.60 binds to all interfaces, to 127.0.0.1."""
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _: add_port(server, "127.0.0.1:0")


def replicated(model: Any, *, replicas: int | tuple[int, int] = 1, cpus: float = 1, gpus: float = 0) -> Any:
    """Return a model as a Ray Serve application, for `deploy`, `serve run` or `serve deploy`.

    model: a specification as `load` takes it. Its batch_size is the number of requests that a replica
    computes at the same time (continuous batching). Its context_length and keep_alive have an effect too; any
    other field raises CourseError. replicas: the number of replicas, or (smallest, largest) number; then the
    number of requests decides. cpus, gpus: for each replica, which computes with as many threads as it has
    CPUs.
    """
    from ray import serve

    spec = ModelSpec.parse(model)
    start = start_command("course", spec, 0)
    slots = spec.batch_size or MAX_RUNNING  # requests at the same time
    scale: dict[str, Any] = {"num_replicas": replicas}
    if not isinstance(replicas, int):
        fewest, most = replicas
        scaling = {"min_replicas": fewest, "max_replicas": most, "target_ongoing_requests": slots}
        scale = {"autoscaling_config": scaling}
    environment = start.variables | {"OMP_NUM_THREADS": str(max(1, int(cpus)))}
    deployment = serve.deployment(serve.ingress()(Replica)).options(
        name=spec.name,
        max_ongoing_requests=slots,
        max_queued_requests=MAX_QUEUED,
        max_constructor_retry_count=REPLICA_TRIES,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus, "runtime_env": {"env_vars": environment}},
        **scale,
    )
    return deployment.bind(_source(spec))


def _source(spec: ModelSpec) -> str:
    """Return the value of `course serve --model` for a model."""
    if isinstance(spec.source, LocalSource) and spec.source.path.suffix == ".gguf":
        return f"{spec.source.path.absolute()}={spec.name}"
    return spec.name


@contextlib.contextmanager
def deploy(
    model: Any,
    *,
    replicas: int | tuple[int, int] = 1,
    cpus: float = 1,
    gpus: float = 0,
    port: int = 0,
    address: str = "local",
) -> Iterator[Deployment]:
    """Serve a model for the `with` block; the replicas end with it.

    model, replicas, cpus, gpus: as for `replicated`. port: on the loopback interface of the machine where Ray
    Serve's proxy runs; 0 chooses a free one. address: the machines, see `ray_connection.connected`. Raises
    CourseError if Ray is missing or has too few CPUs or GPUs, if the port is taken, for a field of the
    specification that has no effect here, and if a replica does not start.
    """
    with connected(address) as ray:
        port = free_port(port)
        from ray import serve

        fewest = replicas if isinstance(replicas, int) else replicas[0]
        check_resources(ray, fewest * cpus, fewest * gpus)
        app = replicated(model, replicas=replicas, cpus=cpus, gpus=gpus)
        name = ModelSpec.parse(model).name
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        try:
            try:
                serve.run(app, name=name, route_prefix="/")
            except RuntimeError as error:
                raise CourseError(f"no replica of {name} started: {error}", "course doctor") from error
            yield Deployment(f"http://127.0.0.1:{port}", name)
        finally:
            serve.shutdown()
