"""Greedy answers of real models in every driver: how many are equal, and how near a tie the others are.

    COURSE_MODELS_DIR=... .venv/bin/python -m benchmarks.real_texts     measure, and write docs/real-models.md

SmolLM2-135M-Instruct answers twenty questions, and Gemma 3 270M continues them. The weights are those of the
4-bit files, unpacked to 16 bits, and the reference is transformers alone, one prompt at a time, computing in
32 bits. The drivers that run the 4-bit file itself are compared with llama.cpp's own server. Where two texts
part, the reference tells how far its log-probabilities of the two tokens are apart, in nats.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.real_models import markdown_table, write_page
from course_lib.atomic import atomic_write_text
from course_lib.measure import machine
from course_lib.models import catalog, load
from course_lib.models.drivers.llamacpp import LlamaCpp
from course_lib.models.drivers.streaming import INCOMPLETE
from course_lib.models.gguf import unpack
from course_lib.serve import discovery

RESULTS = Path(__file__).with_suffix(".json")
START, END = "<!-- measured: benchmarks/real_texts.py -->", "<!-- end of the measured texts -->"
TOKENS = 24  # of each answer, at most
CHAT, BASE = "smollm2-135m-instruct", "gemma-3-270m"
QUESTIONS = (
    "What is the capital of France?",
    "서울은 어디에 있습니까?",
    "Count: 1 2 3 4",
    "Write a haiku about the sea.",
    "What is 17 + 25?",
    "Name three fruits that are red.",
    "def add(a, b):",
    "Translate to French: Good morning, my friend.",
    "Why is the sky blue?",
    "Who wrote Romeo and Juliet, and when?",
    "😀 What does this emoji mean?",
    "List the months that have 30 days.",
    "The first president of the United States was",
    "Explain photosynthesis to a child, in one sentence.",
    "What does 1,234.50 cost on 2026-11-29?",
    "Is a tomato a fruit or a vegetable?",
    "Once upon a time, in a small village,",
    "How many legs do two spiders have?",
    "하늘은행 계좌의 수수료는 얼마입니까?",
    "Give me a recipe for pancakes.",
)
OF_FOLDER: dict[str, dict[str, str]] = {  # the unpacked weights: name of a way -> fields of the specification
    "huggingface": {"driver": "huggingface"},
    "huggingface, bfloat16": {"driver": "huggingface", "precision": "bfloat16"},
    "llamacpp": {"driver": "llamacpp"},
    "llamacpp, float16": {"driver": "llamacpp", "precision": "float16"},
    "llamacpp, bfloat16": {"driver": "llamacpp", "precision": "bfloat16"},
}


class Reference:
    """transformers alone with the weights in `folder`, in 32 bits; a model without a template continues."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        self.model.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None)

    def ids(self, question: str) -> list[int]:
        """Return the token ids of a question, as a chat message if there is a template."""
        if not self.tokenizer.chat_template:
            return list(self.tokenizer.encode(question))
        turns = [{"role": "user", "content": question}]
        return list(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))

    def answer(self, question: str) -> str:
        """Return the greedy answer to a question."""
        import torch

        ids = torch.tensor([self.ids(question)])
        with torch.inference_mode():
            row = self.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS)[0]
        text: str = self.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True)
        return self.shown(text)

    def shown(self, text: str) -> str:
        """Return a text as the drivers do: whole characters, of a chat without white space at its ends."""
        text = text.rstrip(INCOMPLETE)
        return text.strip() if self.tokenizer.chat_template else text

    def parting(self, question: str, expected: str, other: str) -> dict[str, Any]:
        """Return where two answers part, and how far apart the two tokens are in the reference, in nats."""
        import torch

        rows = [self.tokenizer.encode(text, add_special_tokens=False) for text in (expected, other)]
        ends = [[*row, self.tokenizer.eos_token_id] for row in rows]
        at = next(i for i, (one, two) in enumerate(zip(*ends, strict=False)) if one != two)
        with torch.inference_mode():
            logits = self.model(torch.tensor([self.ids(question) + rows[0][:at]])).logits[0, -1]
        chosen, taken = (float(logits[row[at]]) for row in ends)
        return {"question": question, "token": at + 1, "nats": chosen - taken, "texts": [expected, other]}


