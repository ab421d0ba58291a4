"""Save a hybrid index to a folder and load it again, as text and arrays (no pickle), checked by SHA-256.

FOLDER/manifest.json: The settings, and the SHA-256 of every file.
FOLDER/NAME/: The files. NAME is derived from their hashes, so saving the same index gives the same files.

The manifest is replaced last, atomically; until then the older index is intact. The hashes detect damage, but
not manipulation: whoever can change the files can also change the hashes.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from safetensors.numpy import load_file
from safetensors.numpy import save as tensor_bytes

from course_lib import data
from course_lib.atomic import atomic_write_text
from course_lib.errors import CourseError
from course_lib.names import existing_path
from course_lib.retrieval.bm25 import BM25
from course_lib.retrieval.dense import Dense
from course_lib.retrieval.lsa import LSA
from course_lib.retrieval.postings import BM25State
from course_lib.retrieval.tokenize import Tokenizer
from course_lib.retrieval.vectors import query_vectors, unit_vectors

FORMAT = 3  # format 2 had other tokens, and no chunks
PROBE_TEXT = "Haneul Bank 하늘은행 2,000"  # its vector is saved, to recognize the embedder when loading
MIN_PROBE_COSINE = 0.999  # between the vectors of one model in 16 and 32 bits; other models are far below
REBUILD = "rebuild the index and save it again"
BM25_ARRAYS = BM25State._fields[1:]  # all but the tokens; in index.safetensors, with the probe's vector
FILES = {"documents.jsonl", "tokens.json", "index.safetensors", "vectors.faiss"}
LSA_FILES = {f"embedder/{name}" for name in LSA.FILES}  # LSA: an embedder fitted to the documents, saved too
DATA_FOLDER = re.compile(r"[0-9a-f]{16}")  # NAME
INDEX_NAMES = re.compile(rf"{DATA_FOLDER.pattern}|manifest\.json|\..*")  # all that a folder may hold


@dataclass(frozen=True)
class SavedIndex:
    """The contents of a saved index.

    dense: Must be a `Dense` to be saved. settings: Those of the hybrid retriever. reranker: The class name of
    its reranker, or None.
    """

    documents: dict[str, Document]
    lexical: BM25
    dense: Any
    settings: dict[str, Any]
    reranker: str | None


# -- save ----------------------------------------------------------------------------------------------------


def save(index: SavedIndex, folder: Path | str) -> None:
    """Save an index to a new or empty folder, or replace the older index in it.

    Raises CourseError, and leaves an older index unchanged, for an index that cannot be saved (a tokenizer
    that is not a `Tokenizer`, a dense index that is not a `Dense`, metadata that is not JSON), for a folder
    with other files, for a folder to which another process is saving, and if writing fails.
    """
    folder = existing_path(folder)
    if not isinstance(index.lexical.tokenizer, Tokenizer):
        raise CourseError("a custom tokenizer function cannot be saved", 'lexical=Tokenizer("bigrams")')
    if not isinstance(index.dense, Dense):
        raise CourseError(
            f"the vectors are stored in a {type(index.dense).__name__}, which this function cannot save",
            "save the vector store with its own functions",
        )
    if callable(index.dense.split):
        raise CourseError("a custom function that splits documents cannot be saved", "split=True")
    lines = "".join(_json_line(document) for document in index.documents.values())
    with _saving(folder) as new:
        _write_files(index, lines, new)
        name, digests = _digests(new)
        if not _exist(folder, digests):  # otherwise the folder has this index already
            shutil.rmtree(folder / name, ignore_errors=True)
            os.replace(new, folder / name)
        manifest = _manifest(index, digests)
        text = json.dumps(manifest | {"self": _hash(manifest)}, ensure_ascii=False, indent=1)
        atomic_write_text(folder / "manifest.json", text)
        for other in folder.iterdir():
            if DATA_FOLDER.fullmatch(other.name) and other.name != name:
                shutil.rmtree(other, ignore_errors=True)


def _write_files(index: SavedIndex, lines: str, folder: Path) -> None:
    state, embedder = index.lexical.compacted_state(), index.dense.embeddings
    arrays = {name: getattr(state, name) for name in BM25_ARRAYS} | {"probe": _probe_vector(embedder)}
    arrays |= index.dense.write(folder / "vectors.faiss")
    (folder / "documents.jsonl").write_text(lines, encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(state.tokens, ensure_ascii=False), encoding="utf-8")
    (folder / "index.safetensors").write_bytes(tensor_bytes(arrays))
    if isinstance(embedder, LSA):
        embedder.save(folder / "embedder")


def _manifest(index: SavedIndex, digests: dict[str, str]) -> dict[str, Any]:
    lexical, embedder = index.lexical, index.dense.embeddings
    return {
        "format": FORMAT,
        "documents": len(index.documents),
        "retriever": index.settings,
        "lexical": {
            "tokenizer": lexical.tokenizer.settings(),  # type: ignore[attr-defined]
            "variant": lexical.variant,
            "k1": lexical.k1,
            "b": lexical.b,
        },
        "dense": {"kind": index.dense.kind, "split": index.dense.split, **index.dense.hnsw_settings},
        "reranker": index.reranker,
        "embedder": "lsa" if isinstance(embedder, LSA) else type(embedder).__name__,
        "sha256": digests,
    }


@contextmanager
def _saving(folder: Path) -> Iterator[Path]:
    """Lock `folder`, create it if needed, and yield a temporary empty folder in it for the new files."""
    if folder.exists() and not folder.is_dir():
        raise CourseError(f"{folder} is a file", 'save("another-folder")')
    if foreign := sorted(p.name for p in folder.glob("*") if not INDEX_NAMES.fullmatch(p.name)):
        raise CourseError(
            f"{folder} holds {foreign[0]}, which does not belong to an index", 'save("another-folder")'
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            for partial in folder.glob(".partial-*"):  # left by a process that was killed
                shutil.rmtree(partial, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial_name:
                (new := Path(partial_name) / "data").mkdir()
                yield new
    except Timeout:
        raise CourseError(
            f"another process is saving to {folder}", "save again when it is done, or to another folder"
        ) from None
    except (OSError, RuntimeError) as error:  # FAISS raises RuntimeError
        raise CourseError(
            f"the index was not saved: {' '.join(str(error).split())[-200:]}; {folder} is unchanged",
            "make room on the disk, or save to another folder",
        ) from error


def _json_line(document: Document) -> str:
    """Return a document as a line of JSON. Raises CourseError for metadata that JSON would change."""
    row = {"id": document.id, "text": document.page_content, "metadata": document.metadata}
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        line.encode("utf-8")
        unchanged = json.loads(line) == row
    except (TypeError, ValueError) as error:
        raise CourseError(
            f"document {document.id!r} cannot be written: {error}",
            "use only text, numbers, lists and dicts as metadata",
        ) from error
    if not unchanged:
        raise CourseError(
            f"JSON would change the metadata of document {document.id!r}: {document.metadata!r:.80}",
            "use lists instead of tuples, and strings as keys",
        )
    return line + "\n"


def _probe_vector(embeddings: Embeddings) -> Any:
    """Return the embedder's vector of PROBE_TEXT, (dimensions,)."""
    return unit_vectors(query_vectors(embeddings, [PROBE_TEXT]), 1)[0]


