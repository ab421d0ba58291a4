"""Find product names in Korean text, and texts that may be an answer.

The form of an answer is its unit or punctuation, such as 원 for an amount of money.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A code, date, telephone number, time, percentage, or number with its unit.
NUMBER = re.compile(
    r"[A-Z]{2,4}-\d+|\d{4}년 \d{1,2}월 \d{1,2}일|\d+-\d+|\d+:\d\d|\d[\d,.]*%"
    r"|(?:\d[\d,.]*(?:억|만|천)? ?)+(?:영업일|개월|시간|[가-힣])"
)
# What may follow a noun: a form of "is", or a particle (a suffix such as "to" or "from"), and punctuation.
PARTICLE = re.compile(
    r"(?:입니다|이며|이고|이므로|이니|뿐|에게|에서|으로|까지|부터|[은는이가을를의에과와도로며고])?[.,!?;)]*$"
)
MAX_WORDS = 6  # of an answer without a number

# Question words -> a pattern for the answer that they ask for, the more specific ones first.
FORMS = tuple(
    (re.compile(asked), re.compile(form))
    for asked, form in (
        (r"누구|누가|성함|이름|분이|분은", r"[가-힣]{2,4}"),
        (r"날짜|며칠부터|날을|언제부터|시행일|출시일|언제입니까|언제인가", r"\d{4}년 \d{1,2}월 \d{1,2}일"),
        (r"양식|신청서|코드|번호|종이|서류함|서식|규정|문자와 숫자", r"[A-Z]{2,4}-\d{3}"),
        (r"전화|번호|연락|통화", r"\d{4}-\d{4}"),
        (r"몇 시(?!간)|시각", r"\d{1,2}:\d{2}"),
        (r"퍼센트|율|금리|이자", r"\d[\d,.]*%"),
        (
            r"몇 분|며칠|몇 일|몇 주|몇 달|몇 개월|몇 년|기간|기한|까지|이내|간격|동안|소요|얼마나|얼마 안에"
            r"|빨리|시간|언제",
            r"\d[\d,.]*(?:영업일|일|주|개월|년|시간|분)",
        ),
        (r"몇 번|횟수|몇 회|몇 건|건수", r"\d[\d,.]*(?:회|번|건)"),
        (r"몇|나이|연령|인원|개수|살", r"\d[\d,.]*(?:개|곳|대|명|세|장|통|배|층)"),
        (r"얼마(?!나| 안)|금액|한도|수수료|료|비용|요금|보증금|돈이|값", r"(?:\d[\d,]*(?:억|만|천)? ?)+원"),
        (r"무엇|무슨|뭘|뭐|어디|어느|어떤|방법|방식|누구|조건|수단|기관|자료|서류", r"[^\d]+"),
    )
)


def form(text: str) -> str:
    """Return the form of an answer: its unit or its punctuation; "" if it has no number.

    >>> form("1만 1,000원"), form("ACC-802"), form("3영업일"), form("모바일 신분증")
    ('원', 'A-', '영업일', '')
    """
    if not re.search(r"\d", text):
        return ""
    return re.sub(r"[A-Z]+", "A", re.sub(r"[\d.,\s억만천]", "", text))


def shape(text: str) -> str:
    """Return the form of an answer; without a number, "이름" (name) for a single word of three syllables.

    >>> shape("3영업일"), shape("한민서"), shape("모바일 신분증")
    ('영업일', '이름', '')
    """
    return form(text) or ("이름" if re.fullmatch(r"[가-힣]{3}", text) else "")


def asked(question: str, text: str) -> float:
    """Return 1 if a text fits the question words' first pattern, 1/2 for the second, and so on; else 0."""
    forms = [form for words, form in FORMS if words.search(question)]
    return next((1 / n for n, form in enumerate(forms, 1) if form.fullmatch(text)), 0.0)


def names(texts: Iterable[str]) -> list[str]:
    """Return the Korean product names in the texts, the longest first.

    A name stands before an English name in brackets. It is the longest run of two or more words before such a
    bracket that occurs at least three times in the texts.
    """
    whole = "\n".join(texts)
    product_names = set()
    for before in re.findall(r"([^()\n]+)\([A-Z]", whole):
        words = before.split()[-MAX_WORDS:]
        runs = (" ".join(words[start:]) for start in range(len(words) - 1))
        product_names |= {next((run for run in runs if whole.count(run) > 2), "")}
    return sorted(product_names - {""}, key=lambda name: (-len(name), name))


def spans(statement: str) -> list[tuple[int, str]]:
    """Return the parts of a statement that may be an answer, each as (position, text).

    They are numbers with their units, and up to MAX_WORDS words in a row, without a particle at the end.
    """
    pieces = {(number.start(), number[0].strip()) for number in NUMBER.finditer(statement)}
    words = [word.span() for word in re.finditer(r"\S+", statement)]
    for first, (start, _) in enumerate(words):
        for _, end in words[first : first + MAX_WORDS]:
            run = statement[start:end]
            if re.search(r"\d|[.,:] ", run):
                break
            if len(bare := PARTICLE.sub("", run)) > 1:
                pieces.add((start, bare))
    return sorted(pieces)
