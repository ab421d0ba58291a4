"""A loaded index equals the saved one, and damaged files are refused."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from langchain_core.documents import Document
from safetensors.numpy import load_file, save_file

from course_lib.errors import CourseError
from course_lib.retrieval import BM25, HybridRetriever, Tokenizer
from course_lib.retrieval.hybrid import SETTINGS
from tests.retrieval.conftest import Hashed, child

DOCUMENTS = {"a": "annual fee of the card", "b": "fee for a transfer", "c": "체크카드 연회비", "empty": ""}
QUERIES = ("annual fee", "카드 연회비", "nothing", "transfer of the card")


def retriever(documents=DOCUMENTS, embedder=None, **settings):
    return HybridRetriever.from_documents(documents, embedder or Hashed(), **settings)


def tree(folder):
    """The path and bytes of every file except the lock."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != ".lock"
    }


def same(hybrid, loaded):
    assert loaded.documents == hybrid.documents
    assert [getattr(loaded, name) for name in SETTINGS] == [getattr(hybrid, name) for name in SETTINGS]
    for query in QUERIES:
        hits = hybrid.search(query)
        assert loaded.search(query) == hits
        assert [loaded.explain(hit) for hit in hits] == [hybrid.explain(hit) for hit in hits]


def rewritten(folder, change, **files):
    """Change the manifest and files, and correct all hashes. files: name -> bytes or array function."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (data,) = (p for p in folder.iterdir() if p.is_dir())
    for name, content in files.items():
        path = next(data.rglob("index.safetensors" if callable(content) else name.replace("__", ".")))
        if callable(content):
            arrays = load_file(path)
            save_file(arrays | {name: np.ascontiguousarray(content(arrays[name]))}, path)
        else:
            path.write_bytes(content)
        manifest["sha256"][path.relative_to(folder).as_posix()] = hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
    manifest = change(manifest) or manifest
    if isinstance(manifest, dict):
        manifest.pop("self", None)
        manifest["self"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


# -- saving and loading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("own", [True, False], ids=["LSA", "given"])
def test_what_was_saved_is_loaded_and_saved_again_with_the_same_bytes(kind, own, lsa, passages, tmp_path):
    embedder = lsa if own else Hashed()
    documents = [
        Document(id=doc_id, page_content=text, metadata={"n": i, "of": [1.5, None, {"a": "ㄱ\u2028\r\n"}]})
        for i, (doc_id, text) in enumerate(passages.items())
    ]
    bm25 = BM25(Tokenizer("words", stem=True), variant="bm25+", k1=0.9, b=0.4)
    hybrid = retriever(
        documents, embedder, kind=kind, lexical=bm25, alpha=0.25, candidates=9, k=4, fusion="z-score"
    )
    hybrid.delete(list(passages)[5:50])
    hybrid.save(tmp_path / "first")
    loaded = HybridRetriever.load(tmp_path / "first", None if own else Hashed())
    same(hybrid, loaded)
    loaded.save(tmp_path / "second")
    assert tree(tmp_path / "first") == tree(tmp_path / "second")
    loaded.add_documents({"new": "체크카드 연회비 new"})
    assert loaded.search("체크카드 연회비 new", k=1)[0].id == "new"


def test_a_real_embedder_and_an_empty_index(minilm, tmp_path):
    for name, documents in (("some", DOCUMENTS), ("none", {})):
        hybrid = retriever(documents, minilm)
        hybrid.save(tmp_path / name)
        same(hybrid, HybridRetriever.load(tmp_path / name, minilm))
    with pytest.raises(CourseError, match="the saved one of 384 dimensions"):
        HybridRetriever.load(tmp_path / "some", Hashed())


def test_neither_hash_seeds_nor_processes_change_a_byte(tmp_path):
    code = (
        "from tests.retrieval.test_storage import *; import course_lib.data as d, pathlib\n"
        "texts = {id: p.text for id, p in list(d.load_passages(language='ko').items())[:60]}\n"
        "fitted = LSA.fit(list(texts.values()), 16)\n"
        "for kind in ('flat', 'hnsw'):\n"
        "    hybrid = retriever(texts, fitted, kind=kind)\n"
        "    hybrid.delete(set(hybrid.ids[:9]))\n"
        "    hybrid.save(folder := pathlib.Path(FOLDER, kind))\n"
        "    for name, content in sorted(tree(folder).items()):\n"
        "        print(name, hashlib.sha256(content).hexdigest())\n"
    )
    outs = [
        child(f"FOLDER = {str(tmp_path / seed)!r}\n{code}", PYTHONHASHSEED=seed, OMP_NUM_THREADS="1")
        for seed in "01"
    ]
    assert outs[0] == outs[1] and outs[0].count("vectors.faiss") == 2


def test_files_hold_text_and_numbers_and_nothing_that_could_run(lsa, tmp_path):
    retriever(DOCUMENTS, lsa).save(tmp_path)
    for name, content in tree(tmp_path).items():
        if name.endswith(".safetensors"):
            assert {array.dtype.kind for array in load_file(tmp_path / name).values()} <= {"i", "f"}
        elif name.endswith(".faiss"):
            assert content[:4] == b"IxFI"
        else:
            assert all(
                json.loads(part) for part in (content.splitlines() if name.endswith(".jsonl") else [content])
            )


# -- damaged files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
def test_one_flipped_bit_in_any_file_is_told_by_its_name(own, lsa, tmp_path):
    retriever(DOCUMENTS, lsa if own else None).save(tmp_path)
    files = tree(tmp_path)
    assert len(files) == 5 + 2 * own
    for name, content in files.items():
        for broken in (bytes([*content[:-9], content[-9] ^ 1, *content[-8:]]), content[:-1], None):
            (tmp_path / name).unlink() if broken is None else (tmp_path / name).write_bytes(broken)
            with pytest.raises(
                CourseError, match=f"{name}(.|\n)*Fix: (rebuild the index and save it again|retriever.save)"
            ):
                HybridRetriever.load(tmp_path, None if own else Hashed())
        (tmp_path / name).write_bytes(content)
    HybridRetriever.load(tmp_path, None if own else Hashed())


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("no JSON", r"manifest\.json cannot be read"),
        ("[]", r"manifest\.json cannot be read"),
        ("null", r"manifest\.json cannot be read"),
        ("{}", r"manifest\.json cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"format": 4}', "format 4, and this course_lib reads format 3(.|\n)*git pull"),
        (
            '{"format": 1}',
            "format 1, and this course_lib reads format 3(.|\n)*rebuild the index and save it again",
        ),
        ('{"format": "3"}', "format 3, and this(.|\n)*rebuild"),
        ('{"format": 3}', "was altered after it was written"),
    ],
)
def test_a_manifest_that_is_none_is_told(manifest, message, tmp_path):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(CourseError, match=message):
        HybridRetriever.load(tmp_path)


def test_no_index_and_an_edited_manifest_are_told(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CourseError, match="there is no index in"):
            HybridRetriever.load(folder)
    retriever().save(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"alpha": 0.7', '"alpha": 0.9'), "utf-8")
    with pytest.raises(CourseError, match="was altered after it was written"):
        HybridRetriever.load(tmp_path, Hashed())


def moved(name):
    def change(manifest):
        digests = manifest["sha256"]
        for old in [file for file in digests if file.endswith("tokens.json")]:
            digests[name] = digests.pop(old)

    return change


def top(name):
    def change(manifest):
        manifest["sha256"] = {
            f"{name}/{file.partition('/')[2]}": digest for file, digest in manifest["sha256"].items()
        }

    return change


@pytest.mark.parametrize(
    "change",
    [
        moved("../../outside/tokens.json"),
        moved("/etc/hostname"),
        moved("../tokens.json"),
        moved("0123456789abcdef/tokens.json"),
        moved("0123456789abcdef/../tokens.json"),
        top(".."),
        top("/tmp"),
        top(""),
        top("."),
        top("0123456789abcdeF"),
        lambda m: m.update(sha256={}),
        lambda m: m.update(sha256=[]),
    ],
)
def test_a_manifest_that_names_files_elsewhere_reads_nothing(change, tmp_path, monkeypatch):
    retriever().save(tmp_path / "index")
    (tmp_path / "outside").mkdir()
    shutil.copy(next((tmp_path / "index").rglob("tokens.json")), tmp_path / "outside")
    rewritten(tmp_path / "index", change)
    monkeypatch.setattr("course_lib.data.sha256", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(CourseError, match="does not list the files of an index"):
        HybridRetriever.load(tmp_path / "index", Hashed())


@pytest.mark.parametrize(
    ("change", "files"),
    [
        (lambda m: None, {"rows": lambda a: a + 99}),
        (lambda m: None, {"rows": lambda a: a - 99}),
        (lambda m: None, {"rows": lambda a: a[:-1]}),
        (lambda m: None, {"terms": lambda a: a + 99}),
        (lambda m: None, {"terms": lambda a: a.astype(np.uint32)}),
        (lambda m: None, {"starts": lambda a: a[::-1]}),
        (lambda m: None, {"starts": lambda a: a[:0]}),
        (lambda m: None, {"counts": lambda a: a[:, None]}),
        (lambda m: None, {"counts": lambda a: a.astype(np.float32)}),
        (lambda m: None, {"lengths": lambda a: a[:-1]}),
        (lambda m: None, {"index__safetensors": b"PK\x03\x04 no array"}),
        (lambda m: None, {"tokens__json": b"[]"}),
        (lambda m: None, {"tokens__json": b"7"}),
        (lambda m: None, {"documents__jsonl": b'{"id": "a"}\n'}),
        (lambda m: None, {"documents__jsonl": b'{"id": "a", "text": "", "metadata": {}}\n' * 4}),
        (lambda m: None, {"documents__jsonl": b"[]\n"}),
        (lambda m: None, {"vectors__faiss": b"IxFI and so on"}),
        (lambda m: None, {"vectors__faiss": b""}),
        (lambda m: None, {"probe": lambda a: a[:-1]}),
        (lambda m: None, {"probe": lambda a: a * np.nan}),
        (lambda m: m["dense"].update(kind="hnsw"), {}),
        (lambda m: m["dense"].update(depth=3), {}),
        (lambda m: m["retriever"].update(alpha="much"), {}),
        (lambda m: m["retriever"].update(odd=1), {}),
        (lambda m: m["lexical"].update(variant="bm26"), {}),
        (lambda m: m["lexical"].pop("tokenizer"), {}),
        (lambda m: m.pop("retriever"), {}),
        (lambda m: m.pop("embedder"), {}),
        (lambda m: m.update(lexical=7), {}),
        (lambda m: m.update(embedder="lsa"), {}),
    ],
)
def test_files_that_fit_their_hashes_and_not_each_other_are_refused(change, files, tmp_path):
    retriever().save(tmp_path)
    rewritten(tmp_path, change, **files)
    with pytest.raises(CourseError):
        HybridRetriever.load(tmp_path, Hashed())


# -- the same embedder and the same tokenizer ----------------------------------------------------------------


def test_another_embedder_is_refused(lsa, tmp_path):
    retriever().save(tmp_path / "given")
    retriever(DOCUMENTS, lsa).save(tmp_path / "own")
    for embedder, message in [
        (None, "the embedder that built it, of class Hashed(.|\n)*load\\(folder, embeddings\\)"),
        (
            Hashed(8),
            "of class Hashed: .* has 8 dimensions and cosine nan with the saved one of 16 dimensions",
        ),
        (Hashed(salt="other"), r"has 16 dimensions and cosine -?0\.\d+"),
    ]:
        with pytest.raises(CourseError, match=message):
            HybridRetriever.load(tmp_path / "given", embedder)
    with pytest.raises(CourseError, match="saved with its own embedder"):
        HybridRetriever.load(tmp_path / "own", lsa)


def test_tokens_cut_by_another_version_are_refused(tmp_path):
    retriever(lexical=Tokenizer("words", stem=True)).save(tmp_path)
    rewritten(tmp_path, lambda m: m["lexical"]["tokenizer"]["package_versions"].update(snowballstemmer="1.0"))
    with pytest.raises(CourseError, match=r"the index was built with \{'snowballstemmer': '1\.0'\}"):
        HybridRetriever.load(tmp_path, Hashed())
