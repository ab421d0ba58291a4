"""Text to tokens, English and Korean mixed: every stretch of text is cut as its own script is.

A tokenizer decides what can be found at all: a document is found only by the tokens that it shares with the question, letter
for letter. Documents and questions go through the same one, whose settings belong into the manifest of an index.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

from course_lib.errors import CourseError

HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"  # conjoining letters, single letters, syllables
KOREAN = rf"[{HANGUL}]+(?:[^\w]+[{HANGUL}]+)*+"  # Hangul words with nothing between that is read aloud
AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![.,]?\d)"  # 1,250,000 or 1,250.50
DECIMAL = r"(?<!\d\.)\d+\.\d+(?!\.?\d)"  # 3.5, and not the 03.15 in 2024.03.15
WORD = rf"[^\W\d_{HANGUL}][^\W_{HANGUL}]*(?:['’][^\W\d_{HANGUL}]+)*"  # begins with a letter: card, mp3, don't
PIECE = re.compile(rf"{KOREAN}|{AMOUNT}|{DECIMAL}|\d+|{WORD}")
HANGUL_WORD = re.compile(rf"[{HANGUL}]+")
LONGEST_STEM = 64  # characters; what is longer is no English word, and stemming it could take minutes

# Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET
STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ]
)
# Kiwi's tags of morphemes that carry a meaning: nouns, numerals, verbs, adjectives, roots, adverbs. No particles, no endings.
CONTENT = ("NNG", "NNP", "NR", "VV", "VA", "XR", "MAG")


# -- a stretch of Korean --------------------------------------------------------------------------------------------------


def hangul_words(run: str) -> list[str]:
    """Words as they are written, with their particles.

    >>> hangul_words("카드를 만들 수")
    ['카드를', '만들', '수']
    """
    return HANGUL_WORD.findall(run)


def hangul_bigrams(run: str) -> list[str]:
    """Every two neighbouring syllables of a word; a word of one syllable stays whole.

    A particle then costs one token and leaves the others of the word as they are (Lee and Ahn 1996, SIGIR).

    >>> hangul_bigrams("체크카드를 쓸")
    ['체크', '크카', '카드', '드를', '쓸']
    """
    return [
        token
        for word in hangul_words(run)
        for token in ([word[i : i + 2] for i in range(len(word) - 1)] or [word])
    ]


def hangul_morphemes(run: str) -> list[str]:
    """Content morphemes by Kiwi. Its first call loads 500 MB, for seconds. Raises CourseError where Kiwi is not installed."""
    return [m.form for m in kiwi().tokenize(run) if m.tag.startswith(CONTENT)]


def hangul_both(run: str) -> list[str]:
    """Content morphemes and bigrams: a word that Kiwi does not know, such as a product's name, is found by its bigrams."""
    return hangul_morphemes(run) + hangul_bigrams(run)


@cache
def kiwi() -> Any:
    """The morphological analyser, one for all. Raises CourseError where it is not installed."""
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        raise CourseError(
            "Korean morphemes need Kiwi (88 MB), and it is not installed", 'pip install -e ".[ko]"'
        ) from error
    return Kiwi(num_workers=1)


KOREAN_CUTS: dict[str, Callable[[str], list[str]]] = {
    "words": hangul_words,
    "bigrams": hangul_bigrams,
    "morphemes": hangul_morphemes,
    "kiwi": hangul_both,
}
NAMES = ("spaces", *KOREAN_CUTS)


