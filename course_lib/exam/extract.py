"""Answer Korean questions without a language model: copy the text of the handbook that fits best.

The course's models read English only. A question names a product; the passages with that name are read. Each
text in them that may be an answer gets a score, from a few signals such as whether it has the form that is
asked for (Rajpurkar et al. 2016, arXiv:1606.05250, had such a reader beside SQuAD). A classifier tells the
topic of the question (`rag.korean_topics`), which has a label and the forms of its answers. An option must
stand in the passages, a short answer is copied. An answer that too little speaks for becomes a refusal.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib.exam.questions import ExamQuestion
from course_lib.exam.statements import NUMBER, asked, form, names, shape, spans
from course_lib.rag.korean_topics import korean_topics
from course_lib.rag.prompt import REFUSAL
from course_lib.retrieval import BM25, Tokenizer
from course_lib.retrieval.sentences import statements

COPULA = re.compile(r"입니다|이며|이고|이므로|이니|로,|뿐|$|\.")  # what follows the predicate of "A is B"
EARLIER = re.compile(r"예전|이전|[^다]전에|지난|바뀌기|였나|었나|옛")  # asks for what was valid before
WAS = re.compile(r"전에|그때|[였었]|원래|옛|예전|종전|까지의|까지는")  # says what was valid before
EXCEPT = re.compile(r"아닌|않[는은]|아니|빼면|제외")
LESS = re.compile(r"더 (?:낮|짧|작|적|이른|빠|싼|싸)")
UNTRUE = re.compile(r"[^:]+: .+")  # options of a question for the line that is wrong
DATE = "년월일"  # the form of a date
LEAST = -7.0  # of the log-probability of a form
STATED = 0.6  # share of a topic's label, from which on a statement counts as one about the topic
SMOOTHING = 0.01  # keeps the log-odds of 0 and 1 finite
# Weights of the signals of a text (see `Candidate`), fitted to the practice questions; then those of a
# refusal's, with the intercept, fitted to practice and held-back ones: `python -m benchmarks.exam korean`.
WEIGHTS = (0.82, 3.88, 0.93, 1.91, 9.69, -31.76, 5.04, 2.0, 2.19, 2.99, 1.47)
SUPPORT = (0.216, 0.024, 0.964, -0.574, 2.36, 2.432)
INTERCEPT = -6.66
LOWEST = 1.75  # a lower logit becomes a refusal: so do 98% of what has no answer, in cross-validation


class Candidate(NamedTuple):
    """A text that may be the answer, with its signals.

    The log-probability of its form after the question; whether the question's words ask for that form; the
    share of the question that stands just before it; whether a copula follows; whether it was valid earlier
    and the question asks for that; the share of the question in its statement, where the question makes an
    exception; the same anywhere; that of its passage, relative to the best passage; the share of the topic's
    label in the statement, and just before the text; and the log-probability of the form, given the topic.
    """

    text: str
    signals: tuple[float, ...]


class SentenceReader:
    """Answers from passages. passages, titles: by id. practice: questions with their right answers."""

    def __init__(
        self, passages: Mapping[str, str], titles: Mapping[str, str], practice: Sequence[ExamQuestion] = ()
    ) -> None:
        whole = {key: f"{titles[key]}\n{text}" for key, text in passages.items()}
        self.names = names(whole.values())
        self._any_name = re.compile("|".join(map(re.escape, self.names)) or r"(?!)")
        self._with = {name: [key for key, text in whole.items() if name in text] for name in self.names}
        self._statements = {key: list(statements(text)) for key, text in passages.items()}
        tokenizer = Tokenizer("bigrams", stop_words=True)
        self._tokens = lru_cache(maxsize=50_000)(lambda text: frozenset(tokenizer(text)))
        self._passages = {key: self._hide(text) for key, text in passages.items()}
        self._search = BM25(tokenizer)
        self._search.add({key: self._hide(text) for key, text in whole.items()})
        said = [text for texts in self._statements.values() for text in texts]
        count = Counter(token for text in said for token in self._tokens(text))
        self._rarity = {token: math.log(1 + len(said) / n) for token, n in count.items()}
        self._forms = self._fit_forms(said, practice)
        self._topics = korean_topics()
        self._labels = [self._tokens(label) for label in self._topics.labels]
        self._column = {token: n for n, token in enumerate(sorted(frozenset().union(*self._labels)))}
        self._label_weights = np.array(
            [[self._weighed(label, frozenset([token])) for token in self._column] for label in self._labels]
        )
        self._kinds = np.array([topic.partition(".")[0] for topic in self._topics.names])
        self._label_shares = lru_cache(maxsize=50_000)(self._shares_of_labels)
        self._clearest = cache(self._clearest_labels)

    def find(self, question: str) -> list[str]:
        """Return the ids of the passages that are read: those with its name, else the best three."""
        for name in self.named(question)[:1]:
            return self._with[name]
        return [hit.id for hit in self._search.search(question, k=3)]

    def named(self, question: str) -> list[str]:
        """Return the names in a question, in its order; a name that stands there twice is there twice."""
        found = []
        for name in self.names:
            found += [(at.start(), name) for at in re.finditer(re.escape(name), question)]
            question = question.replace(name, "_" * len(name))
        return [name for _, name in sorted(found)]

    def answer(self, question: ExamQuestion) -> str:
        """Return an option, a copied text, or REFUSAL."""
        text = question.question
        if question.options:
            if all(UNTRUE.fullmatch(option) for option in question.options) and self.named(text):
                return self._untrue(self.named(text)[0], question.options)
            best = self.best(text, question.options)
            return best.text if best else question.options[0]
        about = self.named(text)
        if len(about) != 2:
            return self._short(text)
        if "더 " in text:  # which of the two has more or less?
            return self._compared(text, about)
        middle = text.rindex(about[1])
        parts = [self.best(part) for part in (text[:middle], text[middle:])]
        return "; ".join(part.text for part in parts if part) or REFUSAL

    def candidates(
        self, question: str, options: Sequence[str] = (), read: Sequence[str] | None = None
    ) -> list[Candidate]:
        """Return the texts of the passages that may be the answer, or those that are one of the options.

        read: ids of the passages; None for those that `find` returns.
        """
        bare, found = self._hide(question), self.find(question) if read is None else read
        words, name = self._tokens(bare), "".join(self.named(question)[:1])
        forms = dict(zip(self._forms.classes_, self._forms.predict_log_proba([bare])[0], strict=True))
        topics = self.topics(question)
        shapes = self._expected_shapes(topics, math.exp(forms.get(DATE, LEAST)))
        earlier, excepted = bool(EARLIER.search(question)), bool(EXCEPT.search(question))
        likely = [int(topic) for topic in np.flatnonzero(topics > SMOOTHING)]
        shares = {key: self._share(words, self._passages[key]) for key in found}
        most = max(shares.values(), default=0) or 1
        result = []
        for key in found:
            for text in self._about(name, key):
                share, label = self._share(words, self._hide(text)), self._label_shares(self._hide(text))
                for start, span in _options_in(text, options) if options else spans(text):
                    before, after = text[:start], text[start + len(span) :]
                    signals = (
                        max(forms.get(form(span), LEAST), LEAST),
                        asked(question, span),
                        self._share(words, self._hide(before[-12:])),
                        float(bool(COPULA.match(after))),
                        float(earlier and bool(WAS.search(before[-14:] + after[:6]))),
                        share if excepted else 0.0,
                        share,
                        shares[key] / most,
                        float(topics @ label),
                        sum(topics[topic] * self._label_before(topic, before) for topic in likely),
                        max(math.log(shapes.get(shape(span), 0) + 1e-9), LEAST),
                    )
                    result.append(Candidate(span, signals))
        return result

    def topics(self, question: str) -> NDArray[np.float64]:
        """Return the probabilities of the topics asked for: those of the product's kind, or all of them."""
        chances = self._topics.asked([self._hide(question)])[0].astype(float)
        for name in self.named(question)[:1]:
            clearest = self._clearest(name)
            kind = max(sorted(set(self._kinds)), key=lambda kind: clearest[self._kinds == kind].sum())
            chances *= self._kinds == kind
        return np.asarray(chances / chances.sum())

    def _expected_shapes(self, topics: NDArray[np.float64], date: float) -> Mapping[str, float]:
        """Return the probabilities of the answer's shape. date: that of a question for a change's date."""
        shapes = defaultdict(float, {DATE: date})
        for chance, forms in zip((1 - date) * topics, self._topics.forms, strict=True):
            for name, part in forms.items():
                shapes[name] += float(chance) * part
        return shapes

    def _about(self, name: str, key: str) -> list[str]:
        """Return the statements of a passage that have this name, or none."""
        return [text for text in self._statements[key] if name in text or not self._any_name.search(text)]

    def _clearest_labels(self, name: str) -> NDArray[np.float64]:
        """Return, for each topic, how much of its label the clearest statement about a product has."""
        texts = {self._hide(text) for key in self._with[name] for text in self._about(name, key)}
        return np.asarray(np.max([self._label_shares(text) for text in sorted(texts)], axis=0))

    def _shares_of_labels(self, text: str) -> NDArray[np.float64]:
        """Return the share of each topic's label that a text has."""
        columns = [self._column[token] for token in self._tokens(text) if token in self._column]
        return np.asarray(self._label_weights[:, columns].sum(axis=1))

    def _label_before(self, topic: int, before: str) -> float:
        """Return the share of a topic's label that stands just before a text."""
        room = len(self._topics.labels[topic]) + 8
        return self._weighed(self._labels[topic], self._tokens(self._hide(before[-room:])))

    def best(
        self, question: str, options: Sequence[str] = (), read: Sequence[str] | None = None
    ) -> Candidate | None:
        """Return the candidate with the highest score, or None where there is none."""
        return max(self.candidates(question, options, read), key=score, default=None)

    def support(self, question: str, best: Candidate) -> tuple[float, ...]:
        """Return what tells whether the passages answer a question; see SUPPORT.

        It is the highest BM25 score of them, without names; the score of the best answer; the log-odds that a
        statement about the product has the topic's label; and the best answer's signals 0, 1 and 7.
        """
        scores, stated = self._search.scores(self._hide(question)), 0.0
        for name in self.named(question)[:1]:
            stated = float(self.topics(question) @ (self._clearest(name) >= STATED))
        odds = math.log((stated + SMOOTHING) / (1 - stated + SMOOTHING))
        found = max((scores[key] for key in self.find(question)), default=0.0)
        return found, score(best), odds, *(best.signals[i] for i in (0, 1, 7))

    def _short(self, question: str) -> str:
        best = self.best(question)
        if best is None:
            return REFUSAL
        signals = self.support(question, best)
        logit = INTERCEPT + sum(w * v for w, v in zip(SUPPORT, signals, strict=True))
        return best.text if logit >= LOWEST else REFUSAL

    def _compared(self, question: str, about: Sequence[str]) -> str:
        found = [self.best(question.replace(other, " ")) for other in reversed(about)]
        values = [quantity(best.text) if best else None for best in found]
        if None in values or values[0] == values[1]:
            return REFUSAL
        return (min if LESS.search(question) else max)(zip(values, about, strict=True))[1]

    def _untrue(self, name: str, options: Sequence[str]) -> str:
        """Return the option "label: value" whose value no statement about the product has with the label."""
        texts = [text for key in self._with[name] for text in self._about(name, key)]

        def stands(option: str) -> float:
            label, value = option.split(": ", 1)
            shares = [self._share(self._tokens(label), text) for text in texts if _options_in(text, [value])]
            return max(shares, default=-1.0)

        return min(options, key=stands)

    def _hide(self, text: str) -> str:
        return self._any_name.sub(" ", text)

    def _share(self, words: frozenset[str], text: str) -> float:
        """Return the share of a question's tokens that a text has, rare ones counted more."""
        return self._weighed(words, self._tokens(text))

    def _weighed(self, words: frozenset[str], tokens: frozenset[str]) -> float:
        unknown = math.log(1 + len(self._rarity))
        weight = {word: self._rarity.get(word, unknown) for word in words}
        return sum(weight[word] for word in words & tokens) / (sum(weight.values()) or 1)

    def _fit_forms(self, said: Sequence[str], practice: Sequence[ExamQuestion]) -> Any:
        """Return a classifier of forms, from what stands before the handbook's numbers, and from practice."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline

        examples = [
            (self._hide(text[max(0, number.start() - 16) : number.start()]), form(number[0]))
            for text in said
            for number in NUMBER.finditer(text)
        ]
        simple = [q for q in practice if q.answer != REFUSAL and len(self.named(q.question)) < 2]
        examples += [(self._hide(q.question), form(str(q.answer))) for q in simple]
        pieces = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
        model = make_pipeline(pieces, MultinomialNB(alpha=0.1, fit_prior=False))
        return model.fit(*zip(*examples, strict=True))


def score(candidate: Candidate) -> float:
    """Return the weighted sum of a candidate's signals."""
    return math.fsum(w * v for w, v in zip(WEIGHTS, candidate.signals, strict=True))


def quantity(text: str) -> float | None:
    """Return the number of a Korean text, of a length of time in hours; None without a number.

    >>> quantity("1만 1,000원"), quantity("2영업일")
    (11000.0, 48.0)
    """
    units = {
        "억": 1e8,
        "만": 1e4,
        "천": 1e3,
        "분": 1 / 60,
        "일": 24,
        "영": 24,
        "주": 168,
        "개월": 730,
        "년": 8760,
    }
    numbers = re.findall(r"(\d[\d,]*(?:\.\d+)?)(개월|[억만천분일영주년])?", text)
    return sum(float(n.replace(",", "")) * units.get(unit, 1) for n, unit in numbers) if numbers else None


def _options_in(text: str, options: Sequence[str]) -> list[tuple[int, str]]:
    return [
        (at.start(), option) for option in options for at in re.finditer(rf"(?<!\d){re.escape(option)}", text)
    ]
