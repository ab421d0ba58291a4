"""Shared by all indexes: the types of search results, metadata filters, and checks of arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

from course_lib.errors import CourseError, check_text
from course_lib.names import nfc

# Key of the scores and ranks in the metadata of a returned document; a field of that name is replaced.
RETRIEVAL_KEY = "retrieval"


Span = tuple[int, int]  # start and end in a text


class Hit(NamedTuple):
    """The id and score of a document that a search found."""

    id: str
    score: float


def best_first(hits: Iterable[Hit]) -> list[Hit]:
    """Sort hits by descending score, ties by id."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


class IndexedById:
    """Base class of the lexical and the dense index, which keep each document in a row of their arrays.

    Unicode can write "é" as one character or as two; `nfc` makes it one. So an id is found in either form,
    and returned as it was added. Deleted documents keep their rows until the index is rebuilt. _ids: The id
    of each row, also of deleted documents. _rows: `nfc` of an id -> its row, without deleted documents.
    """

    _ids: list[str]
    _rows: dict[str, int]

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and nfc(doc_id) in self._rows

    @property
    def ids(self) -> list[str]:
        """The ids of the documents in the index, in the order in which they were added."""
        return [self._ids[row] for row in self._rows.values()]

    def _rows_of(self, ids: Collection[str]) -> list[int]:
        """Return the rows of those ids that are in the index."""
        return [self._rows[name] for name in map(nfc, ids) if name in self._rows]

    def _add_rows(self, ids: Collection[str]) -> None:
        """Append a row for each id."""
        self._rows |= {nfc(doc_id): row for row, doc_id in enumerate(ids, start=len(self._ids))}
        self._ids += ids


@dataclass(frozen=True)
class SearchResult:
    """The result of one query in one index.

    hits: The best documents, best first. scores_of: A function that returns the scores of documents with the
    given ids, even of those below the best k, which fusion needs if only the other index found them.
    chunks_of: A function that returns id -> start and end of the document's best chunk, if the index splits
    documents into chunks.
    """

    hits: list[Hit]
    scores_of: Callable[[Collection[str]], list[Hit]]
    chunks_of: Callable[[Collection[str]], dict[str, Span]] = lambda ids: {}


# -- checks of arguments -------------------------------------------------------------------------------------


def string_error(name: str, value: str) -> CourseError:
    """Return the error for a string as the argument `name`, which must be a list of strings."""
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
    """Check and yield the (id, text) pairs to add to an index. existing: `nfc` of the ids in the index.

    Raises CourseError for an id that exists already or occurs twice, for an item that is not a pair of
    strings, and as `check_text` does.
    """
    new: set[str] = set()
    for pair in documents.items() if isinstance(documents, Mapping) else documents:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(p, str) for p in pair)):
            raise CourseError(
                f"document {len(new) + 1} is {pair!r:.80}, not an id and a text", 'add({"id-1": "text"})'
            )
        for part in pair:
            check_text(part)
        if (name := nfc(pair[0])) in existing or name in new:
            raise CourseError(
                f"the id {pair[0]!r} {'is already in the index' if name in existing else 'occurs twice'}",
                f"delete([{pair[0]!r}])" if name in existing else "give every document its own id",
            )
        new.add(name)
        yield pair


def check_deletable(ids: Collection[str], existing: Mapping[str, object]) -> set[str]:
    """Return `nfc` of the distinct ids to delete. existing: A mapping with `nfc` of the ids in the index.

    Raises CourseError for a missing id, and for a single string.
    """
    if isinstance(ids, str):
        raise string_error("ids", ids)
    distinct = set(map(nfc, ids))
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