def own_server(file: Path, task: str) -> list[str]:
    """Return the answers of llama.cpp's own server, which keeps no part of a prompt for the next one.

    What it keeps was computed in another batch, so that it is rounded otherwise.
    """
    engine, said = load(file, task=task), []
    assert isinstance(engine, LlamaCpp)
    for question in QUESTIONS:
        request: dict[str, Any] = {"temperature": 0, "max_tokens": TOKENS, "cache_prompt": False}
        if task == "chat-completion":
            request["messages"] = [{"role": "user", "content": question}]
            choice = engine.server.request("/v1/chat/completions", request)["choices"][0]
            said.append(choice["message"]["content"].strip())
        else:
            choice = engine.server.request("/v1/completions", request | {"prompt": question})["choices"][0]
            said.append(choice["text"].rstrip(INCOMPLETE))
    engine.close()
    return said


def of_file(name: str, task: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each way to run the 4-bit file, and its answers: llamacpp, and the drivers of a server.

    The driver openai refuses a model that only continues texts.
    """
    with closing(load(name, driver="llamacpp", task=task)) as engine:
        yield "llamacpp", list(engine.generate(QUESTIONS, max_output_length=TOKENS))
    with closing(discovery.start()) as server:
        for driver, path in (("ollama", ""), ("openai", "/v1"))[: 2 if task == "chat-completion" else 1]:
            source = {"type": "server", "url": server.url + path, "model": name}
            with closing(load({"source": source, "driver": driver, "task": task})) as engine:
                for way, size in (("one by one", 1), ("several at once", None)):
                    answers = engine.generate(QUESTIONS, max_output_length=TOKENS, batch_size=size)
                    yield f"{driver}, course serve, {way}", list(answers)


def measure(name: str) -> list[dict[str, Any]]:
    """Return for each way to run a model which reference it has, and where its answers part from those."""
    entry = catalog.entry(name)
    file, rows = catalog.verify_pulled(entry), []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / name
        unpack(file, folder)
        reference = Reference(folder)
        answers = [reference.answer(question) for question in QUESTIONS]
        own = own_server(file, entry.task)

        def compare(way: str, said: Sequence[str], beside: str, expected: Sequence[str]) -> None:
            pairs = zip(QUESTIONS, expected, said, strict=True)
            parted = [reference.parting(*each) for each in pairs if each[1] != each[2]]
            rows.append({"way": way, "reference": beside, "parted": parted})
            print(f"{name}, {way}: {len(QUESTIONS) - len(parted)} as {beside}", flush=True)

        for way, fields in OF_FOLDER.items():
            with closing(load(folder, task=entry.task, **fields)) as engine:
                compare(way, engine.generate(QUESTIONS, max_output_length=TOKENS), "transformers", answers)
        for way, said in of_file(name, entry.task):
            compare(f"{way}, 4-bit file", said, "llama.cpp's own server", own)
        compare("llama.cpp's own server, 4-bit file", own, "transformers", answers)
    return rows


def page(results: dict[str, Any]) -> str:
    """Return the measured part of docs/real-models.md."""
    where = ", ".join(f"{key}: {value}" for key, value in results["machine"].items())
    rows = []
    for model, ways in results["models"].items():
        for each in ways:
            nats = [abs(parting["nats"]) for parting in each["parted"]]
            equal = f"{len(QUESTIONS) - len(nats)} of {len(QUESTIONS)}"
            far = f"{min(nats):.3f} to {max(nats):.3f}" if nats else ""
            rows.append([model, each["way"], each["reference"], equal, far])
    head = ["model", "driver", "beside", "equal texts", "where they part, nats"]
    return f"Measured on {results['date']} ({where}).\n\n{markdown_table(head, rows)}"


def main() -> None:
    results: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine(), "models": {}}
    for name in (CHAT, BASE):
        results["models"][name] = measure(name)
        atomic_write_text(RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_page(START, END, page(results))


if __name__ == "__main__":
    main()
