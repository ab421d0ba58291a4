"""Answer Korean questions without a language model: by the sentence of the handbook that shares most words.

The course's models read English only. An option that stands in the best sentence is chosen. For a short
answer, words of the question tell its form (a date, an amount, a code, ...), and the first text of that form
in the best sentence is copied. A question with no sentence or no form is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from course_lib.exam.questions import ExamQuestion
from course_lib.rag.prompt import REFUSAL
from course_lib.retrieval import BM25, Tokenizer
from course_lib.retrieval.sentences import sentence_ends

# Words of a question, and the form of the answer that they ask for.
FORMS = tuple(
    (re.compile(asked), re.compile(form))
    for asked, form in (
        (r"날짜|며칠부터|날을|언제부터|시행일|언제입니까|언제인가", r"\d{4}년 \d{1,2}월 \d{1,2}일"),
        (r"양식|신청서|코드|번호|종이|서류함|서식|규정", r"[A-Z]{2,4}-\d{3}"),
        (r"전화|번호|연락", r"\d{4}-\d{4}"),
        (r"몇 시(?!간)|시각", r"\d{1,2}:\d{2}"),
        (r"퍼센트|율|금리|이자", r"\d+(?:\.\d+)?%"),
        (r"얼마|금액|한도|수수료|원|료|비|요금|돈", r"(?:\d[\d,]*(?:억|만|천)? ?)+원"),
        (
            r"몇|얼마|며칠|기간|횟수|개수|한도|까지|이내|간격|나이|연령|동안|소요|최대|최소|길이",
            r"\d[\d,]*(?:\.\d+)?(?:영업일|일|개월|주|년|시간|분|회|번|건|개|곳|대|명|세|장|통)",
        ),
    )
)


class SentenceReader:
    """Answers from the sentences of passages. passages, titles: by id. passages_read: how many are read."""

    def __init__(
        self, passages: Mapping[str, str], titles: Mapping[str, str], passages_read: int = 1
    ) -> None:
        tokens = Tokenizer("bigrams", stop_words=True)
        self.passages_read = passages_read
        self._passages, self._sentences = BM25(tokens), BM25(tokens, b=0.3)
        self._passages.add({key: f"{titles[key]}\n{text}" for key, text in passages.items()})
        self._texts = {f"{key}/{n}": s for key, text in passages.items() for n, s in enumerate(_split(text))}
        self._sentences.add(self._texts)

    def find(self, question: str) -> list[str]:
        """Return the ids of the passages that are read, the best one first."""
        return [hit.id for hit in self._passages.search(question, k=self.passages_read)]

    def answer(self, question: ExamQuestion) -> str:
        """Return an option, a copied text, or REFUSAL."""
        best = list(self._best_sentences(question.question))
        if question.options:
            inside = (option for sentence in best for option in question.options if option in sentence)
        else:
            forms = [form for asked, form in FORMS if asked.search(question.question)]
            inside = (found[0] for form in forms for sentence in best if (found := form.search(sentence)))
        return next(inside, question.options[0] if question.options else REFUSAL)

    def _best_sentences(self, question: str) -> Iterator[str]:
        found = set(self.find(question))
        allowed = {key for key in self._texts if key.rpartition("/")[0] in found}
        for hit in self._sentences.search(question, k=len(allowed) or 1, allowed=allowed):
            yield self._texts[hit.id]


def _split(text: str) -> Iterator[str]:
    start = 0
    for end in sentence_ends(text, 0, len(text)):
        yield text[start:end].strip()
        start = end
