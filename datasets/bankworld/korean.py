"""Render the values of facts as Korean words, and choose the particles that follow them.

A Korean particle has two forms, and which is right depends on the last sound of the word before it. Templates
have both forms, as in `{name}은(는)`, `{value}을(를)` and `(으)로`; `particles` keeps the right one.
"""

from __future__ import annotations

import re
from datetime import date

from bankworld import korean_text, schema
from bankworld.values import Value

LANGUAGE = "ko"
RIEUL = 8  # the number of the final consonant ㄹ
# Notation -> what it becomes after a final consonant, and after none. `(으)로` also drops its vowel after ㄹ.
FORMS = {
    "은(는)": ("은", "는"),
    "이(가)": ("이", "가"),
    "을(를)": ("을", "를"),
    "과(와)": ("과", "와"),
    "(으)로": ("으로", "로"),
    "(이)었": ("이었", "였"),
    "(이)": ("이", ""),
}
_NOTATION = re.compile("|".join(re.escape(form) for form in FORMS))
_BRACKETED = re.compile(r"\s*\([^()]*\)$")
_CLOSING = "\"'”’」』)]"
_DIGIT_FINALS = {
    "0": 21,
    "1": RIEUL,
    "3": 16,
    "6": 1,
    "7": RIEUL,
    "8": RIEUL,
}  # 영/십/백/천 일 삼 육 칠 팔; others end open
_LETTER_FINALS = {"L": RIEUL, "M": 16, "N": 4, "R": RIEUL}  # 엘 엠 엔 알; the other letters' names end open
_SIGNS = {"%": 0, "℃": 0}  # 퍼센트, 도
# English words that end otherwise than the rule below would say (앱, 디포짓, 독, 체크).
_READ_CLOSED = {"app": 17, "deposit": 19, "dock": 1, "check": 0}


def final(text: str) -> int:
    """The number of the final consonant with which `text` ends when read aloud; 0 for none, 8 for ㄹ.

    Words in brackets at the end are skipped, since a particle agrees with the word before them.
    """
    shown = _BRACKETED.sub("", text).rstrip(_CLOSING)
    if not shown:
        return 0
    last = shown[-1]
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28
    if re.search(r"\d:\d\d$", shown):
        return 0 if shown.endswith("00") else 4  # 시, 분
    if last.isdigit():
        return _DIGIT_FINALS.get(last, 0)
    if last.isascii() and last.isalpha():
        return _latin_final(re.split(r"[^A-Za-z]", shown)[-1])
    return _SIGNS.get(last, 0)


def _latin_final(word: str) -> int:
    """How an English word ends in Korean: PDF by its last letter's name, Pine (파인) by its sound."""
    if word.isupper():
        return _LETTER_FINALS.get(word[-1], 0)
    lower = word.lower()
    if lower in _READ_CLOSED:
        return _READ_CLOSED[lower]
    if lower.endswith("ng"):
        return 21
    sound = re.sub(r"(?<=[lmn])e$", "", lower)
    return {"l": RIEUL, "m": 16, "n": 4}.get(sound[-1], 0)


def particles(text: str) -> str:
    """`text` with every particle in the form that agrees with what stands before it."""

    def agreed(match: re.Match[str]) -> str:
        closed, open_ = FORMS[match[0]]
        end = final(match.string[: match.start()])
        return open_ if end == 0 or (match[0] == "(으)로" and end == RIEUL) else closed

    return _NOTATION.sub(agreed, text)


def money(won: float) -> str:
    """125만 원, 1만 7,500원, 2억 3,000만 원, 9,500원: grouped by 만 and 억, as amounts are read."""
    hundred_millions, rest = divmod(round(won), 10**8)
    ten_thousands, ones = divmod(rest, 10**4)
    parts = [f"{hundred_millions:,}억"] * bool(hundred_millions) + [f"{ten_thousands:,}만"] * bool(
        ten_thousands
    )
    if ones or not parts:
        return " ".join([*parts, f"{ones:,}원"])
    return " ".join(parts) + " 원"


def day(iso: str) -> str:
    d = date.fromisoformat(iso)
    return f"{d.year}년 {d.month}월 {d.day}일"


def person(key: str) -> str:
    """'minseo han' -> '한민서'."""
    given, family = key.split()
    names = korean_text.common()
    return names["family_names"][family] + names["given_names"][given]


def render(value: Value, words: korean_text.Attribute) -> str:
    """A value as a reader sees it; `words` holds the attribute's choices and, for a count, its counter."""
    if value.kind == "choice":
        return words.choices[str(value.key)]
    if value.kind in ("phone", "code"):
        return str(value.key)
    if value.kind == "date":
        return day(str(value.key))
    if value.kind == "person":
        return person(str(value.key))
    amount = value.amount or 0.0
    if value.kind == "money":
        return money(amount)
    if value.kind == "percent":
        return f"{amount:g}%"
    if value.kind == "time":
        return f"{int(amount) // 60:02d}:{int(amount) % 60:02d}"
    return f"{amount:g}{words.unit or korean_text.common()['units'][str(value.unit)]}"


def render_for(kind: str, attribute: str, value: Value) -> str:
    return render(value, korean_text.texts()[kind][attribute])


def group(key: str) -> str:
    return korean_text.common()["groups"][key]


def choice_problems(kind: str, attribute: str, words: korean_text.Attribute) -> list[str]:
    """What keeps `words` from wording every value that the attribute can have."""
    spec = schema.specs()[kind][attribute]
    wanted = set(getattr(spec, "of", ()))
    issues = (
        [f"choices differ: {sorted(wanted ^ set(words.choices))}"] if wanted != set(words.choices) else []
    )
    if len(set(words.choices.values())) != len(words.choices):
        issues.append("two choices are worded alike")
    if spec.kind == "count" and not words.unit:
        issues.append("a count needs a unit")
    return issues
