"""Split English and Korean text into tokens for BM25, the search by words.

BM25 finds a document only if it has a token that also occurs in the query. Documents and queries must
therefore be split by the same tokenizer, so its settings are saved with an index.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

from course_lib.errors import CourseError, check_text
from course_lib.names import nfc
from course_lib.retrieval.documents import check_choice

HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"  # letters that form syllables, single letters, syllables
# The vowel ㆍ is used as a middle dot between words (예금ㆍ적금), except after a conjoining initial.
MIDDLE_DOT = re.compile("\u318d|(?<![\u1100-\u115f])\u119e")
# where NFKC would join two tokens: 10², 1½, Visa™
BOUNDARY = re.compile("(?<=\\d)(?=[²³¹⁰-₉¼-¾⅐-⅟①-⓿])|(?=[™℠])")
NO_LETTER = re.compile("[^\u3131-\u318e]+")  # all but single Hangul letters, which NFKC would conjoin
KOREAN = rf"[{HANGUL}]+(?:[^\w]+[{HANGUL}]+)*+"  # consecutive Hangul words, with spaces and punctuation
AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![.,]?\d)"  # 1,250,000 or 1,250.50
DECIMAL = r"(?<!\d\.)\d+\.\d+(?!\.?\d)"  # 3.5, but not the 03.15 of 2024.03.15
WORD = rf"[^\W\d_{HANGUL}][^\W_{HANGUL}]*(?:['’][^\W\d_{HANGUL}]+)*"  # begins with a letter: card, mp3, don't
PIECE = re.compile(rf"{KOREAN}|{AMOUNT}|{DECIMAL}|\d+|{WORD}")
HANGUL_WORD = re.compile(rf"[{HANGUL}]+")
MAX_STEM_LENGTH = 64  # characters; stemming a longer string, which is no English word, could take minutes

# Korean particles, and forms of the copula 이다; some depend on the end of the syllable before them
PARTICLES = "의|도|만|(?:에|에서|에게|부터|까지|한테|처럼|보다|마다|조차|밖에)(?:는|도|만|의)?"
AFTER_VOWEL = re.compile(rf"{PARTICLES}|는|가|를|나|란|다|(?:와|로)(?:는|도|만|의|부터)?")
AFTER_CONSONANT = re.compile(
    rf"{PARTICLES}|은|이|을|이나|이란|인|이다|입니다|(?:과|으?로)(?:는|도|만|의|부터)?"
)

# Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there "
        "these they this to was will with",
    )
)
# Kiwi's tags of nouns, numerals, verbs, adjectives, roots and adverbs, without particles and endings
CONTENT_TAGS = ("NNG", "NNP", "NR", "VV", "VA", "XR", "MAG")


def matching_form(text: str) -> str:
    """Return a text in the form in which it is compared: NFKC, and every middle dot between words as ·.

    NFKC replaces characters that differ only in how they are displayed, such as full-width ones.

    >>> matching_form("ＡＴＭ １，０００원, 예금ㆍ적금")
    'ATM 1,000원, 예금·적금'
    """
    text = BOUNDARY.sub(" ", MIDDLE_DOT.sub("·", nfc(text)))
    return NO_LETTER.sub(lambda part: unicodedata.normalize("NFKC", part[0]), text)


# -- Korean --------------------------------------------------------------------------------------------------


def hangul_words(text: str) -> list[str]:
    """Return the Hangul words as written, including attached particles.

    >>> hangul_words("카드를 만들 수")
    ['카드를', '만들', '수']
    """
    return HANGUL_WORD.findall(text)


def hangul_bigrams(text: str) -> list[str]:
    """Return the syllable bigrams of each Hangul word, or the word itself if it has one syllable.

    A particle adds a bigram to a word but leaves the other bigrams unchanged (Lee and Ahn 1996, SIGIR). A
    word of one syllable has no other bigram, so that syllable is a token of its own beside those with a
    particle.

    >>> hangul_bigrams("체크카드를 쓸")
    ['체크', '크카', '카드', '드를', '쓸']
    >>> hangul_bigrams("돈을")
    ['돈', '돈을']
    """
    return [token for word in hangul_words(text) for token in [*_noun_of_one_syllable(word), *_bigrams(word)]]


def _bigrams(word: str) -> list[str]:
    return [word[i : i + 2] for i in range(max(1, len(word) - 1))]


def _noun_of_one_syllable(word: str) -> list[str]:
    """Return the first syllable if the rest of the word is a particle."""
    ends_in_vowel = (ord(word[0]) - ord("가")) % 28 == 0
    return [word[0]] if (AFTER_VOWEL if ends_in_vowel else AFTER_CONSONANT).fullmatch(word, 1) else []


def hangul_morphemes(text: str) -> list[str]:
    """Return the content morphemes, found by Kiwi, a Korean morphological analyser.

    The first call loads 500 MB. Raises CourseError if Kiwi is not installed.
    """
    return [m.form for m in kiwi().tokenize(text) if m.tag.startswith(CONTENT_TAGS)]


def hangul_morphemes_and_bigrams(text: str) -> list[str]:
    """Return content morphemes, and bigrams for words that Kiwi does not know, such as product names."""
    return hangul_morphemes(text) + [bigram for word in hangul_words(text) for bigram in _bigrams(word)]


@cache
def kiwi() -> Any:
    """Return Kiwi, loaded once per process. Raises CourseError if it is not installed."""
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        raise CourseError(
            "Korean morphemes need Kiwi (88 MB), which is not installed", 'pip install -e ".[ko]"'
        ) from error
    return Kiwi(num_workers=1)


KOREAN_TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "words": hangul_words,
    "bigrams": hangul_bigrams,
    "morphemes": hangul_morphemes,
    "kiwi": hangul_morphemes_and_bigrams,
}
NAMES = ("spaces", *KOREAN_TOKENIZERS)


# -- words and numbers ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return the stem of a lower-case English word (Porter2, snowballstem.org/algorithms/english).

    >>> stem("banking"), stem("banks"), stem("fees")
    ('bank', 'bank', 'fee')
    """
    from snowballstemmer.english_stemmer import EnglishStemmer

    return str(EnglishStemmer().stemWord(word))  # a new stemmer each time: it is not thread-safe


