"""Checkers of chapter 03's exercises on nDCG, on the idf of BM25, and on Korean tokens.

nDCG divides the gain of a ranking's first k passages by that of the ideal order; their grades count less at
later ranks. BM25 ranks documents by the words of a query, each with a weight, its idf, higher for rare words;
rank-bm25 is a Python package for it. A checker takes the student's answer, and returns feedback, or None if
the answer is right.
"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from course_lib.retrieval.metrics import dcg, ndcg

# -- 03.1: a case for each of three faulty versions of nDCG --------------------------------------------------


def _own_ideal(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Version A of nDCG, a wrong one: the ideal order is that of the found passages only."""
    gains = [grades.get(id_, 0) for id_ in ranking]
    best = dcg(sorted(gains, reverse=True)[:k])
    return dcg(gains[:k]) / best if best else 0.0


def _judged_only(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Version B of nDCG, a wrong one: passages without a grade are skipped."""
    best = dcg(sorted(grades.values(), reverse=True)[:k])
    return dcg([grades[id_] for id_ in ranking if id_ in grades][:k]) / best if best else 0.0


def _ideal_not_cut(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Version C of nDCG, a wrong one: the ideal order is not cut after k passages."""
    best = dcg(sorted(grades.values(), reverse=True))
    return dcg([grades.get(id_, 0) for id_ in ranking[:k]]) / best if best else 0.0


VERSIONS = {"A": _own_ideal, "B": _judged_only, "C": _ideal_not_cut}
WHERE_TO_LOOK = {
    "A": "where does A take its best possible order from, and which list would that flatter?",
    "B": "what does B do with a passage that nobody judged?",
    "C": "how many relevant passages go into C's best possible order, and how many places are counted?",
}
MIN_DIFFERENCE = 0.1  # between the faulty and the right value in the student's case


def check_ndcg_cases(cases: Mapping[str, tuple[Sequence[str], Mapping[str, int], int]]) -> str | None:
    """Check 03.1: for each faulty version of nDCG a case (ranking, grades, k) in which only it is wrong.

    grades: passage id -> how relevant it is, 0 for not at all. k: how many passages of the ranking count.
    """
    if not isinstance(cases, Mapping) or set(cases) != set(VERSIONS):
        return 'expected a dict with the keys "A", "B" and "C", and a case (ranking, grades, k) for each'
    return next(filter(None, (_check_case(name, cases[name]) for name in VERSIONS)), None)


def _check_case(name: str, case: Any) -> str | None:
    """Return feedback on the case for one version, None if it is right."""
    if not isinstance(case, (tuple, list)) or len(case) != 3:
        return f"the case for {name} must be (ranking, grades, k), such as (['a', 'b'], {{'a': 3}}, 2)"
    ranking, grades, k = case
    if not isinstance(grades, Mapping) or isinstance(ranking, str) or not isinstance(k, int) or k < 1:
        return f"the case for {name} must have a list of ids, a dict from id to grade, and k of 1 or more"
    if len(set(ranking)) < len(ranking):
        return f"the ranking for {name} has an id twice; a search returns each passage once"
    right = ndcg(list(ranking), dict(grades), k)
    values = {version: function(ranking, grades, k) for version, function in VERSIONS.items()}
    if abs(values[name] - right) < 1e-9:
        return f"on your case for {name} it is right, {right:.3f}: {WHERE_TO_LOOK[name]}"
    if others := [v for v in VERSIONS if v != name and abs(values[v] - right) > 1e-9]:
        return (
            f"your case for {name} is one for {others[0]}, too, which says {values[others[0]]:.3f} where "
            f"ndcg says {right:.3f}: take away what misleads {others[0]}"
        )
    if (off := abs(values[name] - right)) < MIN_DIFFERENCE:
        what = f"your case for {name} shows the fault, but it is off by {off:.3f} only"
        return f"{what}; {MIN_DIFFERENCE} is asked"
    return None


# -- 03.2: a collection that rank-bm25 gets wrong ------------------------------------------------------------


def check_bm25_case(case: tuple[Sequence[str], str]) -> str | None:
    """Check 03.2: documents and a two-word query for which rank-bm25 puts the wrong document first.

    It is wrong because rank-bm25 replaces a negative idf, that of a very common word, by a positive one.
    """
    if not isinstance(case, (tuple, list)) or len(case) != 2 or isinstance(case[0], str):
        return "expected a list of documents and a question: (['the card', 'the fee'], 'the card')"
    if not all(isinstance(text, str) for text in (*case[0], case[1])):
        wrong = next(text for text in (*case[0], case[1]) if not isinstance(text, str))
        return f"documents and question are strings, such as 'the card'; got {wrong!r}"
    documents, words = [text.lower().split() for text in case[0]], case[1].lower().split()
    if len(words) != 2 or len(set(words)) != 2:
        return f"the question must have two different words; {case[1]!r} has {len(set(words))}"
    if not 2 <= len(documents) <= 6 or not all(1 <= len(document) <= 6 for document in documents):
        return "give 2 to 6 documents, of 1 to 6 words each"
    df = Counter(word for document in documents for word in set(document))  # in how many documents it is
    common, rare = sorted(words, key=lambda word: -df[word])
    if not df[rare]:
        return f"no document has {rare!r}: there is no right answer that could be missed"
    if df[common] == df[rare]:
        return f"{common!r} and {rare!r} are in {df[rare]} documents each: neither is the rarer one"
    if 2 * df[common] <= len(documents):
        return (
            f"{common!r} is in {df[common]} of {len(documents)} documents: its weight by the formula is not "
            "negative, so rank-bm25 replaced nothing. How common must a word be for that?"
        )
    return _check_first(documents, words, common, rare)


def _check_first(documents: list[list[str]], words: list[str], common: str, rare: str) -> str | None:
    """Return feedback unless rank-bm25 prefers the common word and the course's BM25 the rare one."""
    from rank_bm25 import BM25Okapi

    from course_lib.retrieval import BM25  # here, so that other exercises need no search engine

    library = BM25Okapi(documents)
    scores = dict(enumerate(library.get_scores(words)))
    with_rare = [i for i, document in enumerate(documents) if rare in document]
    without = [i for i, document in enumerate(documents) if common in document and rare not in document]
    if max(scores[i] for i in without) <= max(scores[i] for i in with_rare):
        return (
            f"rank-bm25 still puts a document with {rare!r} first, or level: it weighs {rare!r} "
            f"{library.idf[rare]:.2f} and {common!r} {library.idf[common]:.2f}. How common may a word be "
            "that weighs nothing at all?"
        )
    index = BM25(str.split, k1=1.5)  # with the parameter k1 of rank-bm25
    index.add({str(i): " ".join(document) for i, document in enumerate(documents)})
    first = int(index.search(" ".join(words), 1)[0].id)
    if first not in with_rare:
        return (
            f"Lucene's weights put {' '.join(documents[first])!r} first as well, so the weights are not to "
            "blame: is it shorter, or has it the commoner word several times?"
        )
    return None


# -- 03.3: tokens of Korean ----------------------------------------------------------------------------------

# Korean particles that follow a noun: after a consonant, after a vowel, and after either.
AFTER_CONSONANT, AFTER_VOWEL = ("은", "이", "을", "과", "으로"), ("는", "가", "를", "와", "로")
AFTER_EITHER = ("의", "에", "도", "만", "에서", "까지", "부터")
SHORT_NOUNS = tuple("돈집빚땅책차")
LONG_NOUNS = ("체크카드", "은행", "통장", "수수료", "계좌", "신청")
LIKE_PARTICLES = ("한도", "효과", "나이")  # nouns whose last syllable is also a particle
ONE_SHARED = [  # nouns with one syllable in common, which must not share a token
    ("은행", "은혜"),
    ("통장", "통화"),
    ("계좌", "설계"),
    ("수수료", "요금료"),
    ("체크카드", "체중"),
]


def check_korean_tokens(pieces: Callable[[str], Iterable[str]]) -> str | None:
    """Check 03.3: `pieces(text)`, the tokens of a text; it must have all five PROPERTIES."""

    def tokens(text: str) -> list[str]:
        result = pieces(text)
        parts = list(result) if isinstance(result, Iterable) and not isinstance(result, str) else [None]
        if not all(isinstance(token, str) for token in parts):
            raise TypeError(f"pieces({text!r}) gave {result!r}; expected a list of strings")
        return [str(token) for token in parts]

    try:
        return next(filter(None, (has(tokens) for has in PROPERTIES)), None)
    except TypeError as error:
        return str(error)


Tokens = Callable[[str], list[str]]


def _particles(noun: str) -> tuple[str, ...]:
    """Return the particles that may follow a noun.

    A Hangul syllable's code point, modulo 28, tells its final consonant; 0 means none.
    """
    return (AFTER_CONSONANT if (ord(noun[-1]) - ord("가")) % 28 else AFTER_VOWEL) + AFTER_EITHER


def _nouns_find_themselves(tokens: Tokens) -> str | None:
    """Property 1: a noun shares a token with the noun and its particle."""
    nouns = (*LONG_NOUNS, *SHORT_NOUNS, *LIKE_PARTICLES)
    pairs = ((noun, p) for noun in nouns for p in _particles(noun))
    for noun, particle in pairs:
        if not set(tokens(noun)) & set(tokens(noun + particle)):
            size = "of one syllable " if len(noun) == 1 else ""
            if noun in LIKE_PARTICLES:
                size = f"that ends like a particle ({noun[-1]}) "
            return (
                f"property 1: {noun} gives {tokens(noun)} and {noun + particle} gives "
                f"{tokens(noun + particle)}: a noun {size}is not found with its particle"
            )
    return None


def _latin_stays_whole(tokens: Tokens) -> str | None:
    """Property 2: Latin words and numbers are tokens in lower case."""
    for text, wanted in (
        ("ATM에서", "atm"),
        ("2026년 VIP", "2026"),
        ("2026년 VIP", "vip"),
        ("KB국민은행", "kb"),
    ):
        if wanted not in tokens(text):
            how = (
                "lower case is missing" if wanted.upper() in tokens(text) else "letters and digits stay whole"
            )
            return f"property 2: pieces({text!r}) gave {tokens(text)}, without {wanted!r}: {how}"
    return None


def _forms_are_one(tokens: Tokens) -> str | None:
    """Property 3: the Unicode forms NFC and NFD give the same tokens."""
    for text in ("체크카드를 만들 때", "돈을 ATM에서"):
        if sorted(tokens(unicodedata.normalize("NFD", text))) != sorted(tokens(text)):
            form = "in NFD gives other tokens than in NFC"
            return f"property 3: {text!r} {form}: bring the text to one form first"
    return None


def _texts_are_their_words(tokens: Tokens) -> str | None:
    """Property 4: the tokens of a text are those of its words; punctuation adds none."""
    rng = random.Random(0)
    for _ in range(50):
        words = [rng.choice((*LONG_NOUNS, *SHORT_NOUNS, "atm")) for _ in range(3)]
        of_words = Counter(t for word in words for t in tokens(word))
        of_text = Counter(tokens(" ".join(words)))
        if of_text != of_words:
            extra, lost = list(of_text - of_words), list(of_words - of_text)
            what = (
                f"{extra[0]!r} is of no word" if extra else f"{lost[0]!r} came fewer times than in the words"
            )
            return f"property 4: in {' '.join(words)!r} {what}"
        if Counter(tokens(f"{words[0]}? {words[1]}, ({words[2]})")) != of_words:
            return f"property 4: signs change the tokens of {words[0]!r}: leave out ?, commas and brackets"
    return None


def _one_syllable_is_not_enough(tokens: Tokens) -> str | None:
    """Property 5: nouns with only one syllable in common share no token."""
    for a, b in ONE_SHARED:
        if shared := set(tokens(a)) & set(tokens(b)):
            first = len(max(tokens(a), key=len)) > 1
            which = "a first syllable may be a token where a particle follows" if first else "one is too few"
            return (
                f"property 5: {a} and {b} have only one syllable in common, but share the token "
                f"{min(shared)!r}, so everything would find everything: {which}"
            )
    return None


# What every answer to 03.3 must do; each function returns feedback, or None.
PROPERTIES = (
    _forms_are_one,
    _nouns_find_themselves,
    _latin_stays_whole,
    _texts_are_their_words,
    _one_syllable_is_not_enough,
)
