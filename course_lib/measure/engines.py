"""Engines side by side: time to the first piece, prefill and decode speed, memory, and how good the answers are."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from course_lib.errors import CourseError
from course_lib.measure.hardware import machine
from course_lib.measure.memory import Memory, peak_memory
from course_lib.measure.results import EngineMeasurement, Results, Round

Quality = Callable[
    [Sequence[str]], Sequence[float]
]  # answers, in the order of the prompts -> scores from 0 to 1
FORCED = "generation.min_output_length"


class Engine(Protocol):
    """What is asked of an engine; every `course_lib.models.drivers.engine.Engine` has it."""

    @property
    def name(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def supported_fields(self) -> frozenset[str]: ...
    @property
    def weight_bytes(self) -> int: ...
    def generate(self, prompts: Sequence[Any], **changes: Any) -> Sequence[Any]: ...
    def stream(self, prompt: Any, **changes: Any) -> Iterator[str]: ...


def measure_engine(
    engine: Engine,
    prompts: Sequence[Any],
    *,
    new_tokens: int = 32,
    repeats: int = 7,
    warm_up: int = 1,
    timed: int = 1,
    quality: Quality | None = None,
    load_seconds: float | None = None,
) -> EngineMeasurement:
    """One engine alone; see `compare`."""
    loaded = {} if load_seconds is None else {engine.name: load_seconds}
    return compare(
        {engine.name: engine},
        prompts,
        new_tokens=new_tokens,
        repeats=repeats,
        warm_up=warm_up,
        timed=timed,
        quality=quality,
        load_seconds=loaded,
    )[engine.name]


def compare(
    engines: Mapping[str, Engine],
    prompts: Sequence[Any],
    *,
    new_tokens: int = 32,
    repeats: int = 7,
    warm_up: int = 1,
    timed: int = 1,
    quality: Quality | None = None,
    load_seconds: Mapping[str, float] | None = None,
) -> Results:
    """Measure engines in turns, round by round, so that whatever disturbs the machine hits all of them.

    A round sends the first `timed` prompts one at a time, each with a fresh number before it, so that no engine can answer
    out of a prompt cache, and takes three times: until the first piece of a stream; of one token; of `new_tokens` tokens,
    or as many as the engine writes where its driver cannot be made to go on. `warm_up` rounds come first and are not timed;
    memory is watched in the first of them. All prompts are answered, as they are, where `quality` is given to mark the answers.

    Raises ValueError for arguments that cannot be; CourseError where an engine writes too little to be timed, or what the
    engine itself raises.
    """
    _check(engines, prompts, new_tokens, repeats, warm_up, timed, load_seconds or {})
    chosen = list(prompts[:timed])
    memory = {name: _first_round(engine, chosen, new_tokens) for name, engine in engines.items()}
    scores = {name: _marks(engine, prompts, quality) for name, engine in engines.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in engines}
    for _ in range(warm_up - 1 + repeats):
        for name, engine in engines.items():
            rounds[name].append(_round(engine, chosen, new_tokens))
    rows = {
        name: EngineMeasurement(
            engine.name,
            engine.driver,
            len(chosen),
            new_tokens,
            tuple(rounds[name][warm_up - 1 :]),
            engine.weight_bytes or None,
            memory[name],
            (load_seconds or {}).get(name),
            scores[name],
        )
        for name, engine in engines.items()
    }
    return Results(rows, machine())


def _check(
    engines: Mapping[str, Engine],
    prompts: Sequence[Any],
    new_tokens: int,
    repeats: int,
    warm_up: int,
    timed: int,
    load_seconds: Mapping[str, float],
) -> None:
    if isinstance(prompts, str) or not len(prompts) or not engines:
        raise ValueError("at least one engine and a list of at least one prompt are needed")
    if new_tokens < 2 or repeats < 1 or warm_up < 1:
        raise ValueError(
            f"new_tokens={new_tokens}, repeats={repeats}, warm_up={warm_up}; at least 2, 1 and 1 are needed"
        )
    if not 1 <= timed <= len(prompts):
        raise ValueError(f"timed={timed} of {len(prompts)} prompts")
    if unknown := load_seconds.keys() - engines.keys():
        raise ValueError(
            f"load_seconds of {', '.join(sorted(unknown))}, but the engines are {', '.join(engines)}"
        )


def _first_round(engine: Engine, prompts: list[Any], new_tokens: int) -> Memory | None:
    """Memory of the first use; None where the engine's weights are not in this process, and so its memory is not either."""
    _, memory = peak_memory(lambda: _round(engine, prompts, new_tokens))
    return memory if engine.weight_bytes else None


def _marks(engine: Engine, prompts: Sequence[Any], quality: Quality | None) -> tuple[float, ...]:
    if quality is None:
        return ()
    scores = tuple(float(m) for m in quality(engine.generate(prompts)))
    if len(scores) != len(prompts) or not all(0 <= m <= 1 for m in scores):
        raise ValueError(
            f"quality gave {len(scores)} scores for {len(prompts)} answers; one from 0 to 1 for each is needed"
        )
    return scores


def _round(engine: Engine, prompts: list[Any], new_tokens: int) -> Round:
    """The three times of every prompt, one after the other, summed over the prompts."""
    runs = [_run(engine, prompt, new_tokens) for prompt in prompts]
    return Round(*map(sum, zip(*runs, strict=True)))


def _run(engine: Engine, prompt: Any, new_tokens: int) -> tuple[float, float, float, int, int]:
    first = _first_piece(engine, _fresh(prompt), _exactly(engine, new_tokens))
    short_seconds, short = _timed(engine, _fresh(prompt), _exactly(engine, 1))
    long_seconds, long = _timed(engine, _fresh(prompt), _exactly(engine, new_tokens))
    if long.tokens <= short.tokens:
        raise CourseError(
            f"{engine.name} ended after {long.tokens} of {new_tokens} tokens, too few to time decode by",
            "give prompts that ask for longer answers",
        )
    return first, short_seconds, long_seconds, short.prompt_tokens, long.tokens - short.tokens


def _first_piece(engine: Engine, prompt: Any, options: dict[str, int]) -> float:
    begun = time.perf_counter()
    pieces = engine.stream(prompt, **options)
    if next(filter(None, pieces), None) is None:
        raise CourseError(f"{engine.name} streamed an empty answer", "give prompts that it answers")
    seconds = time.perf_counter() - begun
    for _ in pieces:  # a stream that is left early may still be at work during the next run
        pass
    return seconds


def _timed(engine: Engine, prompt: Any, options: dict[str, int]) -> tuple[float, Any]:
    begun = time.perf_counter()
    reply = engine.generate([prompt], **options)[0]
    return time.perf_counter() - begun, reply


def _exactly(engine: Engine, tokens: int) -> dict[str, int]:
    """Options that make an engine write so many tokens, or at most so many where it cannot be made to."""
    return {"max_output_length": tokens} | (
        {"min_output_length": tokens} if FORCED in engine.supported_fields else {}
    )


def _fresh(prompt: Any) -> Any:
    """The prompt, a text or turns, with six digits before it that it hardly had before: only equal beginnings are cached."""
    number = f"{random.randrange(10**6):06d} "
    if isinstance(prompt, str):
        return number + prompt
    first, *others = prompt
    return [{**first, "content": number + first["content"]}, *others]
