"""haneul-topics: two linear classifiers of topics over the embeddings of all-MiniLM-L6-v2.

A topic is an attribute of a kind of product, such as the annual fee of credit cards. The questions and
sentences come from generated banks; Haneul is not among them. `python -m finetuning.topics` trains it and
writes models/haneul-topics.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from bankworld import schema
from bankworld.bank import Bank, Entity
from bankworld.contexts import templates
from bankworld.passages import fillers, slot_text
from pretraining.publish import seal
from safetensors.torch import save_file

from course_lib.measure import machine
from course_lib.models import catalog
from course_lib.models.manager import ModelManager
from course_lib.rag.topics import FOLDER, SCALE, WEIGHTS_FILE, sentences

CARD = (Path(__file__).parent / "topics_card.md").read_text("utf-8")
BANKS, COPIES = 40, 2  # banks whose products the texts name; how often a sentence is filled
GENERAL = 6  # questions of each topic in words that fit all topics
EPOCHS, BATCH, LEARNING_RATE = 3, 256, 0.01
Row = tuple[str, str]  # a text and its topic, "" for none


def topics() -> list[str]:
    return [f"{kind}.{attribute}" for kind, attributes in schema.specs().items() for attribute in attributes]


def draw(kind: str, rng: random.Random) -> tuple[Bank, Entity]:
    bank = Bank(rng.randrange(BANKS))
    return bank, bank.entity(kind, str(rng.randrange(3)))


def asked(rng: random.Random) -> Iterator[Row]:
    """Questions in training wordings."""
    for topic in topics():
        kind, attribute = topic.split(".")
        text = schema.texts()[kind].attributes[attribute]
        general = rng.choices(schema.common()["asks"], k=GENERAL)
        for template in [*text.asks, *general]:
            bank, entity = draw(kind, rng)
            yield template.format(name=entity.name, bank=bank.name, label=text.label), topic


def stated(rng: random.Random) -> Iterator[Row]:
    """Sentences that state a topic, alone or in written passages, and sentences that state none.

    A sentence with several topics is there once for each.
    """
    for topic in topics():
        kind, attribute = topic.split(".")
        for template in schema.texts()[kind].attributes[attribute].says * COPIES:
            _, entity = draw(kind, rng)
            value = slot_text(entity.facts[attribute], "value")
            yield template.format(name=entity.name, bank="the bank", value=value), topic
    for kind, written in templates().items():
        for template in written:
            for sentence in sentences(template.text):
                for _ in range(COPIES):
                    yield from _filled(sentence, kind, rng)
    yield from ((text, "") for text in fillers())


def _filled(sentence: str, kind: str, rng: random.Random) -> Iterator[Row]:
    bank, entity = draw(kind, rng)
    states: list[str] = []

    def words(slot: str) -> str:
        binding, *path = slot.split(".")
        if binding == "bank":
            return bank.name
        if path == ["name"]:
            return entity.name
        if path[1:] in ([], ["value"]):
            states.append(f"{kind}.{path[0]}")
        return slot_text(entity.facts[path[0]], path[1] if len(path) > 1 else "value")

    text = schema.SLOT.sub(lambda match: words(match[1]), sentence)
    yield from ((text, topic) for topic in dict.fromkeys(states or [""]))


def fit(rows: list[Row], classes: list[str]) -> torch.nn.Linear:
    """A softmax over the classes, trained with AdamW."""
    embedder = ModelManager.shared().get_embedding_model(catalog.MINILM)
    vectors = torch.tensor(np.array(embedder.embed_documents([text for text, _ in rows]), dtype=np.float32))
    number = {topic: i for i, topic in enumerate(classes)}
    labels = torch.tensor([number[topic] for _, topic in rows])
    layer = torch.nn.Linear(vectors.shape[1], len(classes))
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    steps = EPOCHS * (len(rows) // BATCH)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows), generator=generator).split(BATCH)[: len(rows) // BATCH]:
            loss = torch.nn.functional.cross_entropy(layer(SCALE * vectors[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return layer


def main() -> None:
    begun, rng, tensors, counts = time.process_time(), random.Random(0), {}, {}
    for name, rows, classes in (
        ("asked", list(asked(rng)), topics()),
        ("stated", list(stated(rng)), [*topics(), ""]),
    ):
        layer = fit(rows, classes)
        counts[name] = len(rows)
        tensors |= {f"{name}.{key}": value.half().contiguous() for key, value in layer.state_dict().items()}
    FOLDER.mkdir(exist_ok=True)
    save_file(tensors, FOLDER / WEIGHTS_FILE)
    log = counts | {
        "processor_seconds": round(time.process_time() - begun),
        "processor": machine()["processor"],
    }
    (FOLDER / "training-log.json").write_text(json.dumps(log) + "\n", "utf-8")
    write_card()


def write_card() -> None:
    """Write the card; the measured figures are in its text (`python -m benchmarks.exam refusals`)."""
    log = json.loads((FOLDER / "training-log.json").read_text("utf-8"))
    (FOLDER / "README.md").write_text(CARD.format(**log, banks=BANKS, epochs=EPOCHS), "utf-8")
    seal(FOLDER)


if __name__ == "__main__":
    main()
