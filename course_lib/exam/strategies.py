"""The systems that the exam compares. Each combines a model, a search of the handbook, or rules.

A reranker is a model that sorts the passages that the search found. An adapter is a small file of trained
weights that is added to a model's own. RAG, retrieval-augmented generation, is to search passages and let a
model answer from them. The course's language models read English only. For Korean questions most systems
return a guess; the system "best" answers them with `extract.SentenceReader`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document

from course_lib import data
from course_lib.errors import CourseError
from course_lib.exam.extract import SentenceReader
from course_lib.exam.haneul import questions_of
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.routed import RoutedReader
from course_lib.exam.run import System, guess
from course_lib.exam.systems import Reader
from course_lib.models import load
from course_lib.models.catalog import role
from course_lib.models.manager import ModelManager
from course_lib.rag.answering import exam
from course_lib.rag.prompt import Source
from course_lib.rag.topics import StatedTopics
from course_lib.retrieval import HybridRetriever, LateInteraction, Tokenizer
from course_lib.retrieval.sentences import GLOSS

Answer = Callable[[ExamQuestion], str]


@dataclass(frozen=True)
class Strategy:
    """A system before its models are loaded.

    about: a description. roles: the roles (purposes in the chapters) of its models. make: loads the models
    and returns the function that answers. parts: further weights of the course that it uses.
    """

    about: str
    roles: tuple[str, ...]
    make: Callable[[], Answer]
    parts: tuple[str, ...] = ()

    def models(self) -> tuple[str, ...]:
        """Return the names of the models for its roles in the current tier (set of models), and its parts."""
        return (*(role(name).model for name in self.roles), *self.parts)


@functools.cache
def engine(name: str) -> Any:
    """Return the loaded model for a role; the same object at every call."""
    entry = role(name)  # `exam` gives the options for models that were not trained on the exam's prompts
    return load(entry.spec, **(exam(entry) if name != "knowledge" else {}))


@functools.cache
def handbook_search() -> HybridRetriever:
    """Return the search of Haneul Bank's English handbook, by words and by meaning, with a reranker.

    The reranker compares a vector for each token of question and passage (late interaction).
    """
    models, passages = ModelManager.shared(), data.load_passages()
    documents = [
        Document(id=p.id, page_content=p.text, metadata={"title": p.title}) for p in passages.values()
    ]
    return HybridRetriever.from_documents(
        documents,
        models.get_embedding_model("embed"),
        lexical=Tokenizer("bigrams", stop_words=True, stem=True),
        rerank=LateInteraction(models.get_embedding_model("embed-tokens"), per_token=True),
    )


def is_korean(question: ExamQuestion) -> bool:
    """Whether a question has a Hangul syllable."""
    return any("가" <= letter <= "힣" for letter in question.question)


def _reader(role_name: str, passages: int = 0, *, rerank: bool = True) -> Reader:
    if not passages:
        return Reader(engine(role_name))
    options: dict[str, Any] = {"k": passages} if rerank else {"k": passages, "rerank": None}
    return Reader(engine(role_name), handbook_search().bind(**options))


def _in_english(answer: Answer) -> Answer:
    """Return the function with Korean questions answered by a guess."""
    return lambda question: guess(question) if is_korean(question) else answer(question)


@functools.cache
def _best() -> Answer:
    korean, memory = korean_reader(), engine("knowledge")
    english = RoutedReader(handbook_search(), load(role("knowledge").adapter_of), memory, handbook_topics())
    return lambda question: (korean if is_korean(question) else english).answer(question)


def english_names() -> set[str]:
    """Return the English product names, which stand in brackets in the Korean handbook."""
    korean = data.load_passages(language="ko").values()
    return {gloss[1:-1] for p in korean for gloss in GLOSS.findall(f"{p.title}\n{p.text}")}


@functools.cache
def handbook_topics() -> StatedTopics:
    """Return an object that tells what Haneul Bank's English handbook states about each product."""
    return StatedTopics([Source(p.title, p.text) for p in data.load_passages().values()], english_names())


@functools.cache
def korean_reader() -> SentenceReader:
    """Return the reader of Haneul Bank's Korean handbook."""
    passages = data.load_passages(language="ko")
    texts, titles = ({p.id: getattr(p, field) for p in passages.values()} for field in ("text", "title"))
    return SentenceReader(texts, titles, questions_of("practice", "ko"))


STRATEGIES = {
    "guess": Strategy("the first option, or a refusal", (), lambda: guess),
    "closed-book": Strategy(
        "a model without a passage", ("chat",), lambda: _in_english(_reader("chat").write)
    ),
    "adapter": Strategy(
        "the knowledge adapter of chapter 05, without a passage",
        ("knowledge",),
        lambda: _in_english(_reader("knowledge").write),
    ),
    "rag": Strategy(
        "the first passage that the search finds",
        ("chat", "embed"),
        lambda: _in_english(_reader("chat", 1, rerank=False).write),
    ),
    "rerank": Strategy(
        "the first passage after reranking",
        ("chat", "embed", "embed-tokens"),
        lambda: _in_english(_reader("chat", 1).write),
    ),
    "rag-adapter": Strategy(
        "the knowledge adapter with the first passage after reranking",
        ("knowledge", "embed", "embed-tokens"),
        lambda: _in_english(_reader("knowledge", 1).write),
    ),
    "options": Strategy(
        "as rerank, but the option that is the most likely continuation",
        ("chat", "embed", "embed-tokens"),
        lambda: _in_english(_reader("chat", 1).choose),
    ),
    "best": Strategy(
        "memory or reading, whichever a classifier expects to be right",
        ("knowledge", "embed", "embed-tokens"),
        _best,
        ("haneul-topics",),
    ),
}


def build(name: str) -> System:
    """Load the models of a system, and return it for `run_exam`. Raises CourseError for an unknown name."""
    if name not in STRATEGIES:
        raise CourseError(
            f"there is no system {name!r}, only {', '.join(STRATEGIES)}",
            "course exam run --system best --out exam-run",
        )
    return System(name, STRATEGIES[name].make())