# -- words and numbers ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of a lower-case English word (Porter2, snowballstem.org/algorithms/english).

    >>> stem("banking"), stem("banks"), stem("fees")
    ('bank', 'bank', 'fee')
    """
    from snowballstemmer.english_stemmer import EnglishStemmer

    return str(
        EnglishStemmer().stemWord(word)
    )  # one of its own for each word: it keeps state, and threads search


def number(digits: str) -> str:
    """One spelling for one amount: no commas, no zeros at the end of a fraction. Zeros in front stay: they are of a code.

    >>> number("1,250,000"), number("3.50"), number("2.0"), number("007")
    ('1250000', '3.5', '2', '007')
    """
    whole, point, fraction = digits.replace(",", "").partition(".")
    return whole + (point + fraction).rstrip("0").rstrip(".")


# -- the tokenizer --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokenizer:
    """Text to tokens. The name says how Korean is cut; all other scripts are cut into lower-case words and numbers.

    name: "bigrams", "words" (as written), "morphemes" or "kiwi" (morphemes and bigrams; both need the extra [ko]), or
    "spaces", which is `text.split()` and nothing more, as most tutorials have it.
    stop_words: leave out the 33 commonest English words. stem: cut English words to their stems.
    Raises CourseError for an unknown name, and for `stop_words` or `stem` with "spaces", which would not act.

    >>> Tokenizer(stem=True)("Haneul's 체크카드 연회비는 2,000원?")
    ['haneul', '체크', '크카', '카드', '연회', '회비', '비는', '2000', '원']
    """

    name: str = "bigrams"
    stop_words: bool = False
    stem: bool = False

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise CourseError(f"there is no tokenizer {self.name!r}", f"choose one of {', '.join(NAMES)}")
        for field in ("stop_words", "stem"):
            if not isinstance(getattr(self, field), bool):
                raise CourseError(
                    f"{field}={getattr(self, field)!r} is neither True nor False",
                    f"say {field}=True or False",
                )
        if self.name == "spaces" and (self.stop_words or self.stem):
            raise CourseError(
                '"spaces" leaves every word as it is: no stop words, no stems', 'choose "words" or "bigrams"'
            )

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text, in their order. The two ways to write a letter in Unicode, NFC and NFD, give the same."""
        text = unicodedata.normalize("NFC", text)
        if self.name == "spaces":
            return text.split()
        cut, tokens = KOREAN_CUTS[self.name], []
        for piece in PIECE.findall(text):
            first = piece[0]
            if first.isdecimal():
                tokens.append(number(piece))
            elif HANGUL_WORD.match(first):
                tokens += cut(piece)
            elif word := self._word(piece):
                tokens.append(word)
        return tokens

    def _word(self, piece: str) -> str:
        """A word in lower case without its possessive 's, stemmed if so set; empty for a stop word."""
        word = piece.lower().replace("’", "'").removesuffix("'s")
        if self.stop_words and word in STOP_WORDS:
            return ""
        return stem(word) if self.stem and len(word) <= LONGEST_STEM else word

    # -- to and from a manifest

    def made_with(self) -> dict[str, str]:
        """Package -> version, of the packages that decide about tokens: another version could cut the same text differently.

        Raises CourseError where Kiwi is needed and not installed.
        """
        needed = ["snowballstemmer"] if self.stem else []
        if self.name in ("morphemes", "kiwi"):
            kiwi()
            needed += ["kiwipiepy", "kiwipiepy_model"]
        return {package: version(package) for package in needed}

    def settings(self) -> dict[str, Any]:
        """All that is needed to build the same one again, ready for JSON."""
        return asdict(self) | {"made_with": self.made_with()}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Tokenizer:
        """The tokenizer that `settings` describes.

        Raises CourseError for an unknown name or setting, for a missing one, and where a package has another version here.
        """
        known = {f.name for f in fields(cls)} | {"made_with"}
        if odd := sorted(known ^ set(settings)):
            raise CourseError(
                f"settings of a tokenizer are {', '.join(sorted(known))}; {odd[0]!r} is "
                + ("missing" if odd[0] in known else "none of them"),
                "build the index anew, or update the course that reads it",
            )
        made = cls(**{name: value for name, value in settings.items() if name != "made_with"})
        if (here := made.made_with()) != settings["made_with"]:
            raise CourseError(
                f"tokens were cut with {settings['made_with']}, and here is {here}", "build the index anew"
            )
        return made
