"""Answer Korean questions without a language model, by copying a piece of text from the handbook.

The course's language models read English only. The reader looks at the passages about the product that the
question names. Each piece of text that may be the answer gets a score, a weighted sum of signals such as
whether it has the form that the question asks for (compare the baseline in Rajpurkar et al. 2016,
arXiv:1606.05250). A classifier predicts the topic of the question, such as the annual fee; each topic has a
label, its name in Korean (`rag.korean_topics`). With too little evidence for the best piece, the reader
refuses to answer. The evidence is a logit: log(p / (1 - p)) for the probability p that there is an answer.
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

# A form of "is", or the end: what follows B in "A is B".
COPULA = re.compile(r"입니다|이며|이고|이므로|이니|로,|뿐|$|\.")
# In a question: about a former value.
ASKS_FORMER = re.compile(r"예전|이전|[^다]전에|지난|바뀌기|였나|었나|옛")
# In a passage: about a former value.
STATES_FORMER = re.compile(r"전에|그때|[였었]|원래|옛|예전|종전|까지의|까지는")
ASKS_EXCEPTION = re.compile(r"아닌|않[는은]|아니|빼면|제외")  # in a question: "other than", "except"
ASKS_LESS = re.compile(r"더 (?:낮|짧|작|적|이른|빠|싼|싸)")  # in a comparison: "lower", "shorter", ...
LABELLED_OPTION = re.compile(r"[^:]+: .+")  # "label: value", in a question for the wrong one of several facts
DATE = "년월일"  # the form of a date
MIN_LOG_PROBABILITY = -7.0  # of an answer's form (its unit or punctuation); lower ones are raised to it
STATED = 0.6  # a statement with at least this share of a topic's label counts as one about the topic
SMOOTHING = 0.01  # added to p and to 1 - p, so that the logits of 0 and 1 are finite
# WEIGHTS: of the signals of a `Candidate`, fitted to the practice questions. SUPPORT, INTERCEPT: a logistic
# regression of "the passages contain an answer" on the values of `SentenceReader.support`, fitted to practice
# questions and others, none of the exam's (`python -m benchmarks.exam korean`).
WEIGHTS = (0.82, 3.88, 0.93, 1.91, 9.69, -31.76, 5.04, 2.0, 2.19, 2.99, 1.47)
SUPPORT = (0.216, 0.024, 0.964, -0.574, 2.36, 2.432)
INTERCEPT = -6.66
# Below it the reader refuses. In cross-validation, where no question is judged by weights that were fitted to
# it, that is so for 98% of the questions without an answer.
MIN_LOGIT = 1.75


class Candidate(NamedTuple):
    """A piece of text that may be the answer, with its signals, in this order:

    - the log-probability of its form, given the question
    - whether the question words ask for this form
    - the share of the question's tokens that stand just before it
    - whether a form of "is" follows it
    - whether the question asks for a former value, and the text around it is about one
    - the share of the question's tokens in its statement, if the question asks for an exception, else 0
    - the share of the question's tokens in its statement
    - the share of the question's tokens in its passage, relative to the best passage
    - the share of the topic's label in its statement
    - the share of the topic's label just before it
    - the log-probability of its form, given the topic
    """

    text: str
    signals: tuple[float, ...]


class SentenceReader:
    """Answers questions from passages.

    passages, titles: by passage id. practice: questions with right answers, to learn which forms answers
    have.
    """

    def __init__(
        self, passages: Mapping[str, str], titles: Mapping[str, str], practice: Sequence[ExamQuestion] = ()
    ) -> None:
        whole = {key: f"{titles[key]}\n{text}" for key, text in passages.items()}
        self.names = names(whole.values())
        self._any_name = re.compile("|".join(map(re.escape, self.names)) or r"(?!)")
        self._with = {name: [key for key, text in whole.items() if name in text] for name in self.names}
        self._statements = {key: list(statements(text)) for key, text in passages.items()}
        tokenizer = Tokenizer("bigrams", stop_words=True)  # pairs of neighbouring syllables
        self._tokens = lru_cache(maxsize=50_000)(lambda text: frozenset(tokenizer(text)))
        self._passages = {key: self._hide(text) for key, text in passages.items()}
        self._search = BM25(tokenizer)
        self._search.add({key: self._hide(text) for key, text in whole.items()})
        all_statements = [text for texts in self._statements.values() for text in texts]
        count = Counter(token for text in all_statements for token in self._tokens(text))
        self._rarity = {token: math.log(1 + len(all_statements) / n) for token, n in count.items()}
        self._forms = self._fit_forms(all_statements, practice)
        self._topics = korean_topics()
        self._labels = [self._tokens(label) for label in self._topics.labels]
        self._column = {token: n for n, token in enumerate(sorted(frozenset().union(*self._labels)))}
        self._label_weights = np.array(
            [
                [self._weighted_share(label, frozenset([token])) for token in self._column]
                for label in self._labels
            ]
        )
        self._kinds = np.array([topic.partition(".")[0] for topic in self._topics.names])
        self._label_shares = lru_cache(maxsize=50_000)(self._shares_of_labels)
        self._clearest = cache(self._clearest_labels)

    def find(self, question: str) -> list[str]:
        """Return the ids of the passages about the question's product; without a product, the best three."""
        for name in self.named(question)[:1]:
            return self._with[name]
        return [hit.id for hit in self._search.search(question, k=3)]

    def named(self, question: str) -> list[str]:
        """Return the product names in a question, in order, repeated names included."""
        places = []
        for name in self.names:
            places += [(at.start(), name) for at in re.finditer(re.escape(name), question)]
            question = question.replace(name, "_" * len(name))
        return [name for _, name in sorted(places)]

    def answer(self, question: ExamQuestion) -> str:
        """Return one of the options, a copied piece of text, or REFUSAL."""
        text = question.question
        if question.options:
            if all(LABELLED_OPTION.fullmatch(option) for option in question.options) and self.named(text):
                return self._untrue(self.named(text)[0], question.options)
            best = self.best(text, question.options)
            return best.text if best else question.options[0]
        about = self.named(text)
        if len(about) != 2:
            return self._short(text)
        if "더 " in text:  # 더 (more): a comparison of two products
            return self._compared(text, about)
        middle = text.rindex(about[1])
        parts = [self.best(part) for part in (text[:middle], text[middle:])]
        return "; ".join(part.text for part in parts if part) or REFUSAL

    def candidates(
        self, question: str, options: Sequence[str] = (), read: Sequence[str] | None = None
    ) -> list[Candidate]:
        """Return the pieces of text that may be the answer; with options, only pieces equal to one.

        read: ids of the passages; by default those that `find` returns.
        """
        bare, ids = self._hide(question), self.find(question) if read is None else read
        words, name = self._tokens(bare), "".join(self.named(question)[:1])
        forms = dict(zip(self._forms.classes_, self._forms.predict_log_proba([bare])[0], strict=True))
        topics = self.topics(question)
        shapes = self._expected_shapes(topics, math.exp(forms.get(DATE, MIN_LOG_PROBABILITY)))
        earlier, excepted = bool(ASKS_FORMER.search(question)), bool(ASKS_EXCEPTION.search(question))
        likely = [int(topic) for topic in np.flatnonzero(topics > SMOOTHING)]
        shares = {key: self._share(words, self._passages[key]) for key in ids}
        most = max(shares.values(), default=0) or 1
        result = []
        for key in ids:
            for text in self._about(name, key):
                share, label = self._share(words, self._hide(text)), self._label_shares(self._hide(text))
                for start, span in _options_in(text, options) if options else spans(text):
                    before, after = text[:start], text[start + len(span) :]
                    signals = (
                        max(forms.get(form(span), MIN_LOG_PROBABILITY), MIN_LOG_PROBABILITY),
                        asked(question, span),
                        self._share(words, self._hide(before[-12:])),
                        float(bool(COPULA.match(after))),
                        float(earlier and bool(STATES_FORMER.search(before[-14:] + after[:6]))),
                        share if excepted else 0.0,
                        share,
                        shares[key] / most,
                        float(topics @ label),
                        sum(topics[topic] * self._label_before(topic, before) for topic in likely),
                        max(math.log(shapes.get(shape(span), 0) + 1e-9), MIN_LOG_PROBABILITY),
                    )
                    result.append(Candidate(span, signals))
        return result

    def topics(self, question: str) -> NDArray[np.float64]:
        """Return each topic's probability; if a product is named, only topics of its kind count."""
        chances = self._topics.asked([self._hide(question)])[0].astype(float)
        for name in self.named(question)[:1]:
            clearest = self._clearest(name)
            kind = max(sorted(set(self._kinds)), key=lambda kind: clearest[self._kinds == kind].sum())
            chances *= self._kinds == kind
        return np.asarray(chances / chances.sum())

    def _expected_shapes(self, topics: NDArray[np.float64], date: float) -> Mapping[str, float]:
        """Return shape of an answer (its unit, see `statements.shape`) -> probability.

        date: the probability that the question asks for a date.
        """
        shapes = defaultdict(float, {DATE: date})
        for chance, forms in zip((1 - date) * topics, self._topics.forms, strict=True):
            for name, part in forms.items():
                shapes[name] += float(chance) * part
        return shapes

    def _about(self, name: str, key: str) -> list[str]:
        """Return the statements of a passage that contain this product name, or no product name."""
        return [text for text in self._statements[key] if name in text or not self._any_name.search(text)]

    def _clearest_labels(self, name: str) -> NDArray[np.float64]:
        """Return, for each topic, the highest share of its label in any statement about a product."""
        texts = {self._hide(text) for key in self._with[name] for text in self._about(name, key)}
        return np.asarray(np.max([self._label_shares(text) for text in sorted(texts)], axis=0))

    def _shares_of_labels(self, text: str) -> NDArray[np.float64]:
        """Return the share of each topic's label that a text contains."""
        columns = [self._column[token] for token in self._tokens(text) if token in self._column]
        return np.asarray(self._label_weights[:, columns].sum(axis=1))

    def _label_before(self, topic: int, before: str) -> float:
        """Return the share of a topic's label in the end of `before`, the text before a candidate."""
        room = len(self._topics.labels[topic]) + 8
        return self._weighted_share(self._labels[topic], self._tokens(self._hide(before[-room:])))

    def best(
        self, question: str, options: Sequence[str] = (), read: Sequence[str] | None = None
    ) -> Candidate | None:
        """Return the candidate with the highest score, or None if there is none."""
        return max(self.candidates(question, options, read), key=score, default=None)

    def support(self, question: str, best: Candidate) -> tuple[float, ...]:
        """Return what tells whether the passages contain an answer; SUPPORT has the weights.

        It is the passages' highest score in a search by words (BM25), the score of the best candidate, the
        logit of "a statement about the product is about the topic of the question", and the candidate's
        signals 0, 1 and 7.
        """
        scores, stated = self._search.scores(self._hide(question)), 0.0
        for name in self.named(question)[:1]:
            stated = float(self.topics(question) @ (self._clearest(name) >= STATED))
        odds = math.log((stated + SMOOTHING) / (1 - stated + SMOOTHING))
        search_score = max((scores[key] for key in self.find(question)), default=0.0)
        return search_score, score(best), odds, *(best.signals[i] for i in (0, 1, 7))

    def _short(self, question: str) -> str:
        """Return the written answer to a question about one product, or REFUSAL."""
        best = self.best(question)
        if best is None:
            return REFUSAL
        signals = self.support(question, best)
        logit = INTERCEPT + sum(w * v for w, v in zip(SUPPORT, signals, strict=True))
        return best.text if logit >= MIN_LOGIT else REFUSAL

    def _compared(self, question: str, about: Sequence[str]) -> str:
        """Return the one of two products with the larger or smaller value, as asked, or REFUSAL."""
        candidates = [self.best(question.replace(other, " ")) for other in reversed(about)]
        values = [quantity(best.text) if best else None for best in candidates]
        if None in values or values[0] == values[1]:
            return REFUSAL
        return (min if ASKS_LESS.search(question) else max)(zip(values, about, strict=True))[1]

    def _untrue(self, name: str, options: Sequence[str]) -> str:
        """Return the option "label: value" that no statement about the product supports."""
        texts = [text for key in self._with[name] for text in self._about(name, key)]

        def supported(option: str) -> float:
            label, value = option.split(": ", 1)
            shares = [self._share(self._tokens(label), text) for text in texts if _options_in(text, [value])]
            return max(shares, default=-1.0)

        return min(options, key=supported)

    def _hide(self, text: str) -> str:
        """Return a text without product names."""
        return self._any_name.sub(" ", text)

    def _share(self, words: frozenset[str], text: str) -> float:
        """Return the share of a question's tokens that a text contains; rare tokens count more."""
        return self._weighted_share(words, self._tokens(text))

    def _weighted_share(self, words: frozenset[str], tokens: frozenset[str]) -> float:
        """Return the share of `words` that are among `tokens`; rare words count more."""
        unknown = math.log(1 + len(self._rarity))
        weight = {word: self._rarity.get(word, unknown) for word in words}
        return sum(weight[word] for word in words & tokens) / (sum(weight.values()) or 1)

    def _fit_forms(self, all_statements: Sequence[str], practice: Sequence[ExamQuestion]) -> Any:
        """Return a classifier of an answer's form, given a question.

        It is fitted to the text before each number in the handbook's statements, and to the practice
        questions.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline

        examples = [
            (self._hide(text[max(0, number.start() - 16) : number.start()]), form(number[0]))
            for text in all_statements
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
    """Return the number in a Korean text; a length of time in hours. None without a number.

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
