"""Read public retrieval test collections from a folder, for the benchmarks and the tests.

A collection has documents, queries, and judgements of which documents are relevant to a query (qrels). The
collections are not part of the course. The environment variable COURSE_DATA_DIR names the folder. Each
collection has a subfolder with corpus.jsonl, queries.jsonl and qrels.tsv. The exceptions are TAT-QA
(questions about financial reports), with corpus.jsonl and qa_*.jsonl, and KorQuAD (Korean questions about
Wikipedia), with its original JSON file.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Abstracts on aerodynamics and on electronics, English questions about Wikipedia, TAT-QA, and KorQuAD.
NAMES = ("cranfield", "npl_vaswani", "xquad_en", "tatqa", "korquad1_dev")


@dataclass(frozen=True)
class Collection:
    """A test collection. documents, queries: id -> text. qrels: query id -> document id -> grade above 0.

    answers: query id -> right answers, in KorQuAD only.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    answers: dict[str, list[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, {len(self.documents)} documents, {len(self.queries)} queries)"


def load(name: str) -> Collection:
    """Read the collection `name`, one of NAMES.

    Raises ValueError for another name, and FileNotFoundError if COURSE_DATA_DIR is not set or has no such
    subfolder.
    """
    if name not in NAMES:
        raise ValueError(f"{name!r} is none of {', '.join(NAMES)}")
    root = os.environ.get("COURSE_DATA_DIR")
    if not root:
        raise FileNotFoundError(f"{name}: set COURSE_DATA_DIR to the folder that contains {name}/")
    folder = Path(root) / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: COURSE_DATA_DIR={root} has no folder {name}")
    return {"korquad1_dev": _korquad, "tatqa": _tatqa}.get(name, _standard)(folder)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _standard(folder: Path) -> Collection:
    """Read a collection in the usual files. A document is its title and text. Grades of 0 are left out."""
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text("utf-8").splitlines():
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            qrels.setdefault(query, {})[document] = int(grade)
    documents = {row["id"]: f"{row['title']} {row['text']}".strip() for row in _rows(folder / "corpus.jsonl")}
    queries = {row["id"]: row["text"] for row in _rows(folder / "queries.jsonl") if row["id"] in qrels}
    return Collection(folder.name, documents, queries, {query: qrels[query] for query in queries})


def _tatqa(folder: Path) -> Collection:
    """Read TAT-QA. A question's only relevant document is the report excerpt for which it was written."""
    rows = [row for name in ("qa_dev.jsonl", "qa_test_gold.jsonl") for row in _rows(folder / name)]
    documents = {row["id"]: row["text"] for row in _rows(folder / "corpus.jsonl")}
    queries = {row["id"]: row["question"] for row in rows}
    return Collection(folder.name, documents, queries, {row["id"]: {row["doc_id"]: 1} for row in rows})


def _korquad(folder: Path) -> Collection:
    """Read KorQuAD. A document, an article's title and a paragraph, is relevant for its own questions."""
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    answers: dict[str, list[str]] = {}
    articles = json.loads((folder / "KorQuAD_v1.0_dev.json").read_text("utf-8"))["data"]
    for i, article in enumerate(articles):
        for j, paragraph in enumerate(article["paragraphs"]):
            documents[f"{i}-{j}"] = f"{article['title'].replace('_', ' ')} {paragraph['context']}"
            for question in paragraph["qas"]:
                queries[question["id"]] = question["question"]
                qrels[question["id"]] = {f"{i}-{j}": 1}
                answers[question["id"]] = [answer["text"] for answer in question["answers"]]
    return Collection(folder.name, documents, queries, qrels, answers)
