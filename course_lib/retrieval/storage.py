"""An index as files: numbers and text, nothing that could run, each with its SHA-256, and replaced as a whole or not at all.

FOLDER/manifest.json      settings, and the SHA-256 of every file
FOLDER/NAME/              the files; NAME is made of their hashes, so that the same index has the same bytes and names
The manifest is put in place last: until then the old index is there, whole. Hashes tell damage and mix-ups; who can write all
files can also write hashes that fit, so an index from a stranger deserves no more trust than the stranger.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from course_lib import data
from course_lib.atomic import atomic_write_text
from course_lib.errors import CourseError
from course_lib.retrieval.bm25 import BM25
from course_lib.retrieval.dense import Dense, query_vectors, unit_vectors
from course_lib.retrieval.documents import write_array
from course_lib.retrieval.lsa import LSA
from course_lib.retrieval.postings import Stored
from course_lib.retrieval.tokenize import Tokenizer

if TYPE_CHECKING:
    from course_lib.retrieval.hybrid import HybridRetriever

FORMAT = 1
PROBE = "Haneul Bank 하늘은행 2,000"  # two embedders that give it the same vector are taken for the same
SAME = 0.999  # cosine; one model in 16 and in 32 bits has more, another model far less
ANEW = "build the index anew and save it"
ARRAYS = Stored._fields[1:]
FILES = {
    "documents.jsonl",
    "tokens.json",
    "vectors.faiss",
    "embedder/probe.npy",
    *(f"{name}.npy" for name in ARRAYS),
}
LSA_FILES = {f"embedder/{name}" for name in LSA.FILES}
DATA = re.compile(r"[0-9a-f]{16}")  # name of a folder of files
OURS = re.compile(rf"{DATA.pattern}|manifest\.json|\..*")


# -- save ------------------------------------------------------------------------------------------------------------------


def save(retriever: HybridRetriever, folder: Path | str) -> None:
    """Write an index to a folder: a new one, an empty one, or one that holds an older index, which is replaced.

    Raises CourseError, before anything is changed, where it cannot be saved (a tokenizer that is no `Tokenizer`, a dense leg
    that is no `Dense`, metadata that JSON cannot hold), for a folder that holds something else, and where writing fails.
    """
    lexical, dense, folder = retriever.lexical, retriever.dense, Path(folder)
    if not isinstance(lexical.tokenizer, Tokenizer):
        raise CourseError(
            "its tokenizer is a function, of which files cannot tell another machine", "use a Tokenizer(...)"
        )
    if not isinstance(dense, Dense):
        raise CourseError(
            f"its vectors lie in {type(dense).__name__}, which keeps them itself",
            "save that, by its own means",
        )
    rows = "".join(_row(document) for document in retriever.documents)
    with _writing(folder) as made:
        (made / "embedder").mkdir()
        (made / "documents.jsonl").write_text(rows, encoding="utf-8")
        stored = lexical.stored()
        (made / "tokens.json").write_text(json.dumps(stored.tokens, ensure_ascii=False), encoding="utf-8")
        for name in ARRAYS:
            write_array(made / f"{name}.npy", getattr(stored, name))
        dense.write(made / "vectors.faiss")
        if isinstance(dense.embeddings, LSA):
            dense.embeddings.save(made / "embedder")
        write_array(made / "embedder" / "probe.npy", _probe(dense.embeddings))
        name, digests = _digests(made)
        manifest = {
            "format": FORMAT,
            "documents": len(retriever),
            "retriever": {
                field: getattr(retriever, field) for field in ("alpha", "candidates", "k", "fusion")
            },
            "lexical": {
                "tokenizer": lexical.tokenizer.settings(),
                "variant": lexical.variant,
                "k1": lexical.k1,
                "b": lexical.b,
            },
            "dense": {"kind": dense.kind, **dense.widths},
            "reranker": retriever.rerank if retriever.rerank == "none" else type(retriever.rerank).__name__,
            "embedder": "lsa" if isinstance(dense.embeddings, LSA) else type(dense.embeddings).__name__,
            "sha256": digests,
        }
        if not _there(folder, digests):  # the same index is saved again; it is left where it lies
            shutil.rmtree(folder / name, ignore_errors=True)
            os.replace(made, folder / name)
        atomic_write_text(
            folder / "manifest.json",
            json.dumps(manifest | {"self": _self(manifest)}, ensure_ascii=False, indent=1),
        )
        for other in folder.iterdir():
            if DATA.fullmatch(other.name) and other.name != name:
                shutil.rmtree(other, ignore_errors=True)


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """A place to write files to. Raises CourseError for a folder that is no index, and where another process is saving."""
    if folder.exists() and not folder.is_dir():
        raise CourseError(f"{folder} is a file", "name a folder")
    if odd := sorted(p.name for p in folder.glob("*") if not OURS.fullmatch(p.name)):
        raise CourseError(
            f"{folder} holds {odd[0]}, which is of no index",
            "name a new folder, which the index will have for itself",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            for left in folder.glob(".partial-*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
                (made := Path(partial) / "data").mkdir()
                yield made
    except Timeout:
        raise CourseError(
            f"another process is saving to {folder}", "wait until it is done, or name another folder"
        ) from None
    except (OSError, RuntimeError) as error:  # FAISS raises RuntimeError
        raise CourseError(
            f"the index was not saved: {' '.join(str(error).split())[-200:]}",
            f"make room, or save elsewhere; an older index in {folder} is as it was",
        ) from error


def _row(document: Document) -> str:
    """A line of JSON. Raises CourseError for what would not come back as it is."""
    row = {"id": document.id, "text": document.page_content, "metadata": document.metadata}
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        line.encode("utf-8")
        whole = json.loads(line) == row
    except (TypeError, ValueError) as error:
        raise CourseError(
            f"document {document.id!r} cannot be written: {error}", "metadata: text, numbers, lists and dicts"
        ) from error
    if not whole:
        raise CourseError(
            f"the metadata of {document.id!r} would come back changed: {document.metadata!r:.80}",
            "use lists for tuples and text for keys",
        )
    return line + "\n"


def _probe(embeddings: Embeddings) -> Any:
    return unit_vectors(query_vectors(embeddings, [PROBE]), 1)[0]


def _digests(made: Path) -> tuple[str, dict[str, str]]:
    """A name that is made of the content, and file -> SHA-256, both as the manifest has them."""
    found = {
        path.relative_to(made).as_posix(): data.sha256(path)
        for path in sorted(made.rglob("*"))
        if path.is_file()
    }
    name = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]
    return name, {f"{name}/{file}": digest for file, digest in found.items()}


def _there(folder: Path, digests: dict[str, str]) -> bool:
    return all(
        (folder / file).is_file() and data.sha256(folder / file) == digest for file, digest in digests.items()
    )


def _self(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


# -- load ------------------------------------------------------------------------------------------------------------------


def load(folder: Path | str, embeddings: Embeddings | None = None, rerank: Any = None) -> HybridRetriever:
    """Read what `save` wrote. embeddings: the embedder with which it was built, but for LSA, which is part of the index.

    rerank: the reranker, or "none"; it has to be said where there was one. Raises CourseError for a folder without an index,
    for one that is damaged, altered or of a newer version, for another embedder, for a reranker that is not given, and where
    packages cut text into tokens differently than when it was built.
    """
    folder = Path(folder)
    with _reading(folder):
        manifest = _manifest(folder)
        data.verify(folder, ANEW)
        made = folder / next(iter(manifest["sha256"])).split("/")[0]
        had = manifest.get("reranker", "none")  # indexes of the first version say nothing of one
    if rerank is None and had != "none":
        raise CourseError(
            f"this index was searched with a reranker of class {had}, which is a model and no part of the index",
            "pass one, or say that there is none: load(folder, embeddings, rerank='none')",
        )
    embedder = _embedder(manifest["embedder"], made / "embedder", embeddings)
    with _reading(folder):
        return _retriever(manifest, made, embedder, rerank or "none")


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raises CourseError for whatever files with fitting hashes and unfitting content lead to."""
    try:
        yield
    except CourseError:
        raise
    except Exception as error:
        raise CourseError(
            f"the index in {folder} cannot be read: {type(error).__name__}: {str(error)[-200:]}", ANEW
        ) from error


