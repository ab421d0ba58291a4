"""Train haneul-topics: linear classifiers that tell which topic a question or a sentence is about.

A topic is an attribute of a kind of product, such as the annual fee of credit cards. Two classifiers read the
vector that all-MiniLM-L6-v2 computes for an English sentence (its embedding): "asked" reads questions,
"stated" reads the sentences of a handbook. A third one reads the n-grams (runs of n characters) of Korean
questions. The texts come from fictional banks that the package bankworld (in datasets/) generates; Haneul
Bank is not among them. `python -m finetuning.topics` trains all three and writes models/haneul-topics;
`python -m finetuning.topics korean` trains the Korean one.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from bankworld import korean, korean_text, schema
from bankworld.bank import Bank, Entity
from bankworld.contexts import templates
from bankworld.passages import fillers, slot_text
from pretraining.publish import write_manifest
from safetensors.torch import save_file

from course_lib.atomic import atomic_folder
from course_lib.exam.statements import shape
from course_lib.measure import machine
from course_lib.models import catalog
from course_lib.models.manager import ModelManager
from course_lib.rag import korean_topics
from course_lib.rag.topics import FOLDER, PRODUCT, SCALE, WEIGHTS_FILE
from course_lib.retrieval.sentences import statements

CARD = (Path(__file__).parent / "topics_card.md").read_text("utf-8")
BANKS, COPIES = 40, 2  # the number of banks; how often each sentence template is filled in
GENERAL = 6  # questions of each topic in wordings that fit every topic
EPOCHS, BATCH, LEARNING_RATE = 3, 256, 0.01  # rounds over all texts, texts in a step
# Korean wordings that fit every topic; {} stands for the topic's label.
KOREAN_WORDINGS = (
    "{}",
    "{}?",
    "{} 알려 주세요",
    "{} 궁금합니다",
    "{}은 어떻게 되나요",
    "{} 얼마인가요",
    "{}이 무엇인가요",
)
KOREAN_EPOCHS, KOREAN_LEARNING_RATE = 8, 0.02
Row = tuple[str, str]  # a text and its topic, "" for none


def topics() -> list[str]:
    """Return the names of all topics, such as "credit_card.annual_fee"."""
    return [f"{kind}.{attribute}" for kind, attributes in schema.specs().items() for attribute in attributes]


def draw(kind: str, rng: random.Random) -> tuple[Bank, Entity]:
    """Return a random bank, and one of its products of a kind."""
    bank = Bank(rng.randrange(BANKS))
    return bank, bank.entity(kind, str(rng.randrange(3)))


def asked(rng: random.Random) -> Iterator[Row]:
    """Yield (question, topic) in training wordings."""
    for topic in topics():
        kind, attribute = topic.split(".")
        text = schema.texts()[kind].attributes[attribute]
        general = rng.choices(schema.common()["asks"], k=GENERAL)
        for template in [*text.asks, *general]:
            bank, _ = draw(kind, rng)
            yield template.format(name=PRODUCT, bank=bank.name, label=text.label), topic


def stated(rng: random.Random) -> Iterator[Row]:
    """Yield (sentence, topic); the topic is "" for sentences that state none.

    A sentence that states several topics is yielded once for each.
    """
    for topic in topics():
        kind, attribute = topic.split(".")
        for template in schema.texts()[kind].attributes[attribute].says * COPIES:
            _, entity = draw(kind, rng)
            value = slot_text(entity.facts[attribute], "value")
            yield template.format(name=PRODUCT, bank="the bank", value=value), topic
    for kind, written in templates().items():
        for passage in written:
            for sentence in statements(passage.text):
                for _ in range(COPIES):
                    yield from _filled(sentence, kind, rng)
    yield from ((text, "") for text in fillers())


def _filled(sentence: str, kind: str, rng: random.Random) -> Iterator[Row]:
    """Yield a sentence template filled in for a random product, once for each topic that it states."""
    bank, entity = draw(kind, rng)
    states: list[str] = []

    def words(slot: str) -> str:
        binding, *path = slot.split(".")
        if binding == "bank":
            return bank.name
        if path == ["name"]:
            return PRODUCT
        if path[1:] in ([], ["value"]):
            states.append(f"{kind}.{path[0]}")
        return slot_text(entity.facts[path[0]], path[1] if len(path) > 1 else "value")

    text = schema.SLOT.sub(lambda match: words(match[1]), sentence)
    yield from ((text, topic) for topic in dict.fromkeys(states or [""]))


def embedded(rows: list[Row]) -> torch.Tensor:
    """Return the embeddings of the texts, times SCALE: (texts, dimensions)."""
    embedder = ModelManager.shared().get_embedding_model(catalog.MINILM)
    vectors = np.array(embedder.embed_documents([text for text, _ in rows]), dtype=np.float32)
    return torch.tensor(SCALE * vectors)


def fit(
    vectors: torch.Tensor, rows: list[Row], classes: list[str], epochs: int, rate: float
) -> torch.nn.Linear:
    """Return a linear classifier of vectors, trained with the optimiser AdamW."""
    number = {topic: i for i, topic in enumerate(classes)}
    labels = torch.tensor([number[topic] for _, topic in rows])
    layer = torch.nn.Linear(vectors.shape[1], len(classes))
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    size = min(BATCH, len(rows))
    steps = epochs * (len(rows) // size)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(size)[: len(rows) // size]:
            loss = torch.nn.functional.cross_entropy(layer(vectors[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return layer


def asked_in_korean() -> list[Row]:
    """Return (question, topic) in Korean training wordings, without product names."""
    rows = []
    for topic in topics():
        kind, attribute = topic.split(".")
        label = korean_text.texts()[kind][attribute].label
        texts = [*korean_text.asks()[kind][attribute], *(words.format(label) for words in KOREAN_WORDINGS)]
        rows += [(text, topic) for text in texts]
    return rows


def forms(topic: str) -> dict[str, float]:
    """Return answer shape (see `exam.statements.shape`) -> share of the topic's answers."""
    kind, attribute = topic.split(".")
    entities = [Bank(bank).entity(kind, str(number)) for bank in range(BANKS) for number in range(3)]
    answers = [korean.render_for(kind, attribute, entity.facts[attribute].value) for entity in entities]
    return {form: round(n / len(answers), 3) for form, n in Counter(map(shape, answers)).items()}


