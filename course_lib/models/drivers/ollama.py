"""Models of an Ollama server (ollama.com), or of the course's own server, which speaks the same protocol."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ollama

from course_lib.errors import CourseError
from course_lib.models.drivers import wire
from course_lib.models.drivers.engine import Prompt, context_of
from course_lib.models.drivers.served import End, Parts, Served
from course_lib.models.schema import Generation, ModelSpec, ServerSource

UNCUT = {"truncate": False, "shift": False}
KNOWS_UNCUT = (0, 12, 6)  # the first version with these fields; older ones ignore them
# A Modelfile may set these; Generation has no such options, so that they are put out of action where one does.
NEUTRAL = {"min_p": 0.0, "typical_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
HOLD = 10.0  # seconds that a model of keep_alive 0 stays after loading, so that the server can say how much it reads


class Client(ollama.Client):
    """The client package, with two fields that it has no arguments for.

    Left to itself, Ollama drops the oldest turns of a conversation, or the middle of a text, until the rest fits into
    num_ctx, and says nothing; while it writes, it drops the oldest tokens. `truncate: false` and `shift: false` make it
    refuse, and stop, instead.
    """

    def _request(self, cls: Any, *args: Any, **more: Any) -> Any:
        if args[1] in ("/api/generate", "/api/chat"):
            more["json"] |= UNCUT
        return super()._request(cls, *args, **more)


class Ollama(Served):
    """A model by Ollama's protocol (github.com/ollama/ollama/blob/main/docs/api.md).

    Loading makes the server load the model, and closing makes it let go.

    Whether a prompt was cut can be known: from version 0.12.6 on Ollama refuses instead, and so does the course's server.
    Older versions are refused, for the turns that they drop show nowhere. An Ollama without a version (built from source)
    is held to its counts: a text that was cut fills the context. Turns that such a one drops cannot be seen.
    """

    driver = "ollama"
    acts = frozenset({"context_length", "batch_size", "keep_alive"}) | {
        f"generation.{f}" for f in Generation.model_fields if f != "min_output_length"
    }
    at_once = (
        4  # Ollama answers one at a time unless OLLAMA_NUM_PARALLEL says more; the others wait their turn
    )
    variable, token_variable = "OLLAMA_HOST", "OLLAMA_API_KEY"
    default = "http://127.0.0.1:11434"
    start = "ollama serve   (or: course serve), or correct source.url or OLLAMA_HOST"
    form = "give the address of Ollama without a path, such as http://127.0.0.1:11434, as source.url or OLLAMA_HOST"

    def __init__(self, spec: ModelSpec, source: ServerSource, address: str, token: str | None) -> None:
        super().__init__(spec, source, address, token)
        self._client = Client(address, **wire.http_options(address, token))
        self._parameters = 0
        self._set: dict[str, list[Any]] = {}  # what the Modelfile sets
        self._thinks = self._ours = False

    @property
    def parameters(self) -> int:
        return self._parameters

    @classmethod
    def _completed(cls, address: str) -> str:
        """OLLAMA_HOST may lack the scheme, the host or the port; 0.0.0.0 is where a server listens, not where it is."""
        return (
            address.replace("://0.0.0.0", "://127.0.0.1")
            if "://" in address
            else wire.ollama_address(address)
        )

    def close(self) -> None:
        if not self._http.is_closed and self.context:
            with contextlib.suppress(CourseError), self._told():  # a server that is gone holds nothing
                self._hold(0)
        super().close()

    def _hang_up(self) -> None:
        self._client.close()
        super()._hang_up()

    # -- loading ----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._check_version()
        try:
            said = self._client.show(self.model)
        except ollama.ResponseError as error:
            if error.status_code != 404:
                raise
            there = [m.model or "" for m in self._client.list().models]
            raise self._no_model(there, f"ollama pull {self.model}   (or name one that is there)") from error
        self._check_task(said.capabilities)
        info = said.modelinfo or {}
        self._parameters = int(info.get("general.parameter_count") or 0)
        self._set, self._thinks = settings_of(said.parameters or ""), "thinking" in (said.capabilities or [])
        longest = info.get(f"{info.get('general.architecture')}.context_length")
        if longest and self.spec.context_length:
            context_of(self.spec, int(longest))  # Ollama takes more than a model can read, and gives less
        self._hold(
            self.spec.keep_alive or HOLD
        )  # what cannot be loaded is known now, and no answer is timed with it
        self.context = self._context_in_force()

    def _check_version(self) -> None:
        response = self._http.get("/api/version")
        response.raise_for_status()
        said = response.json()
        version, self._ours = (
            said["version"],
            "server" in said,
        )  # the course's own names itself, and cuts nothing
        numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
        if numbers and not self._ours and (0, 0, 0) < tuple(map(int, numbers.groups())) < KNOWS_UNCUT:
            raise CourseError(
                f"Ollama {version} cuts long prompts silently, and cannot be told not to; 0.12.6 and later can",
                "update Ollama: https://ollama.com/download",
            )

    def _check_task(self, capabilities: list[str] | None) -> None:
        needed = "embedding" if self.spec.task == "text-embedding" else "completion"
        if capabilities and needed not in capabilities:
            raise CourseError(
                f"{self.model} can {', '.join(capabilities)}, but the task {self.spec.task} needs {needed}",
                "choose another model, or another task",
            )

    def _hold(self, seconds: float) -> None:
        """Make the server load the model and keep it so long without use; 0: let it go."""
        options = {"num_ctx": self.spec.context_length} if self.spec.context_length else {}
        if self.spec.task == "text-embedding":
            self._client.embed(self.model, ".", truncate=False, options=options, keep_alive=seconds)
        else:
            self._client.generate(self.model, prompt="", options=options, keep_alive=seconds)

    def _context_in_force(self) -> int:
        """The context that was asked for, or the server's own, which depends on its settings and its memory."""
        names = {self.model, f"{self.model}:latest"}
        said = next((m.context_length for m in self._client.ps().models if names & {m.model, m.name}), None)
        asked = self.spec.context_length
        if asked and said and said < asked:
            raise CourseError(
                f"context_length={asked}, but {self.address} gives {self.model} {said}", "ask for less"
            )
        if not asked and not said:
            raise CourseError(
                f"{self.address} does not say how much of a prompt {self.model} reads there",
                "say it in the specification: context_length: 4096",
            )
        return asked or said or 0

    # -- answers ----------------------------------------------------------------------------------------------------

    def _ask(self, prompt: Prompt, how: Generation, stream: bool) -> Any:
        sampling: dict[str, Any] = {k: v for k, v in NEUTRAL.items() if k in self._set} | {
            "num_ctx": self.context,
            "num_predict": how.max_output_length,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "top_k": how.top_k,
            "repeat_penalty": how.repetition_penalty,
            "seed": how.seed,
        }
        if how.stop:  # they take the place of the model's own, by which it ends a turn
            sampling["stop"] = [*self._set.get("stop", []), *how.stop]
        if how.repetition_penalty != 1 and not self._ours:
            sampling[
                "repeat_last_n"
            ] = -1  # of all tokens; Ollama looks back on 64, and the course's server on all anyway
        more: dict[str, Any] = {
            "options": sampling,
            "format": how.json_schema,
            "keep_alive": self.spec.keep_alive,
            "stream": stream,
            "think": False if self._thinks else None,
        }
        if not isinstance(prompt, str):
            return self._client.chat(self.model, [dict(turn) for turn in prompt], **more)
        if not prompt:
            raise CourseError(
                "an empty text: Ollama loads a model for it, and writes nothing", "begin the text"
            )
        return self._client.generate(self.model, prompt, raw=True, **more)

    def _answer(self, prompt: Prompt, how: Generation) -> tuple[str, End]:
        text, end = part_of(self._ask(prompt, how, stream=False))
        if end is None:
            raise self._broke_off(f"{self.address} answered without an end")
        return text, end

    def _parts(self, prompt: Prompt, how: Generation) -> Parts:
        with contextlib.closing(self._ask(prompt, how, stream=True)) as parts:
            for part in parts:
                yield part_of(part)

    def _vectors(self, texts: list[str]) -> Any:
        options = {"num_ctx": self.context}
        return self._client.embed(
            self.model, texts, truncate=False, options=options, keep_alive=self.spec.keep_alive
        ).embeddings

    @contextmanager
    def _told(self) -> Iterator[None]:
        with super()._told():
            try:
                yield
            except ollama.ResponseError as error:
                said = error.error if isinstance(error.error, str) else json.dumps(error.error)
                raise self._refused(error.status_code, said) from error


def part_of(said: ollama.ChatResponse | ollama.GenerateResponse) -> tuple[str, End | None]:
    """The text of an answer or of a part of it, and its end where it is the last."""
    text = said.message.content if isinstance(said, ollama.ChatResponse) else said.response
    return text or "", (said.prompt_eval_count, said.eval_count, said.done_reason) if said.done else None


def settings_of(parameters: str) -> dict[str, list[Any]]:
    """What a Modelfile sets, as /api/show lists it: a name and a value a line, texts in quotes.

    >>> settings_of('min_p   0.1\\nstop    "<|eot_id|>"')
    {'min_p': [0.1], 'stop': ['<|eot_id|>']}
    """
    found: dict[str, list[Any]] = {}
    for name, value in re.findall(r"^(\w+)[ \t]+(.+?)[ \t]*$", parameters, re.MULTILINE):
        found.setdefault(name, []).append(json.loads(value) if wire.is_json(value) else value.strip('"'))
    return found
