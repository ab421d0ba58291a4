"""Quantized models beside whole ones: speed of llama.cpp and transformers, and quality of embedders.

The second half wants COURSE_DATA_DIR, the folder of the public sets.
"""

import os

import numpy as np
import torch
import transformers

from course_lib import data
from course_lib.measure import machine, measure, paired_ratio
from course_lib.models import load
from course_lib.models.catalog import chat_models, role
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import given_passages, prompt_for
from course_lib.retrieval import public_sets
from course_lib.retrieval.metrics import difference, evaluate

NEW = 64


def writing(name: str) -> None:
    """Print each engine's tokens per second, and how many times as fast as transformers' generate it is."""
    whole = load(name, precision="float32")
    passages = data.load_passages()
    question = next(q for q in data.load_questions("validation") if len(q.gold) == 1)
    prompt = prompt_for(question, given_passages(question, passages, 1))
    ids = torch.tensor([whole.ids(whole._prompt(prompt))])

    def greedy() -> None:
        with torch.inference_mode():
            whole.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NEW,
                min_new_tokens=NEW,
            )

    runs = {"transformers' generate, float32": greedy}
    for way in ({"precision": "float32"}, {"quantization": "q8_0"}, {"quantization": "q4_0"}):
        engine = load(name, driver="llamacpp", **way)
        runs[f"llama.cpp, {next(iter(way.values()))}"] = lambda e=engine: e.generate(
            [prompt], max_output_length=NEW, min_output_length=NEW
        )
    seconds: dict[str, list[float]] = {run: [] for run in runs}
    for _ in range(9):  # in turns, so that a disturbance hits all of them
        for run, go in runs.items():
            seconds[run] += measure(go, repeats=1).seconds
    print(f"{name}: a prompt of {ids.shape[1]} tokens is read, {NEW} tokens are written")
    slow = seconds[next(iter(runs))]
    for run, each in seconds.items():
        speed = NEW / float(np.median(each))
        print(f"  {run:32} {speed:7,.0f} tokens/s, {paired_ratio(slow, each)} times as fast")


def beginning(embedder: Engine, text: str) -> str:
    """So much of a text as the embedder reads: it refuses longer ones.

    A little less, for decoding can change the count.
    """
    ids = embedder.tokenizer.encode(text, add_special_tokens=False)
    return text if len(ids) < embedder.context - 8 else embedder.tokenizer.decode(ids[: embedder.context - 8])


def finding(name: str) -> None:
    """Print nDCG@10 of the embedder, whole and quantized, and their difference paired over questions."""
    public = public_sets.load(name)
    ids, found = list(public.documents), {}
    for way in ("none", "int8", "nf4"):
        embedder = load(role("embed").spec, quantization=way)
        texts = [beginning(embedder, text) for text in public.documents.values()]
        near = embedder.embed(list(public.queries.values())) @ embedder.embed(texts).T
        run = {
            q: [ids[i] for i in np.argsort(-row, kind="stable")[:10]]
            for q, row in zip(public.queries, near, strict=True)
        }
        evaluated = evaluate(run, public.qrels, ["ndcg@10"])
        found[way], mean = evaluated.values["ndcg@10"], evaluated.mean("ndcg@10").value
        print(
            f"  {name}, {len(public.queries)} questions, {len(ids)} texts: {way:4} nDCG@10 {mean:.4f}; "
            f"whole - packed: {difference(found['none'], found[way])}",
            flush=True,
        )


def main() -> None:
    print(machine(), "torch", torch.__version__, "transformers", transformers.__version__)
    for entry in chat_models():
        writing(entry.model)
    if not os.environ.get("COURSE_DATA_DIR"):
        return print("COURSE_DATA_DIR is not set: the embedder is not measured on public sets")
    for name in ("cranfield", "xquad_en"):
        finding(name)


if __name__ == "__main__":
    main()
