"""Training a LoRA adapter: the course's loop beside peft with transformers' Trainer, on the same data.

    python benchmarks/lora.py [ROUNDS]      default 3

Each run has a process of its own, in turns, so that a disturbance hits all and peak memory is that run's
alone. Tokens are those of the examples, without padding; seconds are of the training loop, without loading;
the loss is that of the finished adapter on questions in other wordings.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from course_lib.data import load_questions
from course_lib.measure import machine, median_of, paired_ratio
from course_lib.measure.memory import peak_resident_bytes
from course_lib.models import load
from course_lib.models.catalog import verify_shipped
from course_lib.rag.adapter_datasets import closed_book_questions, knowledge_examples, open_prompt
from course_lib.tables import table
from course_lib.tuning.config import Example, LoRATrainingConfig
from course_lib.tuning.dataset import TokenizedExample, collate, tokenize
from course_lib.tuning.peft_model import load_base, loss_of
from course_lib.tuning.training import train

BASE, AREAS = "haneul-4m", ["cards", "loans"]
CONFIG = LoRATrainingConfig(steps=150, batch_size=32, warmup_steps=20, learning_rate=2e-3)
RUNS = {
    "course": {},
    "course, float32": {"precision": "float32"},
    "Trainer, float32, as it comes": {},
    "Trainer, bfloat16": {"dtype": "bfloat16"},
    "Trainer, bfloat16, eager attention, like lengths together": {
        "dtype": "bfloat16",
        "attn_implementation": "eager",
        "group": True,
    },
}


def by_course(
    dataset: list[TokenizedExample], options: dict[str, Any], folder: Path
) -> tuple[float, Callable[[], Any]]:
    """Seconds, and what gives the adapted model."""
    trained = train(BASE, knowledge_examples(AREAS), folder / "adapter", config=CONFIG.replace(**options))
    return trained.seconds, lambda: load(BASE, precision="float32", adapters=[trained.folder]).model  # type: ignore[attr-defined]


def by_trainer(
    dataset: list[TokenizedExample], options: dict[str, Any], folder: Path
) -> tuple[float, Callable[[], Any]]:
    """Seconds of Trainer.train, and what gives the adapted model."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    options, group = dict(options), options.get("group", False)
    options.pop("group", None)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(verify_shipped(BASE), **({"dtype": "float32"} | options))
    config = LoraConfig(
        r=CONFIG.rank, lora_alpha=int(CONFIG.alpha), target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, config)  # as it comes: adapters of a 16-bit model learn in 32
    data = [
        {
            "input_ids": example.prompt + example.answer,
            "labels": [-100] * len(example.prompt) + example.answer,
        }
        for example in dataset
    ]
    arguments = TrainingArguments(
        str(folder),
        max_steps=CONFIG.steps,
        per_device_train_batch_size=CONFIG.batch_size,
        learning_rate=CONFIG.learning_rate,
        warmup_steps=CONFIG.warmup_steps,
        lr_scheduler_type="linear",
        max_grad_norm=CONFIG.max_grad_norm,
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        bf16=options.get("dtype") == "bfloat16",
        train_sampling_strategy="group_by_length" if group else "random",
        dataloader_pin_memory=False,
    )
    collate = DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(verify_shipped(BASE)), padding=True)
    done = Trainer(model, arguments, train_dataset=data, data_collator=collate).train()  # type: ignore[arg-type]
    return float(done.metrics["train_runtime"]), lambda: model.float()


def one(name: str) -> None:
    """One run, in this process: print what was measured as JSON."""
    engine = load_base(BASE, CONFIG.replace(precision="float32"))
    dataset = tokenize(engine, knowledge_examples(AREAS), CONFIG.max_length)
    others = [
        Example(open_prompt(q), q.answer) for q in closed_book_questions(load_questions("validation"), AREAS)
    ]
    before = peak_resident_bytes()
    with tempfile.TemporaryDirectory() as folder:
        seconds, finished = (by_course if name.startswith("course") else by_trainer)(
            dataset, RUNS[name], Path(folder)
        )
        grown = peak_resident_bytes() - before
        model = finished().eval()
    checked = tokenize(engine, others, CONFIG.max_length)
    with torch.no_grad():
        loss = float(loss_of(model, *collate(checked, "cpu"))) / sum(
            len(example.answer) for example in checked
        )
    tokens = CONFIG.steps * CONFIG.batch_size * sum(example.length for example in dataset) / len(dataset)
    print(json.dumps({"tokens_per_second": tokens / seconds, "grown": grown, "loss": loss}))


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
        return
    rounds = int(sys.argv[1]) if sys.argv[1:] else 3
    print(machine(), *(f"{name} {version(name)}" for name in ("torch", "transformers", "peft")))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for _ in range(rounds):
        for name in RUNS:
            process = subprocess.run(
                [sys.executable, __file__, "--one", name], capture_output=True, text=True, check=True
            )
            runs[name].append(json.loads(process.stdout.splitlines()[-1]))
            print(name, runs[name][-1], file=sys.stderr)
    ours = [run["tokens_per_second"] for run in runs["course"]]
    rows = [
        [
            name,
            f"{median_of([run['tokens_per_second'] for run in results])}",
            str(paired_ratio(ours, [run["tokens_per_second"] for run in results]))
            if name != "course"
            else "-",
            f"{median_of([run['grown'] / 1e6 for run in results])}",
            f"{median_of([run['loss'] for run in results])}",
        ]
        for name, results in runs.items()
    ]
    print(f"{BASE}, rank {CONFIG.rank}, {CONFIG.steps} steps of {CONFIG.batch_size} examples")
    print(
        table(
            ["run", "tokens/s", "the course's, times this", "memory grown, MB", "loss on other wordings"],
            rows,
        )
    )


if __name__ == "__main__":
    main()
