"""Engines side by side: time to the first piece, prefill and decode speed, memory, and quality."""

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
MIN_LENGTH = "generation.min_output_length"


class Engine(Protocol):
    """What is needed of an engine; every `course_lib.models.drivers.engine.Engine` has it."""

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
    engine: Engine, prompts: Sequence[Any], *, load_seconds: float | None = None, **options: Any
) -> EngineMeasurement:
    """Measure one engine. `options` are those of `compare`."""
    loaded = {} if load_seconds is None else {engine.name: load_seconds}
    return compare({engine.name: engine}, prompts, load_seconds=loaded, **options)[engine.name]


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
    """Measure engines in turns, round by round, so that whatever disturbs the machine affects all of them.

    A round sends the first `timed` prompts one at a time, and measures three times: until the first piece of
    a stream; of one token; and of `new_tokens` tokens, or as many as the engine writes where its driver has
    no min_output_length. Each prompt gets a new number in front, so that no engine can answer from a prompt
    cache. The first `warm_up` rounds are not timed; memory is measured in the first of them. Where `quality`
    is given to score answers, all prompts are answered as they are.

    Raises ValueError for impossible arguments, CourseError where an engine writes too little to be timed, and
    whatever the engine raises.
    """
    load_seconds = load_seconds or {}
    _check(engines, prompts, new_tokens, repeats, warm_up, timed, load_seconds)
    chosen = list(prompts[:timed])
    memory = {name: _first_round(engine, chosen, new_tokens) for name, engine in engines.items()}
    scores = {name: _scores(engine, prompts, quality) for name, engine in engines.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in engines}
    for _ in range(warm_up - 1 + repeats):
        for name, engine in engines.items():
            rounds[name].append(_round(engine, chosen, new_tokens))
    rows = {
        name: EngineMeasurement(
            model=engine.name,
            driver=engine.driver,
            prompts=len(chosen),
            new_tokens=new_tokens,
            rounds=tuple(rounds[name][warm_up - 1 :]),
            weights=engine.weight_bytes or None,
            memory=memory[name],
            load=load_seconds.get(name),
            scores=scores[name],
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
        given = f"new_tokens={new_tokens}, repeats={repeats}, warm_up={warm_up}"
        raise ValueError(f"{given}; at least 2, 1 and 1 are needed")
    if not 1 <= timed <= len(prompts):
        raise ValueError(f"timed={timed} of {len(prompts)} prompts")
    if unknown := load_seconds.keys() - engines.keys():
        raise ValueError(
            f"load_seconds of {', '.join(sorted(unknown))}, but the engines are {', '.join(engines)}"
        )


def _first_round(engine: Engine, prompts: list[Any], new_tokens: int) -> Memory | None:
    """Memory of the first use; None where another process holds the weights."""
    _, memory = peak_memory(lambda: _round(engine, prompts, new_tokens))
    return memory if engine.weight_bytes else None


def _scores(engine: Engine, prompts: Sequence[Any], quality: Quality | None) -> tuple[float, ...]:
    if quality is None:
        return ()
    scores = tuple(float(score) for score in quality(engine.generate(prompts)))
    if len(scores) != len(prompts) or not all(0 <= score <= 1 for score in scores):
        given = f"quality gave {len(scores)} scores for {len(prompts)} answers"
        raise ValueError(f"{given}; one from 0 to 1 for each is needed")
    return scores


def _round(engine: Engine, prompts: list[Any], new_tokens: int) -> Round:
    """The times of every prompt, one after the other, summed over the prompts."""
    runs = [_run(engine, prompt, new_tokens) for prompt in prompts]
    return Round(*map(sum, zip(*runs, strict=True)))


def _run(engine: Engine, prompt: Any, new_tokens: int) -> Round:
    first = _first_piece(engine, _uncached(prompt), _length(engine, new_tokens))
    short_seconds, short = _generate(engine, _uncached(prompt), _length(engine, 1))
    long_seconds, long = _generate(engine, _uncached(prompt), _length(engine, new_tokens))
    if long.tokens <= short.tokens:
        what = f"{engine.name} ended after {long.tokens} of {new_tokens} tokens, too few to time decode by"
        raise CourseError(what, "give prompts that ask for longer answers")
    return Round(first, short_seconds, long_seconds, short.prompt_tokens, long.tokens - short.tokens)


def _first_piece(engine: Engine, prompt: Any, options: dict[str, int]) -> float:
    started = time.perf_counter()
    pieces = engine.stream(prompt, **options)
    if next(filter(None, pieces), None) is None:
        raise CourseError(f"{engine.name} streamed an empty answer", "give prompts that it answers")
    seconds = time.perf_counter() - started
    for _ in pieces:  # a stream that is left early may still be at work during the next run
        pass
    return seconds


def _generate(engine: Engine, prompt: Any, options: dict[str, int]) -> tuple[float, Any]:
    started = time.perf_counter()
    reply = engine.generate([prompt], **options)[0]
    return time.perf_counter() - started, reply


def _length(engine: Engine, tokens: int) -> dict[str, int]:
    """Options for an answer of `tokens` tokens, or of at most as many where the driver has no minimum."""
    minimum = {"min_output_length": tokens} if MIN_LENGTH in engine.supported_fields else {}
    return {"max_output_length": tokens} | minimum


def _uncached(prompt: Any) -> Any:
    """The prompt, a text or turns, after six random digits: prompt caches know only equal beginnings."""
    number = f"{random.randrange(10**6):06d} "
    if isinstance(prompt, str):
        return number + prompt
    first, *others = prompt
    return [{**first, "content": number + first["content"]}, *others]
