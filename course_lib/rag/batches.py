"""Classify a table batch by batch, into a file from which an interrupted run continues."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

Rows = list[dict[str, Any]]


def run_in_batches(
    classify: Callable[[list[str]], Rows],
    texts: Sequence[str],
    settings: str,
    batch_size: int,
    output: Path | str | None,
    progress: bool,
) -> Rows:
    """Return the rows that `classify` makes of the texts, `batch_size` at a time.

    output: the file that each batch is added to, and from which an interrupted call goes on. settings: what
    a later call must have in common with this one, beside the texts. progress: show a bar. Raises CourseError
    for a batch_size below 1 and for the file of another call.
    """
    from tqdm.auto import tqdm

    if batch_size < 1:
        raise CourseError(f"batch_size={batch_size}", "classify_batch(frame, batch_size=8)")
    header = _header(settings, texts, batch_size)
    done = _resume(Path(output), header, batch_size) if output is not None else []
    with tqdm(total=len(texts), initial=len(done), unit="row", disable=not progress) as bar:
        for start in range(len(done), len(texts), batch_size):
            rows = classify(list(texts[start : start + batch_size]))
            if output is not None:
                _append(Path(output), rows)
            done += rows
            bar.update(len(rows))
    return done


def _header(settings: str, texts: Sequence[str], batch_size: int) -> dict[str, Any]:
    """Return the first line of the file, by which a later call recognises its own."""
    digest = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
    return {"classifier": settings, "batch_size": batch_size, "rows": len(texts), "sha256": digest}


def _resume(path: Path, header: dict[str, Any], batch_size: int) -> Rows:
    """Return the rows of the complete batches in the file, and cut off what comes after them.

    The last batch may have been written in part. Raises CourseError if the file belongs to another call.
    """
    first = (json.dumps(header, ensure_ascii=False) + "\n").encode()
    if not path.exists() or first.startswith(path.read_bytes()):  # new, or killed within the first line
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(first)
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is incomplete
    if not lines or lines[0] + b"\n" != first:
        what = f"{path.name} is the output of another classifier, table or batch_size"
        raise CourseError(what, f'classify_batch(frame, output="{path.stem}-2{path.suffix}")')
    rows = lines[1:]
    complete = rows if len(rows) == header["rows"] else rows[: len(rows) // batch_size * batch_size]
    with open(path, "r+b") as file:
        file.truncate(sum(len(line) + 1 for line in (lines[0], *complete)))
    return [json.loads(line) for line in complete]


def _append(path: Path, rows: Rows) -> None:
    with open(path, "ab") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        file.flush()
        os.fsync(file.fileno())
