"""Find chapters, read them, and run one cell by cell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_write_text
from course_lib.data import CHAPTERS, WORKSPACE
from course_lib.errors import CourseError


def all_chapters(folder: Path = CHAPTERS) -> list[Path]:
    """Every chapter, in order."""
    return sorted(folder.glob("[0-9][0-9]-*.ipynb"))


def chapter_path(number: str) -> Path:
    """The chapter with this number ('1' and '01' are the same). Raises CourseError when there is none."""
    for path in all_chapters():
        if path.name[:2] == number.zfill(2):
            return path
    raise CourseError(
        f"no chapter {number!r}; there are {', '.join(p.name[:2] for p in all_chapters())}", "course run 00"
    )


def read_notebook(path: Path) -> Any:
    """Read a notebook. Raises CourseError, with the reason, when the file is no valid one."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        return notebook
    except (OSError, ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise CourseError(
            f"{path.name} is no readable notebook: {error}", f"git checkout -- chapters/{path.name}"
        ) from error


@dataclass(frozen=True)
class Execution:
    """A run: seconds, the kernel's peak of resident memory in bytes, and what failed, if anything did."""

    seconds: float
    peak_bytes: int
    error: str


def execute(
    notebook: Any, folder: Path, on_cell: Callable[[Any, Any], object] = lambda *_: None
) -> Execution:
    """Run every cell of `notebook`, in place, with `folder` as the kernel's own, until one fails.

    `on_cell(client, cell)` is called after each code cell. The peak counts the kernel's children, too.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=[
            "--IPKernelApp.log_level=40"
        ],  # else each kernel warns that loopback is not encrypted
    )
    begun, failed = time.monotonic(), ""
    with client.setup_kernel(), PeakMemory(client.km.provisioner.pid) as peak:
        try:
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
                on_cell(client, cell)
        except CellExecutionError as error:
            failed = f"{error.ename}: {error.evalue}"
        except (CellTimeoutError, DeadKernelError) as error:  # out of time, or killed, as a full memory does
            failed = f"{type(error).__name__}: {error}"
    return Execution(time.monotonic() - begun, peak.bytes, failed)


class PeakMemory:
    """Samples a process and its children while the block runs: `bytes` is their largest resident memory."""

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
        import psutil

        def resident(process: psutil.Process) -> int:
            try:
                return int(process.memory_info().rss)
            except psutil.Error:  # it ended between two samples
                return 0

        while not self._done.wait(0.05):
            try:
                process = psutil.Process(self.pid)
                processes = [process, *process.children(recursive=True)]
                self.bytes = max(self.bytes, sum(map(resident, processes)))
            except psutil.Error:
                continue


def _execute_with_progress(number: str) -> tuple[Path, Any, Execution]:
    """A chapter, executed with a progress bar."""
    from tqdm import tqdm

    path = chapter_path(number)
    notebook = read_notebook(path)
    with tqdm(total=sum(c.cell_type == "code" for c in notebook.cells), desc=path.stem, unit=" cells") as bar:
        run = execute(notebook, CHAPTERS, lambda client, cell: bar.update(cell.cell_type == "code"))
    return path, notebook, run


WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # of no use without the kernel that made it


def save_chapter(number: str) -> int:
    """For authors: execute a chapter and save its outputs in place. Returns 1 when a cell failed.

    Execution counts, texts and pictures are saved; times, widget state and the kernel's description are not.
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
    """Whether an output's data are a progress bar, of which only the beginning would be saved."""
    return WIDGET_VIEW in data and "%|" in data.get("text/plain", "")


def run_chapter(number: str, out: Path = WORKSPACE / "runs") -> int:
    """Execute a chapter cell by cell, with a progress bar, into `out`: a notebook and a page to read.

    Returns 0, or 1 when a cell failed; what ran until then is written too.
    """
    import nbformat
    from nbconvert import HTMLExporter

    path, notebook, run = _execute_with_progress(number)
    try:
        atomic_write_text(out / f"{path.stem}.ipynb", nbformat.writes(notebook))
        atomic_write_text(out / f"{path.stem}.html", HTMLExporter().from_notebook_node(notebook)[0])
    except OSError as error:
        raise CourseError(
            f"the result cannot be written to {out}: {error}", "run it in a folder you can write"
        ) from error
    print(f"The chapter as a page: {out / path.stem}.html\nAs a notebook:         {out / path.stem}.ipynb")
    if run.error:
        print(f"A cell failed: {run.error}")
    return 1 if run.error else 0
