"""Shared by all indexes: the types of search results, metadata filters, and checks of arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib.errors import CourseError, check_encodable

if TYPE_CHECKING:
    from langchain_core.documents import Document

# key for scores and ranks in the metadata of a returned document; a field of that name is replaced
RETRIEVAL_KEY = "retrieval"
# which documents to search: {metadata field: value or list of values}, or a function of the metadata
Filter = Mapping[str, Any] | Callable[[Mapping[str, Any]], bool]


class Hit(NamedTuple):
    """The id and score of a document that a search found."""

    id: str
    score: float


def best_first(hits: Iterable[Hit]) -> list[Hit]:
    """Sort hits by descending score, ties by id."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


class IndexedById:
    """Base class of indexes that keep each document in a row of an array.

    _rows: document id -> row number, without deleted documents.
    """

    _rows: dict[str, int]

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, doc_id: object) -> bool:
        return doc_id in self._rows

    @property
    def ids(self) -> list[str]:
        """The ids of the documents in the index, in the order in which they were added."""
        return list(self._rows)


@dataclass(frozen=True)
class SearchResult:
    """The result of one query in one index.

    hits: The best, in order. scores_of: Returns the hits of the given document ids that have a score, even
    below the best k: fusion needs the scores of what only another index found.
    """

    hits: list[Hit]
    scores_of: Callable[[Collection[str]], list[Hit]]


# -- checks of arguments -------------------------------------------------------------------------------------


def string_error(name: str, value: str) -> CourseError:
    """Return the error for a string where the argument `name` needs a list: it has letters as items."""
    return CourseError(
        f"{name} must be a list of strings; got the string {value!r:.60}", f"{name}=[{value!r:.60}]"
    )


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Check that `value`, of the argument `name`, is one of the choices. Raises CourseError otherwise."""
    if value not in choices:
        known = ", ".join(choices)
        raise CourseError(f"{name}={value!r} is unknown; known: {known}", f"{name}={next(iter(choices))!r}")


def new_documents(
    documents: Mapping[str, str] | Iterable[tuple[str, str]], existing: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Check and yield the (id, text) pairs to add to an index that already has the ids `existing`.

    Raises CourseError for an id that exists already or occurs twice, for an item that is not a pair of
    strings, and as `check_encodable` does.
    """
    new: set[str] = set()
    for pair in documents.items() if isinstance(documents, Mapping) else documents:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(p, str) for p in pair)):
            raise CourseError(
                f"document {len(new) + 1} is {pair!r:.80}, not an id and a text", 'add({"id-1": "text"})'
            )
        doc_id, text = pair
        if doc_id in existing or doc_id in new:
            raise CourseError(
                f"the id {doc_id!r} {'is already in the index' if doc_id in existing else 'occurs twice'}",
                f"delete([{doc_id!r}])" if doc_id in existing else "give every document its own id",
            )
        for part in pair:
            check_encodable(part)
        new.add(doc_id)
        yield doc_id, text


def check_deletable(ids: Collection[str], existing: Mapping[str, object]) -> set[str]:
    """Return the distinct ids to delete. Raises CourseError for a missing id, and for a single string."""
    if isinstance(ids, str):
        raise string_error("ids", ids)
    distinct = set(ids)
    if missing := sorted(distinct - existing.keys()):
        raise CourseError(
            f"{len(missing)} of {len(distinct)} ids are not in the index, the first is {missing[0]!r}",
            "delete only ids that the attribute .ids lists",
        )
    return distinct


def check_search(k: int, allowed: Collection[str] | None = None) -> None:
    """Check the arguments of a search. allowed: The ids that it may return.

    Raises CourseError if k is not an integer of at least 1, or `allowed` is a single string.
    """
    if not isinstance(k, Integral) or k < 1:
        raise CourseError(f"k={k!r}; a search returns the best k hits", "search(query, k=5)")
    if isinstance(allowed, str):
        raise string_error("allowed", allowed)


def matching_ids(documents: Mapping[str, Document], condition: Filter) -> set[str]:
    """Return the ids of the documents that match a filter. With several fields, all of them must match.

    Raises CourseError if it is neither a mapping nor a function, and for a field that no document has.
    """
    if callable(condition):
        return {doc_id for doc_id, document in documents.items() if condition(document.metadata)}
    if not isinstance(condition, Mapping):
        raise CourseError(
            f"filter={condition!r:.80} is neither a mapping nor a function", 'filter={"lang": "ko"}'
        )
    collections = (list, tuple, set, frozenset)
    wanted = {field: list(v) if isinstance(v, collections) else [v] for field, v in condition.items()}
    for field in wanted if documents else ():
        if not any(field in document.metadata for document in documents.values()):
            first = next(iter(documents.values()))
            raise CourseError(
                f"no document has the metadata field {field!r}; the first document has: "
                f"{', '.join(first.metadata) or 'none'}",
                "filter by a field that the documents have",
            )
    return {
        doc_id
        for doc_id, document in documents.items()
        if all(f in document.metadata and document.metadata[f] in values for f, values in wanted.items())
    }
