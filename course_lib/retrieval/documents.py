"""What every index takes and gives back: documents by ids, checked before anything is changed, hits, arrays as files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from langchain_core.documents import Document


FOUND = "retrieval"  # in the metadata of a document that was found; what a document had there before is not given back
Filter = (
    Mapping[str, Any] | Callable[[Mapping[str, Any]], bool]
)  # {field: value or values}, or a function of the metadata


class Hit(NamedTuple):
    """A document that was found, and its score."""

    id: str
    score: float


def best_first(hits: Iterable[Hit]) -> list[Hit]:
    """The order of every ranking: the highest score first, ties by id."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


class Numbered:
    """An index that knows its documents by ids, and by numbers inside. _numbers: id -> number, of living documents."""

    _numbers: dict[str, int]

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, id: object) -> bool:
        return id in self._numbers

    @property
    def ids(self) -> list[str]:
        """Ids of the documents in the index, in the order in which they were added."""
        return list(self._numbers)


class Asked(Protocol):
    """A question that one leg was asked: its best k hits, and the scores of documents that are named, as far as they have one."""

    def best(self, k: int, allowed: Collection[str] | None = None) -> list[Hit]: ...
    def of(self, ids: Collection[str]) -> list[Hit]: ...


def new_documents(
    documents: Mapping[str, str] | Iterable[tuple[str, str]], there: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Id and text of each document, all new to an index that holds the ids `there`.

    Raises CourseError for an id that is there already or twice, and for what is no pair of two strings.
    """
    new: set[str] = set()
    for pair in documents.items() if isinstance(documents, Mapping) else documents:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(p, str) for p in pair)):
            raise CourseError(
                f"document {len(new) + 1} is {pair!r:.80}, no pair of an id and a text",
                "pass {id: text, ...}",
            )
        id, text = pair
        if id in there or id in new:
            raise CourseError(
                f"the id {id!r} is {'in the index already' if id in there else 'given twice'}",
                f"delete([{id!r}]) first, or give every document an id of its own",
            )
        new.add(id)
        yield id, text


def checked_gone(ids: Collection[str], there: Mapping[str, object]) -> set[str]:
    """Ids to delete from an index that holds the ids `there`. Raises CourseError for one that is not there, and for a lone
    string, of which every letter would be an id."""
    if isinstance(ids, str):
        raise CourseError(
            f"delete({ids!r}) would delete a document for each letter", f"pass a list: delete([{ids!r}])"
        )
    gone = set(ids)
    if absent := sorted(gone - there.keys()):
        raise CourseError(
            f"{len(absent)} of {len(gone)} ids are not in the index, the first {absent[0]!r}", "look at .ids"
        )
    return gone


def checked_search(k: int, allowed: Collection[str] | None) -> None:
    """Raises CourseError for a k that is no whole number from 1, and for a lone string as `allowed`."""
    if not isinstance(k, Integral) or k < 1:
        raise CourseError(f"k={k!r}: a search returns the best k hits", "ask for 1 or more")
    if isinstance(allowed, str):
        raise CourseError(
            f"allowed={allowed!r} is one string, not a collection of ids", f"pass [{allowed!r}]"
        )


def allowed(documents: Mapping[str, Document], filter: Filter) -> set[str]:
    """Ids of the documents that a filter lets through. Raises CourseError for what is no filter, and for a field that no
    document has."""
    if callable(filter):
        return {id for id, document in documents.items() if filter(document.metadata)}
    if not isinstance(filter, Mapping):
        raise CourseError(
            f"filter={filter!r:.80} is neither a mapping nor a function", 'say e.g. filter={"lang": "ko"}'
        )
    wanted = {
        field: list(v) if isinstance(v, (list, tuple, set, frozenset)) else [v] for field, v in filter.items()
    }
    for field in wanted if documents else ():
        if not any(field in document.metadata for document in documents.values()):
            raise CourseError(
                f"no document has a field {field!r} in its metadata",
                f"the first has {', '.join(next(iter(documents.values())).metadata) or 'none'}",
            )
    return {
        id
        for id, document in documents.items()
        if all(
            field in document.metadata and document.metadata[field] in values
            for field, values in wanted.items()
        )
    }


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy, without pickle. np.save to a file says nothing where a disk is too full for the last bytes."""
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    path.write_bytes(file.getbuffer())
