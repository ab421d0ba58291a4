"""Compare engines (loaded models): time to first token, prefill and decode speed, memory, and quality.

Prefill is reading the prompt, decode is writing the answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from course_lib.errors import CourseError
from course_lib.measure.hardware import machine
from course_lib.measure.memory import Memory, peak_memory
from course_lib.measure.results import EngineMeasurement, Results, Round

# Maps the answers, in the order of the prompts, to one score from 0 to 1 each.
Quality = Callable[[Sequence[str]], Sequence[float]]
MIN_LENGTH_FIELD = "generation.min_output_length"  # in `supported_fields` if an engine can obey it


class Engine(Protocol):
    """What a measured engine must provide; every `course_lib.models.drivers.engine.Engine` does.

    driver: the name of the software that runs the model.
    """

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
    """Return the measurement of one engine. `options` are the keyword arguments of `compare`."""
    loaded = {} if load_seconds is None else {engine.name: load_seconds}
    return compare({engine.name: engine}, prompts, load_seconds=loaded, **options)[engine.name]


def compare(
    engines: Mapping[str, Engine],
    prompts: Sequence[Any] | Mapping[str, Sequence[Any]],
    *,
    new_tokens: int = 32,
    repeats: int = 7,
    warm_up: int = 1,
    timed: int = 1,
    quality: Quality | None = None,
    load_seconds: Mapping[str, float] | None = None,
) -> Results:
    """Measure engines in alternating rounds, so that noise on the machine affects all of them alike.

    Each round sends the first `timed` prompts one at a time and takes three times per prompt: until the first
    piece of a streamed answer, for an answer of one token, and for an answer of `new_tokens` tokens (possibly
    fewer if the engine's driver does not support min_output_length). A random number is put in front of each
    prompt, so that no engine can use what it computed for an earlier prompt. `prompts` may map each engine to
    its own list, in the same order, where engines expect different formats. The first `warm_up` rounds do not
    count for the times; memory is measured in the first of them. If `quality` is given, it scores the answers
    to all prompts, sent without the number.

    Raises ValueError for invalid arguments, CourseError if an engine writes too few tokens to time, and
    passes on errors of the engines.
    """
    load_seconds = load_seconds or {}
    by_engine = prompts if isinstance(prompts, Mapping) else dict.fromkeys(engines, prompts)
    _check_arguments(engines, by_engine, new_tokens, repeats, warm_up, timed, load_seconds)
    timed_prompts = {name: list(by_engine[name][:timed]) for name in engines}
    memory = {
        name: _first_round_memory(engine, timed_prompts[name], new_tokens) for name, engine in engines.items()
    }
    scores = {name: _scores(engine, by_engine[name], quality) for name, engine in engines.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in engines}
    for _ in range(warm_up - 1 + repeats):
        for name, engine in engines.items():
            rounds[name].append(_round(engine, timed_prompts[name], new_tokens))
    rows = {
        name: EngineMeasurement(
            model=engine.name,
            driver=engine.driver,
            prompts=timed,
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


def _check_arguments(
    engines: Mapping[str, Engine],
    prompts: Mapping[str, Sequence[Any]],
    new_tokens: int,
    repeats: int,
    warm_up: int,
    timed: int,
    load_seconds: Mapping[str, float],
) -> None:
    if not engines or prompts.keys() != engines.keys() or not all(map(_is_list, prompts.values())):
        raise ValueError("compare needs at least one engine and a list of at least one prompt")
    if new_tokens < 2 or repeats < 1 or warm_up < 1:
        given = f"new_tokens={new_tokens}, repeats={repeats}, warm_up={warm_up}"
        raise ValueError(f"{given}; the minimum is 2, 1 and 1")
    fewest = min(map(len, prompts.values()))
    if not 1 <= timed <= fewest:
        raise ValueError(f"timed={timed} must be from 1 to the number of prompts, {fewest}")
    if unknown := load_seconds.keys() - engines.keys():
        raise ValueError(
            f"load_seconds names {', '.join(sorted(unknown))}, but the engines are {', '.join(engines)}"
        )


def _is_list(prompts: Sequence[Any]) -> bool:
    return not isinstance(prompts, str) and len(prompts) > 0


def _first_round_memory(engine: Engine, prompts: list[Any], new_tokens: int) -> Memory | None:
    """Return the memory of the engine's first round; None if another process holds the weights."""
    _, memory = peak_memory(lambda: _round(engine, prompts, new_tokens), getattr(engine, "process_id", None))
    return memory if engine.weight_bytes else None


def _scores(engine: Engine, prompts: Sequence[Any], quality: Quality | None) -> tuple[float, ...]:
    if quality is None:
        return ()
    scores = tuple(float(score) for score in quality(engine.generate(prompts)))
    if len(scores) != len(prompts) or not all(0 <= score <= 1 for score in scores):
        given = f"quality returned {len(scores)} scores for {len(prompts)} answers"
        raise ValueError(f"{given}; it must return one from 0 to 1 for each answer")
    return scores


def _round(engine: Engine, prompts: list[Any], new_tokens: int) -> Round:
    """Time the prompts one after the other and return the sums over the prompts."""
    runs = [_time_prompt(engine, prompt, new_tokens) for prompt in prompts]
    return Round(*map(sum, zip(*runs, strict=True)))


def _time_prompt(engine: Engine, prompt: Any, new_tokens: int) -> Round:
    first = _seconds_to_first_piece(engine, _uncached(prompt), _length_options(engine, new_tokens))
    short_seconds, short = _time_generate(engine, _uncached(prompt), _length_options(engine, 1))
    long_seconds, long = _time_generate(engine, _uncached(prompt), _length_options(engine, new_tokens))
    if long.tokens <= short.tokens:
        message = (
            f"{engine.name} stopped after {long.tokens} of {new_tokens} tokens, too few to time decoding"
        )
        raise CourseError(message, "use prompts that ask for longer answers")
    return Round(first, short_seconds, long_seconds, short.prompt_tokens, long.tokens - short.tokens)


def _seconds_to_first_piece(engine: Engine, prompt: Any, options: dict[str, Any]) -> float:
    started = time.perf_counter()
    pieces = engine.stream(prompt, **options)
    if next(filter(None, pieces), None) is None:
        raise CourseError(f"{engine.name} streamed an empty answer", "use prompts that the model answers")
    seconds = time.perf_counter() - started
    for _ in pieces:  # read to the end: an unfinished stream could slow down the next run
        pass
    return seconds


def _time_generate(engine: Engine, prompt: Any, options: dict[str, Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    reply = engine.generate([prompt], **options)[0]
    return time.perf_counter() - started, reply


def _length_options(engine: Engine, tokens: int) -> dict[str, Any]:
    """Return the options for an answer of `tokens` tokens (at most, if the driver supports no minimum).

    No text ends the answer early, whatever the engine was loaded with.
    """
    minimum = {"min_output_length": tokens} if MIN_LENGTH_FIELD in engine.supported_fields else {}
    return {"max_output_length": tokens, "stop": ()} | minimum


def _uncached(prompt: Any) -> Any:
    """Put six random digits in front of a prompt (a text or a list of messages).

    Prompt caches reuse only common prefixes, so the digits make them useless. What is neither is returned as
    it is: the engine says what is wrong with it.
    """
    number = f"{random.randrange(10**6):06d} "
    if isinstance(prompt, str):
        return number + prompt
    try:
        first, *others = prompt
        return [{**first, "content": number + first["content"]}, *others]
    except (TypeError, ValueError, KeyError):
        return prompt