def train_korean(folder: Path) -> int:
    """Write the Korean classifier into a folder; return the number of its training questions."""
    rows = asked_in_korean()
    vectors = torch.tensor(korean_topics.pieces([text for text, _ in rows]).toarray(), dtype=torch.float32)
    layer = fit(vectors, rows, topics(), KOREAN_EPOCHS, KOREAN_LEARNING_RATE)
    weights = {key: value.half().contiguous() for key, value in layer.state_dict().items()}
    save_file(weights, folder / korean_topics.WEIGHTS_FILE)
    texts = korean_text.texts()
    by_topic = {
        topic: {"label": texts[kind][attribute].label, "forms": forms(topic)}
        for topic in topics()
        for kind, attribute in [topic.split(".")]
    }
    lines = json.dumps(by_topic, ensure_ascii=False, indent=0)
    (folder / korean_topics.TOPICS_FILE).write_text(lines + "\n", "utf-8")
    return len(rows)


def train_english(folder: Path) -> dict[str, int]:
    """Write the English classifiers into a folder; return the number of training texts of each."""
    rng, counts = random.Random(0), {}
    tensors: dict[str, torch.Tensor] = {}
    for name, rows, classes in (
        ("asked", list(asked(rng)), topics()),
        ("stated", list(stated(rng)), [*topics(), ""]),
    ):
        layer = fit(embedded(rows), rows, classes, EPOCHS, LEARNING_RATE)
        counts[name] = len(rows)
        tensors |= {f"{name}.{key}": value.half().contiguous() for key, value in layer.state_dict().items()}
    kinds = [topic.partition(".")[0] for topic in topics()]
    tensors["kinds"] = torch.tensor([list(schema.specs()).index(kind) for kind in kinds])
    save_file(tensors, folder / WEIGHTS_FILE)
    return counts


def main(parts: list[str]) -> None:
    """Train the parts and write them beside the others. The older folder stays until all are written."""
    with atomic_folder(FOLDER, replace=True) as folder:
        if FOLDER.exists():
            shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
        path = folder / "training-log.json"
        log = json.loads(path.read_text("utf-8")) if path.exists() else {}
        begun = time.process_time()
        if "english" in parts:
            log |= train_english(folder)
            log["processor_seconds"] = round(time.process_time() - begun)
        begun = time.process_time()
        if "korean" in parts:
            log["korean"] = train_korean(folder)
            log["korean_processor_seconds"] = round(time.process_time() - begun)
        path.write_text(json.dumps(log | {"processor": machine()["processor"]}) + "\n", "utf-8")
        write_card(folder)


def write_card(folder: Path) -> None:
    """Write the model card; its text contains figures that `python -m benchmarks.exam refusals` measured."""
    log = json.loads((folder / "training-log.json").read_text("utf-8"))
    (folder / "README.md").write_text(CARD.format(**log, banks=BANKS, epochs=EPOCHS), "utf-8")
    write_manifest(folder)


if __name__ == "__main__":
    main(sys.argv[1:] or ["english", "korean"])
