"""Question controls and a cache of search results, shared by the widgets of chapters 03 and 04."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from course_lib.learn.widgets.explorer import Choice, Control, Text
from course_lib.retrieval.fusion import Candidates
from course_lib.retrieval.hybrid import HybridRetriever

MAX_SHOWN = 8  # passages in each column of a picture


class Questions:
    """Controls to choose or type a question, and `retrieve(text)`, a cached search for passages.

    questions: id -> text. Documents added to the retriever after a search do not appear in its cached result.
    Raises ValueError for no questions.
    """

    def __init__(self, questions: Mapping[str, str], retriever: HybridRetriever) -> None:
        if not questions:
            raise ValueError("no questions to ask")
        # If two questions have the same text, the first one counts.
        self._ids = {text: id_ for id_, text in reversed(list(questions.items()))}
        texts = tuple(dict.fromkeys(questions.values()))
        self.controls: dict[str, Control] = {
            "question": Choice("question", texts),
            "own": Text("or your own question", "", (texts[-1], "?")),
        }
        self.retrieve = lru_cache(maxsize=256)(lambda text: _retrieve(retriever, text))

    def __repr__(self) -> str:
        return f"Questions({len(self._ids)})"

    def resolve(self, question: str, own: str) -> tuple[str, str]:
        """Return text and id of the current question: `own` unless it is blank. An unknown text has id ''."""
        text = own.strip() or question
        return text, self._ids.get(text, "")


def _retrieve(retriever: HybridRetriever, text: str) -> Candidates:
    return retriever.retrieve([text])[0]


def passage_label(passage_id: str, titles: Mapping[str, str]) -> str:
    """Return a passage's id, followed by its title if it has one."""
    return f"{passage_id}, {titles[passage_id]}" if titles.get(passage_id) else passage_id
