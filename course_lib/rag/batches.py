"""Classify a table batch by batch, into a file from which an interrupted run continues."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.rag.classifier import Classification, as_text

if TYPE_CHECKING:
    from course_lib.rag.classifier import Classifier

COLUMNS = ("label", "confidence", "reason")


def classify_frame(
    classifier: Classifier, frame: Any, batch_size: int, output: Path | str | None, progress: bool
) -> Any:
    """Implement `Classifier.classify_batch`."""
    import pandas as pd
    from tqdm.auto import tqdm

    if not isinstance(frame, pd.DataFrame):
        raise CourseError(
            f"classify_batch takes a DataFrame, not {type(frame).__name__}", "pandas.DataFrame(rows)"
        )
    if batch_size < 1:
        raise CourseError(f"batch_size={batch_size}", "classify_batch(frame, batch_size=8)")
    texts = [as_text(row, classifier.template) for row in frame.to_dict("records")]
    header = _header(classifier, texts, batch_size)
    done = _resume(Path(output), header, batch_size) if output is not None else []
    with tqdm(total=len(texts), initial=len(done), unit="row", disable=not progress) as bar:
        for start in range(len(done), len(texts), batch_size):
            found = classifier.classify_many(texts[start : start + batch_size])
            rows = [_row(c) for c in found]
            if output is not None:
                _append(Path(output), rows)
            done += rows
            bar.update(len(rows))
    return pd.DataFrame(done, columns=list(COLUMNS), index=frame.index)


def _row(found: Classification) -> dict[str, Any]:
    return {"label": found.label, "confidence": round(found.confidence, 6), "reason": found.reason}


def _header(classifier: Classifier, texts: list[str], batch_size: int) -> dict[str, Any]:
    """Return what a later call must have in common with this one: the file's first line."""
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    settings = f"{classifier!r}, {classifier.temperature}, {classifier.threshold}"
    return {"classifier": settings, "batch_size": batch_size, "rows": len(texts), "sha256": digest}


def _resume(path: Path, header: dict[str, Any], batch_size: int) -> list[dict[str, Any]]:
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


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "ab") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        file.flush()
        os.fsync(file.fileno())
