"""Saving loses nothing: errors come first, and the older index stays until the new one is complete."""

import os
import shutil

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

from course_lib.data import HANEUL
from course_lib.errors import CourseError
from course_lib.retrieval import HybridRetriever, StoreRetriever
from tests.retrieval.conftest import Broken, Hashed, child, filled
from tests.retrieval.test_storage import DOCUMENTS, retriever, same, tree


def folders(folder):
    return [path.name for path in folder.iterdir() if path.is_dir()]


def test_a_newer_index_replaces_an_older_one_and_leaves_nothing_of_it(tmp_path):
    older, newer = retriever(), retriever({"z": "another fee"})
    older.save(tmp_path)
    (tmp_path / ".partial-killed" / "data").mkdir(parents=True)  # left by a process that was killed
    newer.save(str(tmp_path))
    assert len(folders(tmp_path)) == 1
    same(newer, HybridRetriever.load(str(tmp_path), Hashed()))
    before = tree(tmp_path)
    newer.save(tmp_path)
    assert tree(tmp_path) == before
    next(tmp_path.rglob("vectors.faiss")).write_bytes(b"damaged")
    newer.save(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"x": float("nan")}, "document 'b' cannot be written: Out of range float"),
        ({"x": float("inf")}, "document 'b' cannot be written: Out of range float"),
        ({"x": ("a", "b")}, "JSON would change the metadata of document 'b'"),
        ({"x": {1: "a"}}, "JSON would change the metadata of document 'b'"),
        ({"x": "\ud800"}, "document 'b' cannot be written: 'utf-8' codec"),
        ({"x": {1, 2}}, "document 'b' cannot be written: Object of type set"),
        ({"x": b"bytes"}, "document 'b' cannot be written: Object of type bytes"),
    ],
)
def test_metadata_that_would_not_come_back_is_refused_before_anything_is_written(metadata, message, tmp_path):
    hybrid = retriever(
        [Document(id="a", page_content="some"), Document(id="b", page_content="more", metadata=metadata)]
    )
    with pytest.raises(CourseError, match=message):
        hybrid.save(tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_what_files_cannot_tell_is_refused_before_anything_is_written(tmp_path):
    by_function = HybridRetriever.from_documents(DOCUMENTS, Hashed(), lexical=str.split)
    over_a_store = filled(
        None, StoreRetriever(InMemoryVectorStore(Hashed()), score_type="similarity", min_score=-1), DOCUMENTS
    )
    embedder = Broken()
    broken = HybridRetriever.from_documents(DOCUMENTS, embedder)
    embedder.wrong = [[float("nan")] * 16]
    for hybrid, message in [
        (by_function, "a custom tokenizer function cannot be saved"),
        (over_a_store, "the vectors are stored in a StoreRetriever"),
        (broken, "1 of 1 vectors contain NaN"),
    ]:
        retriever().save(tmp_path)
        before = tree(tmp_path)
        with pytest.raises(CourseError, match=message):
            hybrid.save(tmp_path)
        assert tree(tmp_path) == before and len(folders(tmp_path)) == 1


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    """The bank's data also have a manifest.json, which is not that of an index."""
    shutil.copytree(HANEUL, tmp_path / "data")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    retriever().save(tmp_path / "index")
    (tmp_path / "index" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    for folder, message in [
        ("data", "does not belong to an index"),
        ("notes", r"holds notes\.txt"),
        ("index", r"holds notes\.txt"),
        ("file", "is a file"),
        ("file/index", "the index was not saved"),
    ]:
        with pytest.raises(CourseError, match=message):
            retriever({"z": "new"}).save(tmp_path / folder)
    assert tree(tmp_path) == before


def test_hidden_files_and_folders_stay(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("mine")
    for documents in (DOCUMENTS, {"z": "new"}):
        retriever(documents).save(tmp_path)
    assert (tmp_path / ".git" / "HEAD").read_text() == "mine"


def test_who_saves_while_another_saves_is_refused(tmp_path):
    """The embedder, which is called in the middle of a save, tries to save too."""
    folder = tmp_path / "index"

    class Saving(Hashed):
        refused = None

        def embed_query(self, text):
            if self.refused is False:
                with pytest.raises(CourseError, match="another process is saving to"):
                    retriever({"z": "other"}).save(folder)
                self.refused = True
            return super().embed_query(text)

    hybrid = retriever(embedder=(embedder := Saving()))
    embedder.refused = False
    hybrid.save(folder)
    assert embedder.refused is True
    same(hybrid, HybridRetriever.load(folder, Hashed()))
    retriever({"z": "other"}).save(folder)  # the lock was released
    assert HybridRetriever.load(folder, Hashed()).ids == ["z"]


BOTH = """
import os, pathlib, signal, time; from tests.retrieval.test_storage import *
folder, newer = pathlib.Path(FOLDER), retriever(MORE, OTHER)
older = retriever({f"d{i}": f"fee {i}" for i in range(60)}, Hashed(300))
def loaded():
    own = '"lsa"' in (folder / "manifest.json").read_text("utf-8")
    return len(HybridRetriever.load(folder, None if own else Hashed(300)))
older.save(folder); found = set()
"""


def test_killed_at_any_moment_one_of_two_indexes_is_there_whole(tmp_path):
    code = BOTH + (
        "for n in range(40):\n"
        "    if not (pid := os.fork()):\n"
        "        while True: newer.save(folder); older.save(folder)\n"
        "    time.sleep(0.01 + 0.0017 * n); os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)\n"
        "    found.add(loaded())\n"
        "older.save(folder); newer.save(folder)\n"
        "print(sorted(found), [p.name for p in folder.glob('.partial-*')], loaded())\n"
    )
    out = child(f"FOLDER, MORE, OTHER = {str(tmp_path / 'index')!r}, {DOCUMENTS}, Hashed(300)\n{code}")
    assert out == "[4, 60] [] 4\n" and len(folders(tmp_path / "index")) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process's files are Unix's")
@pytest.mark.parametrize("own", [True, False], ids=["LSA", "given"])
def test_where_a_disk_is_full_the_older_index_stays(own, tmp_path):
    """A full disk at any file, even for the last bytes: a truncated file must not count as complete."""
    code = BOTH + (
        "import resource; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "newer.save(folder)\n"
        "sizes = sorted({p.stat().st_size for p in folder.rglob('*') if p.is_file()})\n"
        "limits = {size - cut for size in sizes for cut in (0, 1, 100, 3000)} & set(range(sizes[-1]))\n"
        "for limit in sorted(limits):\n"
        "    older.save(folder); resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))\n"
        "    try: newer.save(folder); found.add(('saved', limit))\n"
        "    except Exception as error: found.add((type(error).__name__, 'was not saved' in str(error)))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)); found.add(loaded())\n"
        "newer.save(folder); print(sorted(map(str, found)), loaded())\n"
    )
    texts = {f"e{i}": f"other fee {i}" for i in range(40)}
    embedder = f"LSA.fit({list(texts.values())}, 40, min_df=1)" if own else "Hashed(300)"
    out = child(f"FOLDER, MORE, OTHER = {str(tmp_path / 'index')!r}, {texts}, {embedder}\n{code}")
    assert out == "[\"('CourseError', True)\", '60'] 40\n"
