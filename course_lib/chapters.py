"""Find chapters, and run one in the terminal."""

from __future__ import annotations

import os
from pathlib import Path

from course_lib.data import CHAPTERS, ROOT
from course_lib.errors import CourseError

WORKSPACE = ROOT / "workspace"


def all_chapters() -> list[Path]:
    """Every chapter, in order."""
    return sorted(CHAPTERS.glob("[0-9][0-9]-*.ipynb"))


def chapter(number: str) -> Path:
    """The chapter with this number ('1' and '01' are the same). Raises CourseError when there is none."""
    for path in all_chapters():
        if path.name[:2] == number.zfill(2):
            return path
    raise CourseError(f"no chapter {number!r}; there are {', '.join(p.name[:2] for p in all_chapters())}", "course run 00")


def run_chapter(number: str, out: Path = WORKSPACE) -> int:
    """Execute a chapter cell by cell, with a progress bar, into `out`: a notebook and a page to read.

    Returns 0, or 1 when a cell failed; what ran until then is written too.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert import HTMLExporter
    from tqdm import tqdm

    path = chapter(number)
    notebook = nbformat.read(path, as_version=4)
    bar = tqdm(total=len(notebook.cells), desc=path.stem, unit=" cells")
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(CHAPTERS)}},
        on_cell_complete=lambda cell, cell_index: bar.update(cell_index + 1 - bar.n),
    )  # fmt: skip
    failed = None
    try:
        client.execute()
    except CellExecutionError as error:
        failed = error
    finally:
        bar.close()
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(out / f"{path.stem}.run.ipynb", nbformat.writes(notebook))
        _write(out / f"{path.stem}.html", HTMLExporter().from_notebook_node(notebook)[0])
    except OSError as error:
        raise CourseError(f"the result cannot be written to {out}: {error}", "run it in a folder you can write") from error
    print(f"The chapter as a page: {out / path.stem}.html\nAs a notebook:         {out / path.stem}.run.ipynb")
    if failed:
        print(f"A cell failed: {failed.ename}: {failed.evalue}")
    return 1 if failed else 0


def _write(path: Path, text: str) -> None:
    """Beside first, then into place: an interruption leaves the old file or the new one."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
