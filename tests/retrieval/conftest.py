"""Fixtures for the retrieval tests: passages of Haneul Bank (the course's fictional bank) and embedders."""

import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from course_lib.data import ROOT, load_passages
from course_lib.models import ModelManager
from course_lib.retrieval import LSA, HybridRetriever


class Hashed(Embeddings):
    """An embedder that gives each word a random, reproducible vector, and a text their normalized sum."""

    def __init__(self, dimensions=16, salt=""):
        self.dimensions, self.salt = dimensions, salt

    def embed_query(self, text):
        words = [
            np.random.default_rng(zlib.crc32((self.salt + word).encode())).normal(size=self.dimensions)
            for word in text.split()
        ]
        vector = sum(words, np.zeros(self.dimensions))
        return (vector / (np.linalg.norm(vector) or 1)).tolist()

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


class Broken(Hashed):
    """An embedder that fails once `wrong` is set: it returns `wrong`, or raises it if it is an exception."""

    wrong = None

    def embed_documents(self, texts):
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return super().embed_documents(texts) if self.wrong is None else self.wrong

    embed_queries = embed_documents


def filled(lexical, dense, documents=(), **settings):
    """Return a hybrid retriever over these two indexes, with documents."""
    hybrid = HybridRetriever(lexical=lexical, dense=dense, **settings)
    hybrid.add_documents(documents)
    return hybrid


@pytest.fixture(scope="session")
def passages():
    return {doc_id: passage.text for doc_id, passage in load_passages(language="ko").items()}


@pytest.fixture(scope="session")
def lsa(passages):
    return LSA.fit(list(passages.values()), 48)


@pytest.fixture(scope="session")
def minilm():
    return ModelManager().get_embedding_model("embed")


def child(code, **environment):
    """Run code in another process, with this module's names imported, and return its output."""
    out = subprocess.run(
        [sys.executable, "-c", f"from tests.retrieval.conftest import *\n{code}"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr[-3000:]
    return out.stdout