def _retriever(manifest: dict[str, Any], made: Path, embedder: Embeddings, rerank: Any) -> HybridRetriever:
    from course_lib.retrieval.hybrid import HybridRetriever

    with open(made / "documents.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    documents = {
        row["id"]: Document(id=row["id"], page_content=row["text"], metadata=row["metadata"]) for row in rows
    }
    arrays = {name: np.load(made / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
    if any(array.ndim != 1 or array.dtype.kind != "i" for array in arrays.values()):
        raise CourseError(f"{made} holds postings that are no rows of whole numbers", ANEW)
    stored = Stored(json.loads((made / "tokens.json").read_text("utf-8")), **arrays)
    settings = dict(manifest["lexical"])
    lexical = BM25.of_stored(
        list(documents), stored, tokenizer=Tokenizer.from_settings(settings.pop("tokenizer")), **settings
    )
    dense = Dense(embedder, **manifest["dense"])
    dense.read(made / "vectors.faiss", list(documents))
    return HybridRetriever.of_whole(documents, lexical, dense, rerank=rerank, **manifest["retriever"])


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked: what it names lies in one folder of this one, and is what this version knows."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        version = manifest["format"]
    except FileNotFoundError:
        raise CourseError(
            f"there is no index in {folder}: it has no manifest.json", "save one there, or name its folder"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{folder}/manifest.json cannot be read: {error}", ANEW) from error
    if version != FORMAT:
        raise CourseError(
            f"the index in {folder} has format {version}, and this course_lib knows {FORMAT}",
            "update the course: git pull; or build the index anew",
        )
    said = manifest.pop("self", None)
    if said != _self(manifest):
        raise CourseError(f"{folder}/manifest.json was altered after it was written", ANEW)
    files = FILES | (LSA_FILES if manifest["embedder"] == "lsa" else set())
    named = [str(name).partition("/") for name in manifest["sha256"]]
    if (
        {file for _, _, file in named} != files
        or len({top for top, _, _ in named}) != 1
        or not DATA.fullmatch(named[0][0])
    ):
        raise CourseError(
            f"{folder}/manifest.json names other files than an index has: {sorted(manifest['sha256'])!r:.80}",
            ANEW,
        )
    return manifest


def _embedder(name: str, folder: Path, given: Embeddings | None) -> Embeddings:
    """The embedder of an index. Raises CourseError where it has to be given and is not, or is another one."""
    if name == "lsa":
        if given is not None:
            raise CourseError("this index carries its own embedder", "leave embeddings out")
        with _reading(folder):
            return LSA.load(folder)
    if given is None:
        raise CourseError(
            f"the vectors of this index were made by an embedder of class {name}, which questions need, too",
            "pass the same one: load(folder, embeddings)",
        )
    with _reading(folder):
        then = np.load(folder / "probe.npy", allow_pickle=False).astype(np.float32)
    now = _probe(given)
    cosine = float(then @ now) if then.shape == now.shape else float("nan")
    if not cosine >= SAME:
        raise CourseError(
            f"this embedder gives a trial text vectors of {now.size} numbers, cosine {cosine:.3f} with that of the embedder with "
            f"which the index was built ({then.size} numbers, class {name})",
            f"pass that one, or {ANEW}",
        )
    return given
