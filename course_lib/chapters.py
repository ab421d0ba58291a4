"""Find, read and execute the course's chapters, which are Jupyter notebooks."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_write_text
from course_lib.data import CHAPTERS, WORKSPACE, restore
from course_lib.errors import CourseError
from course_lib.lazy import jsonschema_validators


def all_chapters(folder: Path = CHAPTERS) -> list[Path]:
    """Return the paths of all chapters, sorted by number."""
    return sorted(folder.glob("[0-9][0-9]-*.ipynb"))


def chapter_path(number: str) -> Path:
    """Return the path of the chapter with this number ('1' or '01'). Raises CourseError if there is none."""
    for path in all_chapters():
        if path.name[:2] == number.zfill(2):
            return path
    raise CourseError(
        f"no chapter {number!r}; there are {', '.join(p.name[:2] for p in all_chapters())}", "course run 00"
    )


def read_notebook(path: Path) -> Any:
    """Read a notebook. Raises CourseError, with the reason, if the file is not a valid notebook."""
    jsonschema_validators()  # without its slow part, before nbformat imports it with that
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        return notebook
    except (OSError, ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        empty = path.is_file() and not path.stat().st_size
        reason = "the file is empty" if empty else str(error.__cause__ or error).partition("\n")[0]
        raise CourseError(
            f"{path.name} is not a readable notebook: {reason}", restore(f"chapters/{path.name}")
        ) from error


@dataclass(frozen=True)
class Execution:
    """The result of executing a notebook.

    seconds: wall time. peak_bytes: peak resident memory of the kernel and its child processes. error: the
    message of the error that stopped the run, or ''.
    """

    seconds: float
    peak_bytes: int
    error: str


def execute(
    notebook: Any, folder: Path, on_cell: Callable[[Any, Any], object] = lambda *_: None
) -> Execution:
    """Execute the cells of `notebook` in place, in order, until one fails.

    folder: the kernel's working directory. on_cell: called as `on_cell(client, cell)` after every cell.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=40"],  # hides a warning about encryption
    )
    start, message = time.monotonic(), ""
    with client.setup_kernel(), PeakMemory(client.km.provisioner.pid) as peak:
        try:
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
                on_cell(client, cell)
        except CellExecutionError as error:
            message = f"{error.ename}: {error.evalue}"
        except (
            CellTimeoutError,
            DeadKernelError,
        ) as error:  # for example, the kernel dies when memory runs out
            message = f"{type(error).__name__}: {error}"
    return Execution(time.monotonic() - start, peak.bytes, message)


class PeakMemory:
    """A context manager that samples a process and its children; `bytes` is their peak resident memory.

    A peak counts only if two samples in a row reach it: for some milliseconds after a fork, the memory of a
    process is counted twice, for itself and for its new child.
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.bytes = pid, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        last = 0
        while not self._done.wait(0.05):
            now = sum(map(_resident, _with_descendants(self.pid)))
            self.bytes, last = max(self.bytes, min(last, now)), now


def _resident(pid: int) -> int:
    """The resident bytes of a process, 0 if it has ended."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _with_descendants(pid: int) -> list[int]:
    """The ids of a process and its descendants; [] if it has ended.

    Linux lists the children of each thread in /proc. psutil reads every process of the machine instead, which
    took a tenth of a core at twenty samples a second (measured).
    """
    import psutil

    if not Path(f"/proc/{pid}/task/{pid}/children").exists():
        with contextlib.suppress(psutil.Error):
            return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        return []
    ids = [pid]
    for parent in ids:  # the loop also visits the ids that it appends
        with contextlib.suppress(OSError):  # a process that has ended
            for thread in os.listdir(f"/proc/{parent}/task"):
                with contextlib.suppress(OSError):  # a thread that has ended
                    ids += map(int, Path(f"/proc/{parent}/task/{thread}/children").read_text().split())
    return ids


def _execute_with_progress(number: str) -> tuple[Path, Any, Execution]:
    """Execute a chapter with a progress bar; return its path, the executed notebook and the result."""
    from tqdm import tqdm

    path = chapter_path(number)
    notebook = read_notebook(path)
    with tqdm(total=sum(c.cell_type == "code" for c in notebook.cells), desc=path.stem, unit=" cells") as bar:
        run = execute(notebook, CHAPTERS, lambda client, cell: bar.update(cell.cell_type == "code"))
    return path, notebook, run


WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # useless in a saved file: it needs a live kernel


def save_chapter(number: str) -> int:
    """Execute a chapter and save its outputs in chapters/. For the course's authors.

    Returns 1 if a cell failed, else 0; then nothing is saved.

    Execution counts, texts and pictures are saved; times, widget state and kernel metadata are not.
    """
    import nbformat

    path, notebook, run = _execute_with_progress(number)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _is_progress_bar(o.get("data", {}))]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET_VIEW, None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    if not run.error:
        atomic_write_text(path, nbformat.writes(notebook) + "\n")
    outcome = f"not saved: {run.error}" if run.error else "saved"
    print(f"{path.name}: {run.seconds / 60:.1f} min, peak {run.peak_bytes / 2**30:.2f} GiB, {outcome}")
    return 1 if run.error else 0


def _is_progress_bar(data: dict[str, Any]) -> bool:
    """Whether an output is a progress bar, whose saved text would show only its start."""
    return WIDGET_VIEW in data and "%|" in data.get("text/plain", "")


def run_chapter(number: str, out: Path = WORKSPACE / "runs") -> int:
    """Execute a chapter with a progress bar, and write the result to `out` as a notebook and as an HTML page.

    Returns 0, or 1 if a cell failed; the cells that ran before it are written too.
    """
    import nbformat
    from nbconvert import HTMLExporter

    path, notebook, run = _execute_with_progress(number)
    try:
        atomic_write_text(out / f"{path.stem}.ipynb", nbformat.writes(notebook))
        atomic_write_text(out / f"{path.stem}.html", HTMLExporter().from_notebook_node(notebook)[0])
    except OSError as error:
        raise CourseError(
            f"the result cannot be written to {out}: {error}", "make that folder writable"
        ) from error
    print(f"The chapter as a page: {out / path.stem}.html\nAs a notebook:         {out / path.stem}.ipynb")
    if run.error:
        print(f"A cell failed: {run.error}")
    return 1 if run.error else 0
