"""Plans of an exam beside the exam, and speeds of cards beside those that others published.

    python -m benchmarks.exam_plan cards                        a card from the efficiency of the others
    python -m benchmarks.exam_plan here MODEL PASSAGES [COUNT]  minutes on this machine, predicted, then run

here: the questions, the handbook and the right answers of the practice questions tell how many tokens are
read and written; a search is timed with practice questions, and the model with one prompt and one answer of
such lengths. Then COUNT English questions (by default all 314) are answered one at a time by `run_exam`.
"""

import sys
import tempfile
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean, median

from course_lib import data
from course_lib.exam.cards import Card, cards
from course_lib.exam.haneul import haneul_exam
from course_lib.exam.here import timed_here
from course_lib.exam.plan import Exam, plan_exam
from course_lib.exam.questions import ExamQuestion
from course_lib.exam.run import System, run_exam
from course_lib.exam.strategies import handbook_search
from course_lib.exam.systems import Reader
from course_lib.measure import machine, measure
from course_lib.models import load
from course_lib.models.catalog import entry
from course_lib.models.drivers.engine import Engine
from course_lib.rag.answering import exam, format_for
from course_lib.rag.prompt import REFUSAL, Source, chosen_option, context_block, question_prompt
from course_lib.tables import table

SEARCHED = 20  # practice questions with which the search is timed


def others() -> None:
    """Predict each card's published runs of one text by the efficiency that the other cards reached."""
    rows = []
    for known in cards().values():
        rest = [card for card in cards().values() if card is not known]
        for does in ("read", "write"):
            for weight_format in ("q4_k_m", "float16"):
                reached = median(chain.from_iterable(shares(card, does, weight_format) for card in rest))
                ratios = [reached / share for share in shares(known, does, weight_format)]
                spread = f"{fmean(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                rows.append([known.name, does, weight_format, len(ratios), spread])
    print(table(["card", "does", "format", "runs", "predicted speed / published"], rows))


def shares(card: Card, does: str, weight_format: str) -> list[float]:
    return [
        card.share(run)
        for run in card.runs
        if run.does == does and run.weight_format == weight_format and run.batch == 1
    ]


def answer_text(question: ExamQuestion) -> str:
    answer = str(question.answer)
    return chosen_option(answer, question.options) if question.options and answer != REFUSAL else answer


def foreseen(engine: Engine, questions: list[ExamQuestion], passages: int) -> Exam:
    """What is read and written, before a question is asked; the search is timed with practice questions."""
    practice = [q for q in haneul_exam("practice") if q.language == "en"]
    prompts = [format_for(engine, question_prompt(q.question, [], q.options)) for q in questions]
    blocks = [context_block([Source(p.title, p.text)]) for p in data.load_passages().values()]
    count = engine.count_tokens
    handbook_search().rerank.add(p.text for p in data.load_passages().values())  # before the exam begins
    search = handbook_search().bind(k=passages)
    search.invoke(practice[-1].question)
    seconds = [
        measure(lambda q=q: search.invoke(q.question), repeats=1, warm_up=0).median
        for q in practice[:SEARCHED]
    ]
    empty = count("")
    return Exam(
        questions=len(questions),
        passages=passages,
        passage_tokens=round(fmean(count(block) - empty for block in blocks)),
        question_tokens=round(fmean(map(count, prompts))),
        answer_tokens=round(fmean(count(answer_text(q)) - empty + 1 for q in practice)),  # 1 ends it
        search_seconds=fmean(seconds),
    )


def here(name: str, passages: int, wanted: int | None = None) -> None:
    questions = [q for q in haneul_exam("exam") if q.language == "en"][:wanted]
    known = entry(name)
    with load(known.spec, **exam(known)) as engine:
        expected = foreseen(engine, questions, passages)
        model = known.pulled_path if known.package else name
        card, weight_format, driver = timed_here(engine, model, expected)
        planned = plan_exam(model, card, expected, weight_format, driver=driver)
        print(
            f"{machine()}\n{card.bandwidth / 1e9:.1f} GB/s, {card.flops / 1e9:.0f} GFLOP/s\n{planned}",
            flush=True,
        )
        before = replace(engine.counters)
        with tempfile.TemporaryDirectory() as folder:
            reader = Reader(engine, handbook_search().bind(k=passages))
            system, output = System(name, reader.write), Path(folder) / "exam.jsonl"
            given = run_exam(questions, [system], output, minutes=270, progress=False)
        took, asked = given[-1].used / 60, engine.counters
        read = (asked.prompt_tokens - before.prompt_tokens) / len(questions)
        wrote = (asked.tokens - before.tokens) / len(questions)
        failed = sum(each.system != name for each in given)
        spent = (asked.seconds - before.seconds) / 60
    low, value, high = planned.minutes
    print(
        f"took {took:.2f} min, {spent:.2f} of them in the model; "
        f"read {read:.0f} tokens, wrote {wrote:.1f}; {failed} failed"
    )
    model_minutes = (planned.seconds["read"].value + planned.seconds["write"].value) / 60
    print(f"{name}: predicted / taken {value / took:.2f} ({low / took:.2f}-{high / took:.2f}), of which")
    search = (value - model_minutes) / (took - spent)
    print(f"the model {model_minutes / spent:.2f}, the search {search:.2f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["cards"]:
        others()
    elif len(sys.argv) in (4, 5) and sys.argv[1] == "here":
        here(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        sys.exit(__doc__)
