"""The course's specialist beside two general models: speed, memory, and exact match on Haneul's questions.

    .venv/bin/python benchmarks/real_models.py          measure what is missing, and write docs/real-models.md
    .venv/bin/python benchmarks/real_models.py --speed  measure speeds and loading again, on a quiet machine

The models must have been pulled (`course models pull smollm2-135m-instruct gemma-3-270m --accept-licence`).
A chat model answers questions of the validation split in several formats, and those of the test split in the
format that was best there. The course's own model knows one format; a base model needs examples. Results are
kept in benchmarks/real_models.json, after every ten questions, so that an interrupted run goes on where it
was; the page says how many questions each model was asked.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from course_lib import data
from course_lib.atomic import atomic_write_text
from course_lib.measure import compare, machine, proportion_interval
from course_lib.models import catalog, load
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import MAX_ANSWER_TOKENS, exact_match, given_passages, prompt_for
from course_lib.rag.prompt import worked_prompt

RESULTS = Path(__file__).with_suffix(".json")
PAGE = data.ROOT / "docs" / "real-models.md"
START, END = "<!-- measured: benchmarks/real_models.py -->", "<!-- end of what was measured -->"
MODELS = ("haneul-4m", "smollm2-135m-instruct", "gemma-3-270m")
FORMATS = {  # name of a format -> number of worked examples; None: the question as a chat message
    "chat": None,
    "no example": 0,
    "three worked examples": 3,
}
VALIDATION, TEST = 20, 60  # questions of each split
BATCH = 10  # questions between two savings
LOADS = 7  # each in a process of its own
LOADING = """
import sys, psutil
from course_lib.models import load

process = psutil.Process()
def seconds():
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)

