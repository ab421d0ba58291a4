"""`python -m finetuning [NAME ...]`: train the course's adapters, or go on where they were, and write them into models/.

`python -m finetuning card`: write the rerankers' cards anew, from what `python benchmarks/rerank.py quality --keep` measured.
"""

from __future__ import annotations

import sys

from finetuning import lessons
from finetuning.publish import publish, write_card
from finetuning.rerankers import RERANKERS
from finetuning.run import pairs


def main(arguments: list[str]) -> None:
    names = {kind.name: kind for kind in RERANKERS}
    taught = {lesson.name: lesson for lesson in lessons.LESSONS}
    if arguments == ["card"]:
        for kind in RERANKERS:
            write_card(kind.name, kind.standard)
        return
    if unknown := [name for name in arguments if name not in names | taught]:
        raise SystemExit(f"{unknown[0]!r} is none of {', '.join(names | taught)}")
    for name in arguments or names | taught:
        if name in taught:
            print(f"{lessons.run(taught[name])} is written")
            continue
        run = names[name]()
        run.train({source: pairs(source, run.recipe) for source in run.recipe.mixture})
        print(f"{publish(run)} is written")


if __name__ == "__main__":
    main(sys.argv[1:])
