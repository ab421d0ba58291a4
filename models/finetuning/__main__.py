"""`python -m finetuning [NAME ...]` trains the course's LoRA adapters and writes them into models/.

An adapter is a small file of trained weights that is added to a base model's own. Two of them make rerankers,
models that sort the passages that a search found; `publish` writes models/NAME. An interrupted training is
resumed. `python -m finetuning card` only rewrites the rerankers' model cards, from what `python
benchmarks/rerank.py quality --keep` measured.
"""

from __future__ import annotations

import sys

from finetuning.adapters import ADAPTERS, build_adapter
from finetuning.publish import publish, renew_card
from finetuning.rerankers import RERANKERS
from finetuning.run import pairs


def main(arguments: list[str]) -> None:
    rerankers = {kind.name: kind for kind in RERANKERS}
    adapters = {adapter.name: adapter for adapter in ADAPTERS}
    if arguments == ["card"]:
        for kind in RERANKERS:
            renew_card(kind.name, kind.standard)
        return
    if unknown := [name for name in arguments if name not in rerankers | adapters]:
        raise SystemExit(f"{unknown[0]!r} is none of {', '.join(rerankers | adapters)}")
    for name in arguments or rerankers | adapters:
        if name in adapters:
            folder = build_adapter(adapters[name])
        else:
            run = rerankers[name]()
            run.train({source: pairs(source, run.config) for source in run.config.mixture})
            folder = publish(run)
        print(f"{folder} is written")


if __name__ == "__main__":
    main(sys.argv[1:])
