"""Run a model over a data set, batch by batch: in this process, or in several processes.

The several processes are started by Ray Data (docs.ray.io), on this machine or on a cluster. The results can
be written to a file, from which an interrupted run continues.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib import checkpoint
from course_lib.errors import CourseError

if TYPE_CHECKING:
    from course_lib.models import ModelSpec

Function = Callable[[list[Any]], Sequence[Any]]  # takes a batch of items, returns a value for each item
WORKERS = 2  # default number of Ray's worker processes
MAX_DEATHS = 3  # how often a worker that dies is replaced; Ray's default is without limit


def map_batches(
    load: Callable[[], Function],
    items: Sequence[Any],
    *,
    settings: str = "",
    batch_size: int = 8,
    output: Path | str | None = None,
    progress: bool = False,
    address: str | None = None,
    workers: int | None = None,
    gpus: float | None = None,
) -> list[Any]:
    """Return a value for each item, in the order of the items.

    load: loads a model and returns the function that computes the values of a batch; it is called once in
    each process. Items and values must be JSON values; a value that is a tuple comes back as a list.
    batch_size: items per call; it does not depend on the number of workers, so the values do not, either.
    settings: a text that identifies the model and its options. A later call continues the output of an
    earlier one only if settings, items and batch_size are the same.
    output: a JSON Lines file to which each batch is appended, and from which an interrupted call continues.
    progress: show a progress bar. address: None computes in this process, "local" in processes of this
    machine, "auto" or a URL on a cluster (see `ray_connection.connected`). workers: the number of processes
    on Ray, by default 2; one that dies is replaced, and its batch is computed again. gpus: the number of GPUs
    of each worker, such as 1 or 0.5.

    Raises CourseError for a batch_size or a number of workers below 1, for the output file of another call,
    for workers or gpus without an address, if Ray is missing or has too few CPUs or GPUs, and for a batch
    whose workers die again and again. Errors of `load` and of its function are raised as they are.
    """
    from tqdm.auto import tqdm

    if batch_size < 1:
        raise CourseError(f"batch_size={batch_size}", "batch_size=8")
    if workers is not None and workers < 1:
        raise CourseError(f"workers={workers}", f"workers={WORKERS}")
    if address is None and (workers, gpus) != (None, None):
        raise CourseError(f"workers={workers}, gpus={gpus} without an address", 'address="local"')
    header = _header(settings, items, batch_size)
    done = _resume(Path(output), header) if output is not None else []
    batches = [list(items[i : i + batch_size]) for i in range(len(done), len(items), batch_size)]
    if address is None or not batches:
        results = _in_this_process(load, batches)
    else:
        results = _on_ray(load, batches, address, workers or WORKERS, gpus)
    bar = tqdm(total=len(items), initial=len(done), unit="row", disable=not progress)
    with bar, closing(results):
        for lines in results:
            if output is not None:
                checkpoint.append(Path(output), lines)
            done += lines
            bar.update(len(lines))
    return [json.loads(line) for line in done]


def model_function(model: ModelSpec | str | dict[str, Any], method: str, **options: Any) -> Function:
    """Load a model, and return one of its methods ("generate", "embed", "classify") as a function of a batch.

    For example, with haneul-4m, a small language model of the course, `map_batches` takes as its `load`
    `functools.partial(model_function, "haneul-4m", "generate", max_output_length=48)`.
    options: keyword arguments of the method.
    """
    from course_lib.models import load

    engine = load(model)

    def function(batch: list[Any]) -> list[Any]:
        values = getattr(engine, method)(batch, **options)
        return values.tolist() if hasattr(values, "tolist") else list(values)

    return function


def _lines(function: Function, batch: list[Any]) -> list[str]:
    """Compute a batch, and return its values as JSON.

    Raises ValueError unless there is one value per item, TypeError for a value that is not a JSON value.
    """
    values = function(batch)
    if len(values) != len(batch):
        raise ValueError(f"the function returned {len(values)} values for {len(batch)} items")
    return [json.dumps(value, ensure_ascii=False) for value in values]


def _in_this_process(load: Callable[[], Function], batches: list[list[Any]]) -> Generator[list[str]]:
    function = load() if batches else lambda _: []
    for batch in batches:
        yield _lines(function, batch)


class _Worker:
    """Computes batches in a process that Ray Data starts. A row of Ray Data is one batch, as JSON."""

    def __init__(self, load: Callable[[], Function]) -> None:
        self.function = load()

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[str]]:
        return {"batch": [json.dumps(_lines(self.function, json.loads(batch))) for batch in rows["batch"]]}


def _on_ray(
    load: Callable[[], Function], batches: list[list[Any]], address: str, workers: int, gpus: float | None
) -> Generator[list[str]]:
    from course_lib.ray_connection import check_resources, connected

    with connected(address) as ray:
        import ray.data as ray_data

        check_resources(ray, workers, workers * (gpus or 0))
        ray_data.DataContext.get_current().enable_progress_bars = False
        rows = ray_data.from_items([{"batch": json.dumps(batch)} for batch in batches]).map_batches(
            _Worker,
            fn_constructor_args=(load,),
            batch_size=1,
            compute=ray_data.ActorPoolStrategy(size=workers),
            num_gpus=gpus,
            ray_remote_args_fn=lambda: {"max_restarts": MAX_DEATHS, "max_task_retries": MAX_DEATHS},
        )
        rows.context.execution_options.preserve_order = True
        rows.context.raise_original_map_exception = True
        try:
            for row in rows.iter_rows():
                yield json.loads(row["batch"])
        except ray.exceptions.ActorDiedError as error:
            what = f"a worker died {MAX_DEATHS + 1} times: it loads too much, or a batch ends its process"
            raise CourseError(what, "map_batches(load, items, address=None)") from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _header(settings: str, items: Sequence[Any], batch_size: int) -> dict[str, Any]:
    """Return the first line of the output file, by which a later call recognises its own file."""
    digest = hashlib.sha256(json.dumps(list(items)).encode()).hexdigest()
    return {"settings": settings, "batch_size": batch_size, "rows": len(items), "sha256": digest}


def _resume(path: Path, header: dict[str, Any]) -> list[str]:
    """Return the lines of the output's complete batches. Raises CourseError for another call's file."""
    what = f"{path.name} is the output of another model, other settings, another table or batch_size"
    foreign = CourseError(what, f'output="{path.stem}-2{path.suffix}"')
    return checkpoint.resume(path, header, foreign, batch_size=header["batch_size"], total=header["rows"])
