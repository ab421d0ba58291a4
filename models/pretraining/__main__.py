"""`python -m pretraining [NAME ...]`: train the course's language models, then publish them into models/.

By default all sizes. A model that is trained already is not trained again.
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