def normalized_number(digits: str) -> str:
    """Return a number without commas and without trailing zeros of its fraction: one token for one amount.

    Leading zeros are kept, because they matter in codes.

    >>> [normalized_number(n) for n in ("1,250,000", "3.50", "2.0", "007")]
    ['1250000', '3.5', '2', '007']
    """
    whole, point, fraction = digits.replace(",", "").partition(".")
    return whole + (point + fraction).rstrip("0").rstrip(".")


# -- the tokenizer -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokenizer:
    """A function from a text to its tokens.

    name: How Korean is split: "bigrams", "words" (as written), "morphemes", or "kiwi" (morphemes and
    bigrams); the last two need Kiwi, which the course's extra [ko] installs. Text in other scripts is split
    into lower-case words and numbers. The name "spaces" means `text.split()` for all scripts, as in most
    tutorials. stop_words: Omit 33 very common English words. stem: Reduce English words to their stems.
    Raises CourseError for an unknown name, and for `stop_words` or `stem` with "spaces", where they would
    have no effect.

    >>> Tokenizer(stem=True)("Haneul's 체크카드 연회비는 2,000원?")
    ['haneul', '체크', '크카', '카드', '연회', '회비', '비는', '2000', '원']
    """

    name: str = "bigrams"
    stop_words: bool = False
    stem: bool = False

    def __post_init__(self) -> None:
        check_choice("name", self.name, NAMES)
        for field in ("stop_words", "stem"):
            if not isinstance(value := getattr(self, field), bool):
                raise CourseError(f"{field}={value!r} must be True or False", f"{field}=True")
        if self.name == "spaces" and (self.stop_words or self.stem):
            raise CourseError(
                'Tokenizer("spaces") only splits, without stop words and stems',
                f'Tokenizer("words", stop_words={self.stop_words}, stem={self.stem})',
            )

    def __call__(self, text: str) -> list[str]:
        """Return the tokens of a text, in order: the same ones whether "é" is one Unicode character or two.

        Raises CourseError as `check_text` does.
        """
        check_text(text)
        if self.name == "spaces":
            return nfc(text).split()
        text = matching_form(text)
        korean, tokens = KOREAN_TOKENIZERS[self.name], []
        for piece in PIECE.findall(text):
            if piece[0].isdecimal():
                tokens.append(normalized_number(piece))
            elif HANGUL_WORD.match(piece[0]):
                tokens += korean(piece)
            elif word := self._word(piece):
                tokens.append(word)
        return tokens

    def _word(self, piece: str) -> str:
        """Return a word (or its stem) in lower case without possessive 's, or "" for a stop word."""
        word = piece.lower().replace("’", "'").removesuffix("'s")
        if self.stop_words and word in STOP_WORDS:
            return ""
        return stem(word) if self.stem and len(word) <= MAX_STEM_LENGTH else word

    # -- settings of a saved index

    def package_versions(self) -> dict[str, str]:
        """Return the versions of packages that affect the tokens. Raises CourseError if Kiwi is missing."""
        needed = ["snowballstemmer"] if self.stem else []
        if self.name in ("morphemes", "kiwi"):
            kiwi()
            needed += ["kiwipiepy", "kiwipiepy_model"]
        return {package: version(package) for package in needed}

    def settings(self) -> dict[str, Any]:
        """Return the settings, including package versions, as JSON values for `from_settings`."""
        return asdict(self) | {"package_versions": self.package_versions()}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Tokenizer:
        """Create the tokenizer with these settings.

        Raises CourseError for unknown, missing or invalid settings, and if a package's installed version
        differs from the one in the settings.
        """
        names = {f.name for f in fields(cls)} | {"package_versions"}
        if wrong := sorted(names ^ set(settings)):
            reason = "is missing" if wrong[0] in names else "is unknown"
            raise CourseError(
                f"the tokenizer setting {wrong[0]!r} {reason}; the settings are {', '.join(sorted(names))}",
                "rebuild the index and save it again",
            )
        tokenizer = cls(**{name: value for name, value in settings.items() if name != "package_versions"})
        installed = tokenizer.package_versions()
        if installed != settings["package_versions"]:
            raise CourseError(
                f"the index was built with {settings['package_versions']}, but {installed} is installed",
                "rebuild the index and save it again",
            )
        return tokenizer
