"""Find the ends of sentences in English and Korean, also in lists and tables. Used by `outline`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Punctuation that may end a sentence, with closing quotes and brackets.
SENTENCE_MARK = re.compile(r"([.!?。！？…]+)[\"'”’»)\]）」』】》〉*_]*")
# The number, letter or Roman numeral before a list item.
BULLET = re.compile(r"[\W_]*(?:\d{1,3}|[A-Za-z]|[가-힣]|[ivxIVX]{1,4})")
INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")  # U.S, e.g, the J in J. Smith
DATE = re.compile(r"\d\.(?:\d{1,2}\.)?\s?\d{1,2}$")  # 2024. 3. 15 and 2024.3.15
HANGUL = re.compile(r"[가-힣\u1100-\u115f]")
KOREAN_ENDINGS = frozenset("다요죠까")  # last syllables of sentences; often no space follows the full stop
WORD = re.compile(r"\w+")
ABBREVIATIONS = frozenset(
    WORD.findall(
        "dr mr mrs ms prof st jr sr vs etc cf approx inc ltd co corp dept est mt al viz gen rev "
        "jan feb mar apr jun jul aug sep sept oct nov dec"
    )
)
BEFORE_NUMBER = frozenset(WORD.findall("no nos p pp fig figs art sec vol ch eq para"))  # No. 5
HEAD_CHARACTERS = 16  # how many characters before a mark decide whether it ends a sentence
NONSPACE = re.compile(r"\S")
GLOSS = re.compile(r"\([A-Z][^()]*\)")  # an English name in brackets, as it follows a Korean one


def sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Yield the ends of the sentences in the prose text[start:end]; the last is `end`."""
    for mark in SENTENCE_MARK.finditer(text, start, end):
        if mark.end() < end and _ends_sentence(text, start, mark, end):
            yield mark.end()
            start = mark.end()
    yield end


def split_sentences(line: str) -> Iterator[str]:
    """Yield the sentences of a line, with the white space around them."""
    start = 0
    for end in sentence_ends(line, 0, len(line)):
        yield line[start:end]
        start = end


def statements(text: str) -> Iterator[str]:
    """Yield the sentences and list items of a text, and each table cell as "column row: cell"."""
    header: list[str] | None = None
    for line in GLOSS.sub("", text).split("\n"):
        if not line.startswith("|"):
            header = None
            yield from filter(None, (sentence.strip(" -") for sentence in split_sentences(line)))
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if header is None:
            header = cells
        elif cells[0].strip("-"):
            for column, cell in zip(header[1:], cells[1:], strict=False):
                yield f"{column} {cells[0]}: {cell}"


def _ends_sentence(text: str, start: int, mark: re.Match[str], end: int) -> bool:
    """Whether a mark ends the sentence that began at `start`, rather than an abbreviation or a number."""
    dots, after, head = (
        mark[1],
        text[mark.end()],
        text[max(start, mark.start() - HEAD_CHARACTERS) : mark.start()],
    )
    if set(dots) & set("。！？"):
        return True
    if not after.isspace():
        closed = unicodedata.normalize("NFC", head[-2:])[-1:]
        return mark[0] == dots and closed in KOREAN_ENDINGS and _begins_sentence(after)
    follows = NONSPACE.search(text, mark.end(), end)
    if not follows or follows[0].islower() or dots != ".":
        return not (follows and follows[0].islower())
    word = "".join(head.split()[-1:]).strip("([{\"'“‘«*_")
    if follows[0].isdigit() and (word[-1:].isdigit() or word.lower() in BEFORE_NUMBER):
        return False
    if HANGUL.match(follows[0]) and DATE.search(head):
        return False
    sentence = unicodedata.normalize("NFC", head) if mark.start() - start <= HEAD_CHARACTERS else "..."
    return not (BULLET.fullmatch(sentence) or word.lower() in ABBREVIATIONS or INITIALS.fullmatch(word))


def _begins_sentence(character: str) -> bool:
    """Whether a sentence can begin with a character, directly after a Korean full stop.

    It can with letters, digits, symbols and opening brackets, but not with a lower-case Latin letter, as in
    the name of a file, and not with other punctuation.
    """
    if character.isascii() and character.islower():
        return False
    category = unicodedata.category(character)
    return category[0] in "LNS" or category in ("Ps", "Pi") or character in "#@&※"
