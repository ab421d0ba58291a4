"""`python -m bankworld.check [AREA ...]`: what of the written text breaks the rules, and the figures of the rest."""

from __future__ import annotations

import sys

from bankworld import schema
from bankworld.bank import Bank, Entity
from bankworld.passages import Passage, fill

GRAMS = 5


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + GRAMS]) for i in range(len(words) - GRAMS + 1)}


def largest_overlap(texts: list[str]) -> tuple[float, int, int]:
    """The largest share of one text's 5-grams that another holds too, and the two texts' indices."""
    grams = [five_grams(t) for t in texts]
    worst = (0.0, -1, -1)
    for i, a in enumerate(grams):
        for j in range(i):
            share = len(a & grams[j]) / max(1, min(len(a), len(grams[j])))
            worst = max(worst, (share, j, i))
    return worst


def passage_problems(area: str, bank: Bank, *, haneul: bool) -> list[str]:
    """Unknown slots, wrong lengths and shared wording in the passages of one area."""
    found, filled = [], []
    where = f"{'haneul' if haneul else 'training'} passages {area}"
    for i, template in enumerate(schema.passages_of(area, haneul=haneul), 1):
        try:
            passage = fill(template, bank, bind(bank, template))
        except (KeyError, ValueError, IndexError) as error:
            found.append(f"{where} #{i} {template.title!r}: {type(error).__name__} {error}")
            continue
        filled.append(passage)
        found += [f"{where} #{i} {template.title!r}: {p}" for p in _one(passage, template, haneul)]
    share, a, b = largest_overlap([p.text for p in filled])
    if share > 0.5:
        found.append(
            f"{where}: {filled[a].title!r} and {filled[b].title!r} share {share:.0%} of their 5-grams"
        )
    return found


def _one(passage: Passage, template: schema.PassageTemplate, haneul: bool) -> list[str]:
    words, low = len(passage.text.split()), 60 if haneul else 30
    found = [] if low <= words <= 140 else [f"{words} words (wanted {low}-140)"]
    if len(template.slots) < 2:
        found.append(f"states {len(template.slots)} facts (at least 2)")
    for fact, aspect in passage.states:
        twin = {"old": "since", "since": "old", "group": "exception", "exception": "group"}.get(aspect)
        if twin and (fact, twin) not in passage.states:
            found.append(f"{fact} states {aspect} without {twin}")
        if twin and (fact, "value") not in passage.states:
            found.append(f"{fact} states {aspect} without its present value")
    return found


def bind(bank: Bank, template: schema.PassageTemplate) -> dict[str, Entity]:
    """The entities of a template: 'kind.key' names one, 'kind' takes any."""
    out = {}
    for name, what in template.about.items():
        kind, _, key = what.partition(".")
        out[name] = bank.entity(kind, key or name)
    return out


def problems(area: str) -> list[str]:
    found = schema.wording_problems(area)
    found += passage_problems(area, Bank(1), haneul=False)
    names = {f"{k}.{key}": n for k, by in schema.haneul_entities(area).items() for key, n in by.items()}
    for template in schema.passages_of(area, haneul=True):
        found += [f"haneul {area}: unknown entity {w}" for w in template.about.values() if w not in names]
    return found + passage_problems(area, Bank(2, "Haneul Bank", names), haneul=True)


def main(areas: list[str]) -> int:
    from bankworld import korean_check  # here, because it uses this module

    count = 0
    for area in areas or schema.AREAS:
        try:
            found = problems(area) + korean_check.problems(area)
        except (OSError, ValueError, KeyError) as error:
            found = [f"{area}: {error}"]
        count += len(found)
        print("\n".join(found) if found else f"{area}: all rules hold")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