def _digests(new: Path) -> tuple[str, dict[str, str]]:
    """Hash all files. Return a name derived from the hashes, and a dict from NAME/file to SHA-256."""
    files = {p.relative_to(new).as_posix(): data.sha256(p) for p in sorted(new.rglob("*")) if p.is_file()}
    name = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]
    return name, {f"{name}/{file}": digest for file, digest in files.items()}


def _exist(folder: Path, digests: dict[str, str]) -> bool:
    return all((folder / f).is_file() and data.sha256(folder / f) == digest for f, digest in digests.items())


def _hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


# -- load ----------------------------------------------------------------------------------------------------


def load(folder: Path | str, embeddings: Embeddings | None = None) -> SavedIndex:
    """Load an index that `save` wrote.

    embeddings: The embedder that built the index, or None for LSA, which is saved with it. Raises CourseError
    for a folder without an index, for an index that is damaged, altered or in another format, for another
    embedder, and if a package that affects the tokens has another version.
    """
    folder = existing_path(folder)
    with wrap_read_errors(folder):
        manifest = _checked_manifest(folder)
        data.verify(folder, REBUILD)
        files = folder / next(iter(manifest["sha256"])).split("/")[0]
        arrays = load_file(files / "index.safetensors")
        probe = arrays.pop("probe")
        if any(array.ndim != 1 or array.dtype.kind != "i" for array in arrays.values()):
            raise CourseError(f"the index arrays in {files} must be 1-D integers", REBUILD)
    embedder = _embedder(manifest["embedder"], files / "embedder", probe, embeddings)
    with wrap_read_errors(folder):
        rows = map(json.loads, (files / "documents.jsonl").read_text("utf-8").split("\n")[:-1])
        documents = {
            row["id"]: Document(id=row["id"], page_content=row["text"], metadata=row["metadata"])
            for row in rows
        }
        ids = list(documents)
        settings = manifest["lexical"]
        settings["tokenizer"] = Tokenizer.from_settings(settings["tokenizer"])
        tokens = json.loads((files / "tokens.json").read_text("utf-8"))
        state = BM25State(tokens, **{name: arrays.pop(name) for name in BM25_ARRAYS})
        lexical, dense = BM25.from_state(ids, state, **settings), Dense(embedder, **manifest["dense"])
        dense.read(files / "vectors.faiss", ids, arrays)
        return SavedIndex(documents, lexical, dense, manifest["retriever"], manifest["reranker"])


