"""What the widgets of searching share: questions to choose from or to type, each searched for once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from course_lib.learn.widgets.explorer import Choice, Control, Text
from course_lib.retrieval.fusion import Candidates
from course_lib.retrieval.hybrid import HybridRetriever

MAX_SHOWN = 8  # passages in each column of a picture


class Questions:
    """Questions by their ids, and the candidates that a retriever finds for them and for a reader's own
    question.

    Documents that are added to the retriever later are not found. Raises ValueError for no questions.
    """

    def __init__(self, questions: Mapping[str, str], retriever: HybridRetriever) -> None:
        if not questions:
            raise ValueError("no questions to ask")
        self._ids = {
            text: id_ for id_, text in reversed(list(questions.items()))
        }  # of two with one text the first
        texts = tuple(dict.fromkeys(questions.values()))
        self.controls: dict[str, Control] = {
            "question": Choice("question", texts),
            "own": Text("or your own question", "", (texts[-1], "?")),
        }
        self.retrieve = lru_cache(maxsize=256)(lambda text: _retrieve(retriever, text))

    def __repr__(self) -> str:
        return f"Questions({len(self._ids)})"

    def resolve(self, question: str, own: str) -> tuple[str, str]:
        """The text of the question that is asked, the reader's own if there is one, and its id, or ''."""
        text = own.strip() or question
        return text, self._ids.get(text, "")


def _retrieve(retriever: HybridRetriever, text: str) -> Candidates:
    return retriever.retrieve([text])[0]


def passage_label(passage_id: str, titles: Mapping[str, str]) -> str:
    """A passage's id, with its title where it has one."""
    return f"{passage_id}, {titles[passage_id]}" if titles.get(passage_id) else passage_id
