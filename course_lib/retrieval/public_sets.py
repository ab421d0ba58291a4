"""Public test collections, read from the folder that COURSE_DATA_DIR names. Nothing of them is part of the project.

A folder holds corpus.jsonl, queries.jsonl and qrels.tsv; that of TAT-QA corpus.jsonl and qa_*.jsonl; KorQuAD its original JSON.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("cranfield", "npl_vaswani", "xquad_en", "tatqa", "korquad1_dev")


@dataclass(frozen=True)
class Collection:
    """documents, queries: id -> text. judgements: query -> document -> grade, for queries to which something is relevant."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


def folder(name: str) -> Path:
    """Where a collection lies. Raises FileNotFoundError, saying what to set, where it does not."""
    root = os.environ.get("COURSE_DATA_DIR")
    if not root:
        raise FileNotFoundError(f"{name}: set COURSE_DATA_DIR to the folder that holds {name}/")
    if not (Path(root) / name).is_dir():
        raise FileNotFoundError(f"{name}: COURSE_DATA_DIR={root} holds no folder {name}")
    return Path(root) / name


def load(name: str) -> Collection:
    """One of NAMES. Raises FileNotFoundError where it is not there."""
    return {"korquad1_dev": korquad, "tatqa": tatqa}.get(name, from_lines)(folder(name))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def from_lines(place: Path) -> Collection:
    """Title and text of each document are one text; grades of 0 are left out."""
    judgements: dict[str, dict[str, int]] = {}
    for line in (place / "qrels.tsv").read_text("utf-8").splitlines():
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            judgements.setdefault(query, {})[document] = int(grade)
    documents = {row["id"]: f"{row['title']} {row['text']}".strip() for row in rows(place / "corpus.jsonl")}
    queries = {row["id"]: row["text"] for row in rows(place / "queries.jsonl") if row["id"] in judgements}
    return Collection(place.name, documents, queries, judgements)


def tatqa(place: Path) -> Collection:
    """Of each question the table and text for which it was written are relevant."""
    asked = [row for name in ("qa_dev.jsonl", "qa_test_gold.jsonl") for row in rows(place / name)]
    documents = {row["id"]: row["text"] for row in rows(place / "corpus.jsonl")}
    return Collection(
        place.name,
        documents,
        {row["id"]: row["question"] for row in asked},
        {row["id"]: {row["doc_id"]: 1} for row in asked},
    )


def korquad(place: Path) -> Collection:
    """Of each question the paragraph for which it was written is relevant; paragraphs with the title of their article."""
    documents, queries, judgements = {}, {}, {}
    articles = json.loads((place / "KorQuAD_v1.0_dev.json").read_text("utf-8"))["data"]
    for i, article in enumerate(articles):
        for j, paragraph in enumerate(article["paragraphs"]):
            documents[f"{i}-{j}"] = f"{article['title'].replace('_', ' ')} {paragraph['context']}"
            for question in paragraph["qas"]:
                queries[question["id"]] = question["question"]
                judgements[question["id"]] = {f"{i}-{j}": 1}
    return Collection(place.name, documents, queries, judgements)