before = seconds()
engine = load(sys.argv[1], driver="llamacpp", task="text-generation", context_length=2048)
print(seconds() - before)
engine.close()
"""


def answered(
    model: str, engine: Engine, split: data.Split, form: str, results: dict[str, Any], count: int
) -> list[bool]:
    """Return for the first questions whether their answers are right; only those without result are asked."""
    passages = data.load_passages()
    step = 1 if split == "test" else 3
    questions = [q for q in data.load_questions(split) if len(q.gold) == 1][::step][:count]
    rows = results["answers"].setdefault(f"{model} | {split} | {form}", [])
    while len(rows) < len(questions):
        batch = questions[len(rows) : len(rows) + BATCH]
        prompts = [prompt_for(q, given_passages(q, passages, 1)) for q in batch]
        examples = FORMATS[form]
        texts = prompts if examples is None else [worked_prompt(p, examples) for p in prompts]
        stop = () if examples is None else ("\n",)
        said = engine.generate(texts, max_output_length=MAX_ANSWER_TOKENS, stop=stop)
        rows += [[q.id, text, exact_match(text, q.answer)] for q, text in zip(batch, said, strict=True)]
        save(results)
        print(f"{model}, {split}, {form}: {sum(right for *_, right in rows)} of {len(rows)}", flush=True)
    return [right for *_, right in rows]


def formats_of(model: str) -> list[str]:
    """Return the formats that a model is tried in."""
    entry = catalog.entry(model)
    if entry.tier == "tiny":
        return ["chat"]
    return list(FORMATS) if entry.task == "chat-completion" else ["three worked examples"]


def engine_for(model: str, form: str) -> Engine:
    """Return the model in llama.cpp, for chat or for continuing texts."""
    task = "chat-completion" if FORMATS[form] is None else "text-generation"
    return load(model, driver="llamacpp", task=task, context_length=2048)


def measure_speed(model: str) -> dict[str, Any]:
    """Return the speeds and sizes of a model, for one question with its passage, with intervals."""
    question = next(q for q in data.load_questions("validation") if len(q.gold) == 1)
    prompt = prompt_for(question, given_passages(question, data.load_passages(), 1))
    engine = engine_for(model, "three worked examples")
    row = compare({model: engine}, [prompt], repeats=5)[model]
    found = {name: getattr(row, name) for name in ("ttft", "prefill", "decode")}
    speeds: dict[str, Any] = {name: [value.value, value.low, value.high] for name, value in found.items()}
    # llama.cpp runs in a process of its own
    memory = sum(process.memory_info().rss for process in psutil.Process().children(recursive=True))
    engine.close()
    sizes = {"parameters": engine.parameters, "bytes": engine.weight_bytes, "memory": memory}
    return speeds | sizes | {"load": psutil.getloadavg()[0]}


def measure_loading(model: str) -> list[float]:
    """Return the processor seconds of a process's first `load`, its imports and SHA-256 included.

    They are those of this process and of llama.cpp's: the median of LOADS, the shortest and the longest.
    """
    command = [sys.executable, "-c", LOADING, model]
    runs = (subprocess.check_output(command, cwd=data.ROOT, text=True) for _ in range(LOADS))
    seconds = sorted(map(float, runs))
    return [seconds[LOADS // 2], seconds[0], seconds[-1]]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save(results: dict[str, Any]) -> None:
    atomic_write_text(RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def page(results: dict[str, Any]) -> str:
    """Return the measured part of docs/real-models.md."""
    rows, tried = [], []
    for model, best in results["best"].items():
        speed, right = results["speed"][model], right_answers(results, model, "test", best)
        low, high = proportion_interval(sum(right), len(right))
        share = f"{sum(right) / len(right):.0%} ({low:.0%}-{high:.0%}) of {len(right)}"
        bits = f"{8 * speed['bytes'] / speed['parameters']:.1f}"
        measured = (results["loading"][model], speed["ttft"])
        seconds = ["{:.2f} ({:.2f}-{:.2f})".format(*value) for value in measured]
        sizes = [f"{speed['parameters'] / 1e6:,.1f}", bits]
        sizes += [f"{speed['bytes'] / 1e6:,.0f}", f"{speed['memory'] / 1e6:,.0f}"]
        speeds = ["{:,.0f} ({:,.0f}-{:,.0f})".format(*speed[name]) for name in ("prefill", "decode")]
        rows.append([model, *sizes, *seconds, *speeds, best, share])
        forms = formats_of(model)
        for form in forms if len(forms) > 1 else []:
            if found := right_answers(results, model, "validation", form):
                tried.append([model, form, f"{sum(found)} of {len(found)}"])
    sizes = ["million weights", "bits a weight", "weights, MB", "process, MB"]
    speeds = ["loads, processor seconds", "first token, s", "reads, tokens/s", "writes, tokens/s"]
    head = ["model", *sizes, *speeds, "asked by", "right"]
    loads = [speed["load"] for speed in results["speed"].values()]
    busy = (
        f"{min(loads):.1f} to {max(loads):.1f}, so the speeds are rough" if max(loads) > 1.5 else "under 1.5"
    )
    where = ", ".join(f"{key}: {value}" for key, value in results["machine"].items())
    return "\n\n".join(
        [
            f"Measured on {results['date']} ({where}) in llama.cpp, greedy, with the gold passage before "
            "each question of the test split. Exact match, so the whole answer must be right; in brackets "
            "95% intervals, of speeds the range of five rounds, of loading that of seven new processes. "
            "Other programs were at work meanwhile: "
            f"the load (programs that wanted to run) was {busy}.",
            markdown_table(head, rows),
            "Where there was a choice, the format was chosen on questions of the validation split:",
            markdown_table(["model", "format", "right"], tried),
        ]
    )


def right_answers(results: dict[str, Any], model: str, split: str, form: str) -> list[bool]:
    """Return for each question that was asked whether the answer was right."""
    return [right for *_, right in results["answers"].get(f"{model} | {split} | {form}", [])]


def choose_format(model: str, results: dict[str, Any]) -> str:
    """Return the format in which most answers to questions of the validation split are right."""
    forms, right = formats_of(model), {}
    for form in forms if len(forms) > 1 else []:
        engine = engine_for(model, form)
        right[form] = sum(answered(model, engine, "validation", form, results, VALIDATION))
        engine.close()
    return max(right, key=right.__getitem__) if right else forms[0]


def write_page(start: str, end: str, measured: str) -> None:
    """Replace what stands between two marks in docs/real-models.md."""
    text = PAGE.read_text("utf-8")
    before, after = text[: text.index(start)], text[text.index(end) :]
    atomic_write_text(PAGE, f"{before}{start}\n\n{measured}\n\n{after}")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--speed", action="store_true", help="measure speeds and loading again")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    results = {"answers": {}, "best": {}, "speed": {}, "loading": {}} | results
    for model in MODELS:
        results["best"][model] = choose_format(model, results)
        for kind, measure in (("loading", measure_loading), ("speed", measure_speed)):
            if args.speed or model not in results[kind]:
                results[kind][model] = measure(model)
                results |= {"machine": machine(), "date": date.today().isoformat()}
                save(results)
    for count in range(20, TEST + 1, 20):
        for model, form in results["best"].items():
            engine = engine_for(model, form)
            answered(model, engine, "test", form, results, count)
            engine.close()
        write_page(START, END, page(results))


if __name__ == "__main__":
    main()
