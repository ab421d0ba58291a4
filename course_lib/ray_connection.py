"""Connect to Ray (https://docs.ray.io), which runs functions and servers on one or more machines.

Used by `batch`, and by `serve.cluster` for several replicas (copies) of a model.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from course_lib.environment import variables
from course_lib.errors import CourseError

INSTALL = 'pip install -e ".[cluster]"'
OBJECT_STORE_BYTES = 256_000_000  # memory that processes share on this machine; Ray would take 30% of all
START_TRIES = 3  # a busy machine may need more than the 30 s that Ray gives its processes
# Read by Ray when it is imported: if 0, it makes no cluster of several machines, and listens on 127.0.0.1.
SEVERAL_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_address = ""  # the address to which `connected` has connected this process


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect this process to Ray for the `with` block, which receives the module `ray`.

    address: "local" starts Ray on this machine, for this process and on the loopback interface; "auto" joins
    the Ray that runs on this machine, which may be part of a cluster; any other text is a cluster's address,
    as ray.init takes it. A connection that exists already is used and stays. No usage statistics are sent.
    Raises CourseError if Ray is not installed, cannot be reached, or is connected to another address.
    """
    global _address
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = _import(address)
    if ray.is_initialized():
        if address not in ("auto", _address):
            what = f"this process is connected to Ray at {_address or 'an address of its own'}, not {address}"
            raise CourseError(what, "ray.shutdown()")
        yield ray
        return
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            # A token, known to this process and its children alone, makes Ray ask every connection for it.
            stack.enter_context(variables({"RAY_AUTH_TOKEN": secrets.token_hex(32)}))
            folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
            options |= {"_temp_dir": stack.enter_context(folder), "_node_ip_address": "127.0.0.1"}
            options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        _start(ray, options)
        stack.callback(ray.shutdown)
        if address == "local" and ray.util.get_node_ip_address() != "127.0.0.1":
            what = "Ray was imported before, so it would listen on all interfaces"
            raise CourseError(what, "start Python again, and do not import ray yourself")
        _address = address
        try:
            yield ray
        finally:
            _address = ""  # a later connection is the caller's own


def _start(ray: Any, options: dict[str, Any]) -> None:
    """Start Ray, or connect to it. Raises CourseError, and leaves no process, if that fails.

    Ray gives its processes 30 seconds to start. A machine that is busy may need more, so it is tried again.
    """
    import psutil

    before = psutil.Process().children(recursive=True)
    for tries_left in reversed(range(START_TRIES if options["address"] == "local" else 1)):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises Exception itself
            ray.shutdown()
            for process in set(psutil.Process().children(recursive=True)) - set(before):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if not tries_left:
                what = f"no connection to Ray at {options['address']}: {' '.join(str(error).split())[:300]}"
                raise CourseError(what, "ray status") from error


def check_resources(ray: Any, cpus: float, gpus: float) -> None:
    """Raise CourseError for more CPUs or GPUs than the machines have; Ray would wait for them for ever."""
    resources = ray.cluster_resources()
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > resources.get(name, 0):
            what = f"{needed:g} {name}s are needed; Ray has {resources.get(name, 0):g}"
            raise CourseError(what, "ask for fewer workers or replicas")


def _import(address: str) -> Any:
    """Import Ray. Raises CourseError if it is not installed."""
    if address == "local" and "ray" not in sys.modules:
        os.environ[SEVERAL_MACHINES] = "0"  # stays: the processes that Ray starts read it too
    try:
        import ray
    except ImportError as error:
        raise CourseError(f"address={address!r} needs Ray, which is not installed", INSTALL) from error
    return ray
