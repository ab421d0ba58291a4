"""Check the Korean texts of an area against AUTHORING.md: slots, particles, lengths, repetition.

`python -m bankworld check` prints what it finds.
"""

from __future__ import annotations

import re
import unicodedata

from bankworld import korean, korean_text, schema
from bankworld.haneul import World
from bankworld.korean_haneul import build_passages
from bankworld.overlap import largest_overlap

WORDS = (35, 120)  # of a passage, counted by spaces: Korean needs about six tenths of the English number
# A bare particle behind a slot agrees with some values only; it is written in both forms: 은(는).
_BARE = re.compile(r"\}(?:은|는|이|가|을|를|과|와|으로|로|이었\w*|였\w*)(?![가-힣(])")
_WORD = re.compile(r"[가-힣]+")
# Words that end like a noun with a wrong particle, but are words of their own.
_FINE = {
    "을": "마을 가을 노을 나을 지을 이을 저을",
    "은": "나은 지은 모은 하은",
    "이": "아이 어린이 나이 사이 차이 종이 높이 길이 같이 둥이 고양이 손잡이 그레이 가까이",
    "가": "누군가 뭔가 무언가 는가 른가 한가 인가 잠가 작가 평가 단가 물가 국가 증가 전문가 수집가",
    "과": "결과 효과 초과 사과 치과 부과",
    "로": "도로 경로 통로 항구로 북문로 단풍대로 새로 대로 멋대로",
}


def wrong_particles(text: str) -> list[str]:
    """Words whose ending is a particle that does not agree with the syllable before it. A rule, not a parser:
    endings that verbs have as well (먹는) are left out."""
    return [word for word in _WORD.findall(text) if _disagrees(word)]


def _disagrees(word: str) -> bool:
    for particle in ("으로", "을", "를", "은", "과", "와", "이", "가", "로"):
        if len(word) > len(particle) and word.endswith(particle):
            if any(word.endswith(fine) for fine in _FINE.get(particle, "").split()):
                return False
            end = korean.final(word[: -len(particle)])
            if particle in ("으로", "로"):
                open_ending = end in (0, korean.RIEUL)
                return open_ending if particle == "으로" else not open_ending
            return (end == 0) == (particle in ("을", "은", "과", "이"))
    return False


def problems(area: str) -> list[str]:
    """Everything in ko/ and in Haneul's Korean passages of one area that breaks the rules."""
    issues = []
    for kind, attributes in korean_text.text_of(area).items():
        missing = set(schema.facts_of(area).get(kind, {})) ^ set(attributes)
        issues += [f"ko {kind}: attributes differ: {sorted(missing)}"] if missing else []
        for name, words in attributes.items():
            lines = [*korean.choice_problems(kind, name, words), *_question_problems(words)]
            issues += [f"ko {kind}.{name}: {line}" for line in lines]
    return issues + _passage_problems(area)


def _question_problems(words: korean_text.Attribute) -> list[str]:
    wordings = words.lexical + words.paraphrase
    issues = [
        f"{q!r}: needs {{name}} once and no other slot"
        for q in wordings
        if schema.SLOT.findall(q) != ["name"]
    ]
    issues += [f"{q!r}: a bare particle behind a slot" for q in wordings if _BARE.search(q)]
    issues += [
        f"{q!r} shares no word with the label {words.label!r}"
        for q in words.lexical
        if not shared(q, words.label)
    ]
    issues += [
        f"{q!r} uses words of the label {words.label!r}" for q in words.paraphrase if shared(q, words.label)
    ]
    return issues


def shared(question: str, label: str) -> set[str]:
    """The words of a label, of two syllables or more, that a question uses too."""
    return {word for word in _WORD.findall(label) if len(word) > 1 and word in question}


def _passage_problems(area: str) -> list[str]:
    written, world = korean_text.passages_of(area), World.load()
    issues, filled = [], {i: p for i, p in build_passages(world).items() if i.rpartition("-")[0] == area}
    for id_, passage in filled.items():
        where = f"ko passage {id_}"
        words = len(passage.text.split())
        if not WORDS[0] <= words <= WORDS[1]:
            issues.append(f"{where}: {words} words (wanted {WORDS[0]}-{WORDS[1]})")
        if passage.states != world.passages[id_].states:
            differing = sorted(passage.states ^ world.passages[id_].states)
            issues.append(f"{where} and its English twin differ in {differing}")
        issues += [
            f"{where}: a bare particle: {m}"
            for m in _BARE.findall(f"{written[id_].title}\n{written[id_].text}")
        ]
        issues += text_problems(where, f"{passage.title}\n{passage.text}")
    share, a, b = largest_overlap([p.text for p in filled.values()])
    if share > 0.5:
        issues.append(
            f"ko passages {area}: {list(filled)[a]} and {list(filled)[b]} share {share:.0%} of their 5-grams"
        )
    return issues


def text_problems(where: str, text: str) -> list[str]:
    """Slots left over, particles left open or wrong, and text that is not NFC."""
    issues = [f"{where}: {word!r} has the wrong particle" for word in wrong_particles(text)]
    if "{" in text or "}" in text or any(form in text for form in korean.FORMS):
        issues.append(f"{where}: a slot or a particle was left open: {text!r}")
    return issues if unicodedata.is_normalized("NFC", text) else [*issues, f"{where}: not NFC"]
