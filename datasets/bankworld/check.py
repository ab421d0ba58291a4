"""Check the English texts of an area (such as cards) against AUTHORING.md: slots, lengths, repeated wording.

`python -m bankworld check` prints what it finds.
"""

from __future__ import annotations

from bankworld import schema
from bankworld.bank import Bank
from bankworld.overlap import largest_overlap
from bankworld.passages import Passage, bind, fill


def passage_problems(area: str, bank: Bank, *, haneul: bool) -> list[str]:
    """Return the problems in the passages of one area: unknown slots, wrong lengths and shared wording.

    haneul: check the passages of Haneul Bank's handbook instead of those for training.
    """
    issues, filled = [], []
    where = f"{'haneul' if haneul else 'training'} passages {area}"
    for i, template in enumerate(schema.passages_of(area, haneul=haneul), 1):
        try:
            passage = fill(template, bank, bind(bank, template))
        except (KeyError, ValueError, IndexError) as error:
            issues.append(f"{where} #{i} {template.title!r}: {type(error).__name__} {error}")
            continue
        filled.append(passage)
        issues += [f"{where} #{i} {template.title!r}: {p}" for p in _one(passage, template, haneul)]
    share, a, b = largest_overlap([p.text for p in filled])
    if share > 0.5:
        issues.append(
            f"{where}: {filled[a].title!r} and {filled[b].title!r} share {share:.0%} of their 5-grams"
        )
    return issues


def _one(passage: Passage, template: schema.PassageTemplate, haneul: bool) -> list[str]:
    words, low = len(passage.text.split()), 60 if haneul else 30
    issues = [] if low <= words <= 140 else [f"{words} words (wanted {low}-140)"]
    if len(template.slots) < 2:
        issues.append(f"states {len(template.slots)} facts (at least 2)")
    for fact, aspect in passage.states:
        twin = {"old": "since", "since": "old", "group": "exception", "exception": "group"}.get(aspect)
        if twin and (fact, twin) not in passage.states:
            issues.append(f"{fact} states {aspect} without {twin}")
        if twin and (fact, "value") not in passage.states:
            issues.append(f"{fact} states {aspect} without its present value")
    return issues


def problems(area: str) -> list[str]:
    """Return the problems in all English texts of one area."""
    issues = schema.wording_problems(area)
    issues += passage_problems(area, Bank(1), haneul=False)
    names = {f"{k}.{key}": n for k, by in schema.haneul_entities(area).items() for key, n in by.items()}
    for template in schema.passages_of(area, haneul=True):
        issues += [f"haneul {area}: unknown entity {w}" for w in template.about.values() if w not in names]
    return issues + passage_problems(area, Bank(2, "Haneul Bank", names), haneul=True)
