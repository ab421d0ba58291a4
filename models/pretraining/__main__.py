"""`python -m pretraining [NAME ...]` trains the course's language models and publishes them into models/.

By default it trains all sizes. A model whose training is finished is not trained again.
"""

from __future__ import annotations

import sys

import torch

from pretraining.publish import publish
from pretraining.train import RUNS, SIZES, Run


def main(names: list[str]) -> None:
    for name in names or SIZES:
        run = Run(name, SIZES[name].steps, RUNS / name)
        run.train()
        publish(name, RUNS / name, torch.get_num_threads())
        print(f"models/{name} is written; its card is models/{name}/README.md")


if __name__ == "__main__":
    main(sys.argv[1:])