@contextmanager
def wrap_read_errors(folder: Path) -> Iterator[None]:
    """Convert any error into a CourseError: files with matching hashes can still have invalid content."""
    try:
        yield
    except CourseError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[-200:]}"
        raise CourseError(f"the index in {folder} cannot be read: {reason}", REBUILD) from error


def _checked_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest. Raises CourseError if it is missing, altered, or in another format."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        version = manifest["format"]
    except FileNotFoundError:
        raise CourseError(
            f"there is no index in {folder}: it has no manifest.json", f'retriever.save("{folder}")'
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{folder}/manifest.json cannot be read: {error}", REBUILD) from error
    if version != FORMAT:
        raise CourseError(
            f"the index in {folder} has format {version}, and this course_lib reads format {FORMAT}",
            "git pull" if isinstance(version, int) and version > FORMAT else REBUILD,
        )
    if manifest.pop("self", None) != _hash(manifest):
        raise CourseError(f"{folder}/manifest.json was altered after it was written", REBUILD)
    files = FILES | (LSA_FILES if manifest["embedder"] == "lsa" else set())
    paths = [str(path).partition("/") for path in manifest["sha256"]]
    folders, names = {folder for folder, _, _ in paths}, {name for _, _, name in paths}
    if names != files or len(folders) != 1 or not DATA_FOLDER.fullmatch(folders.pop()):
        listed = repr(sorted(manifest["sha256"]))[:80]
        raise CourseError(
            f"{folder}/manifest.json does not list the files of an index, but {listed}", REBUILD
        )
    return manifest


def _embedder(name: str, folder: Path, probe: Any, given: Embeddings | None) -> Embeddings:
    """Return the embedder of an index: LSA or `given`. name, probe: Its class and vector of PROBE_TEXT.

    Raises CourseError if `given` is None but required, is not None for LSA, or is another embedder.
    """
    if name == "lsa":
        if given is not None:
            raise CourseError(
                "this index was saved with its own embedder (LSA)", "HybridRetriever.load(folder)"
            )
        with wrap_read_errors(folder):
            return LSA.load(folder)
    if given is None:
        raise CourseError(
            f"this index needs the embedder that built it, of class {name}, for queries",
            "HybridRetriever.load(folder, embeddings)",
        )
    vector = _probe_vector(given)
    cosine = float(probe @ vector) if probe.shape == vector.shape else float("nan")
    if not cosine >= MIN_PROBE_COSINE:
        raise CourseError(
            f"this embedder is not the one that built the index, of class {name}: its vector of a test "
            f"text has {vector.size} dimensions and cosine {cosine:.3f} with the saved one of "
            f"{probe.size} dimensions",
            "load the index with the embedder that built it",
        )
    return given
