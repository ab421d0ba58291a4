"""Start llama.cpp in this process by xllamacpp, and read its responses."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.measure.hardware import usable_cores
from course_lib.models.drivers.streaming import iterate_in_thread
from course_lib.models.schema.spec import ModelSpec

SMALL_MODEL_BYTES = 64_000_000  # for smaller models, threads mostly wait for each other (measured)


def start_servers(spec: ModelSpec, file: Path, context: int, adapters: list[tuple[Path, float]]) -> list[Any]:
    """Load a GGUF file; a small model is loaded several times, with one thread each. Returns these instances.

    context: the maximum number of tokens of a prompt and its answer. adapters: pairs of a GGUF file and its
    weight. Raises CourseError if llama.cpp cannot load the file.
    """
    import xllamacpp

    cores = int(os.environ.get("OMP_NUM_THREADS") or usable_cores())
    small = file.stat().st_size < SMALL_MODEL_BYTES
    slots = spec.batch_size or 1  # texts that are computed at the same time
    instances = min(cores, slots) if small else 1
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_parallel = -(-slots // instances)
    params.n_ctx = params.n_parallel * context
    params.model_alias = {spec.name}
    params.warmup, params.verbosity, params.ui = False, -1, False
    params.cache_ram_mib = 0  # the default stores the KV caches of prompts, up to 8 GiB (measured)
    params.embedding = spec.task == "text-embedding"
    if params.embedding:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1 if small else cores
    params.n_gpu_layers = -1 if _use_gpu(spec, xllamacpp) else 0
    modes = xllamacpp.llama_load_mode
    params.load_mode = {
        None: modes.LLAMA_LOAD_MODE_AUTO,
        True: modes.LLAMA_LOAD_MODE_MMAP,
        False: modes.LLAMA_LOAD_MODE_NONE,
    }[spec.low_cpu_mem_usage]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), weight) for path, weight in adapters]
    try:
        return [xllamacpp.Server(params) for _ in range(instances)]
    except RuntimeError as error:
        raise CourseError(f"llama.cpp cannot load {file.name}: {error}", "course doctor") from error


def _use_gpu(spec: ModelSpec, xllamacpp: Any) -> bool:
    """Whether to run the model on a GPU.

    Raises CourseError if `spec` requires one and llama.cpp finds none.
    """
    available = any("GPU" in str(device["type"]) for device in xllamacpp.get_device_info())
    if spec.device in ("cuda", "mps") and not available:
        what = f"device={spec.device!r}: this build of llama.cpp finds no GPU"
        raise CourseError(what, 'load(..., device="auto")')
    return available and spec.device != "cpu"


def raise_on_error(response: Any) -> Any:
    """Return a response of llama.cpp. Raises CourseError with llama.cpp's message if it is an error."""
    if isinstance(response, dict) and "error" in response:
        error = response["error"]
        message = error.get("message", error) if isinstance(error, dict) else error
        raise CourseError(f"llama.cpp refused: {message}", "course doctor")
    return response


def stream_events(handle: Callable[..., Any], request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of a streamed request as they arrive. Leaving the loop early stops the generation.

    handle: a method of an xllamacpp Server that takes a request and a callback.
    """

    def work(put: Callable[[Any], None], stop: threading.Event) -> None:
        def on_event(event: Any) -> bool:
            put(event)
            return stop.is_set()

        try:
            handle(request, on_event)
        except Exception as error:
            put({"error": str(error)})

    for event in iterate_in_thread(work):
        yield raise_on_error(event)
