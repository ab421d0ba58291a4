"""The driver ollama: use models on an Ollama server (ollama.com), or on the course's own server.

A specification (ModelSpec) says which model to load, and how.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ollama

from course_lib.errors import CourseError
from course_lib.models.drivers import http_client
from course_lib.models.drivers.capabilities import CAPABILITIES, SUPPORTED_FIELDS
from course_lib.models.drivers.context import context_length
from course_lib.models.drivers.remote import Chunks, RemoteEngine, Usage
from course_lib.models.drivers.reply import Prompt
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.sources import ServerSource
from course_lib.models.schema.spec import ModelSpec

NO_TRUNCATION = {"truncate": False, "shift": False}
MINIMUM_VERSION = (0, 12, 6)  # older versions ignore the two fields of NO_TRUNCATION
# Options that `Generation` lacks -> the values without effect. If the model's Modelfile (its description for
# Ollama) sets one, a request resets it.
NEUTRAL = {"min_p": 0.0, "typical_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
LOADING_SECONDS = 10.0  # with keep_alive=0, the model stays loaded until its context has been read


class Client(ollama.Client):
    """The client of the ollama package, with the fields of NO_TRUNCATION, for which it has no arguments.

    By default, Ollama silently drops the oldest turns of a conversation, or the middle of a text, until the
    rest fits into the context (num_ctx tokens); while it generates, it drops the oldest tokens. With
    `truncate: false` it refuses such a prompt, and with `shift: false` it stops generating.
    """

    def _request(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        if args[1] in ("/api/generate", "/api/chat"):
            kwargs["json"] |= NO_TRUNCATION
        return super()._request(cls, *args, **kwargs)


class Ollama(RemoteEngine):
    """A model on a server with Ollama's protocol (github.com/ollama/ollama/blob/main/docs/api.md).

    `load` makes the server load the model, and `close` makes it unload the model.

    Ollama 0.12.6 and later, and the course's server, refuse a prompt that is too long. Older versions drop
    turns silently, so that `load` refuses them. An Ollama built from source reports no version; its token
    counts reveal a truncated text, which fills the context, but not dropped turns.
    """

    driver = "ollama"
    supported_fields, capabilities = SUPPORTED_FIELDS["ollama"], CAPABILITIES["ollama"]
    default_batch_size = 4  # without OLLAMA_NUM_PARALLEL, Ollama queues requests and answers one at a time
    url_variable, token_variable = "OLLAMA_HOST", "OLLAMA_API_KEY"
    default_url = "http://127.0.0.1:11434"
    start_fix = "ollama serve   (or: course serve), or correct source.url or OLLAMA_HOST"
    address_fix = "export OLLAMA_HOST=http://127.0.0.1:11434   (an address without a path), or source.url"

    def __init__(self, spec: ModelSpec, source: ServerSource, address: str, token: str | None) -> None:
        super().__init__(spec, source, address, token)
        self._client = Client(address, **http_client.client_options(address, token))
        self._parameters = 0
        self._modelfile: dict[str, list[Any]] = {}  # the options that the model's Modelfile sets
        self._thinks = self._is_course_server = False

    @property
    def parameters(self) -> int:
        return self._parameters

    @classmethod
    def _complete_url(cls, url: str) -> str:
        """Add the scheme, the host or the port that OLLAMA_HOST may lack, and replace 0.0.0.0."""
        return url.replace("://0.0.0.0", "://127.0.0.1") if "://" in url else http_client.ollama_address(url)

    def close(self) -> None:
        if not self._is_closed() and self.context:
            with contextlib.suppress(CourseError), self._wrap_errors():  # the server may have stopped
                self._keep_loaded(0)
        super().close()

    def _disconnect(self) -> None:
        self._client.close()
        super()._disconnect()

    # -- loading ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._check_version()
        try:
            info = self._client.show(self.model)
        except ollama.ResponseError as error:
            if error.status_code != 404:
                raise
            names = [m.model or "" for m in self._client.list().models]
            fix = f"ollama pull {self.model}   (or use a listed model)"
            raise self._missing_model_error(names, fix) from error
        self._check_task(info.capabilities)
        metadata = info.modelinfo or {}
        self._parameters = int(metadata.get("general.parameter_count") or 0)
        self._modelfile = modelfile_options(info.parameters or "")
        self._thinks = "thinking" in (info.capabilities or [])
        maximum = metadata.get(f"{metadata.get('general.architecture')}.context_length")
        if maximum and self.spec.context_length:
            context_length(self.spec, int(maximum))  # raises; Ollama accepts more than a model can read
        # Load the model now, so that errors show here and the first answer takes no longer than the others.
        self._keep_loaded(self.spec.keep_alive or LOADING_SECONDS)
        self.context = self._current_context()

    def _check_version(self) -> None:
        """Raise CourseError for an Ollama that cannot refuse long prompts."""
        response = self._http.get("/api/version")
        response.raise_for_status()
        info = response.json()
        version = info["version"]
        self._is_course_server = "server" in info  # the course's server reports its name; it never truncates
        match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
        numbers = tuple(map(int, match.groups())) if match else (0, 0, 0)  # (0, 0, 0): built from source
        if not self._is_course_server and (0, 0, 0) < numbers < MINIMUM_VERSION:
            raise CourseError(
                f"Ollama {version} truncates long prompts silently; 0.12.6 and later can refuse them",
                "update Ollama: https://ollama.com/download",
            )

    def _check_task(self, capabilities: list[str] | None) -> None:
        """Raise CourseError if the server says that the model does not support the task."""
        needed = "embedding" if self.spec.task == "text-embedding" else "completion"
        if capabilities and needed not in capabilities:
            supported = ", ".join(capabilities)
            what = f"{self.model} supports {supported}, but the task {self.spec.task} needs {needed}"
            raise CourseError(what, "choose another model, or another task")

    def _keep_loaded(self, seconds: float) -> None:
        """Make the server load the model and keep it until it is unused for `seconds`; 0 unloads it."""
        options = {"num_ctx": self.spec.context_length} if self.spec.context_length else {}
        if self.spec.task == "text-embedding":
            self._client.embed(self.model, ".", truncate=False, options=options, keep_alive=seconds)
        else:
            self._client.generate(self.model, prompt="", options=options, keep_alive=seconds)

    def _current_context(self) -> int:
        """The specification's context length, or the server's, which depends on its settings and memory.

        Raises CourseError if the server gives less than the specification asks for, or reports none.
        """
        names = {self.model, f"{self.model}:latest"}
        loaded = self._client.ps().models
        actual = next((m.context_length for m in loaded if names & {m.model, m.name}), None)
        requested = self.spec.context_length
        if requested and actual and actual < requested:
            what = f"context_length={requested}, but {self.address} gives {self.model} {actual}"
            raise CourseError(what, f"load(..., context_length={actual})")
        if not requested and not actual:
            what = f"{self.address} does not report the context length of {self.model}"
            raise CourseError(what, "load(..., context_length=4096)")
        return requested or actual or 0

    # -- answers ------------------------------------------------------------------------------------------

    def _ask(self, prompt: Prompt, options: Generation, stream: bool) -> Any:
        sampling: dict[str, Any] = {k: v for k, v in NEUTRAL.items() if k in self._modelfile} | {
            "num_ctx": self.context,
            "num_predict": options.max_output_length,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k,
            "repeat_penalty": options.repetition_penalty,
            "seed": options.seed,
        }
        if options.stop:  # the request's list replaces the Modelfile's, which ends a turn
            sampling["stop"] = [*self._modelfile.get("stop", []), *options.stop]
        if options.repetition_penalty != 1 and not self._is_course_server:
            sampling["repeat_last_n"] = -1  # all tokens, as on the course's server; Ollama's default is 64
        request: dict[str, Any] = {
            "options": sampling,
            "format": options.json_schema,
            "keep_alive": self.spec.keep_alive,
            "stream": stream,
            "think": False if self._thinks else None,
        }
        if not isinstance(prompt, str):
            return self._client.chat(self.model, [dict(turn) for turn in prompt], **request)
        if not prompt:
            what = "the prompt is empty: Ollama would load the model and generate nothing"
            raise CourseError(what, "use a text with at least one character")
        return self._client.generate(self.model, prompt, raw=True, **request)

    def _answer(self, prompt: Prompt, options: Generation) -> tuple[str, Usage]:
        text, usage = text_and_usage(self._ask(prompt, options, stream=False))
        if usage is None:
            raise self._broken_answer_error(f"the answer of {self.address} is incomplete")
        return text, usage

    def _chunks(self, prompt: Prompt, options: Generation) -> Chunks:
        with contextlib.closing(self._ask(prompt, options, stream=True)) as responses:
            for response in responses:
                yield text_and_usage(response)

    def _vectors(self, texts: list[str]) -> Any:
        options: dict[str, Any] = {"options": {"num_ctx": self.context}, "keep_alive": self.spec.keep_alive}
        return self._client.embed(self.model, texts, truncate=False, **options).embeddings

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        with super()._wrap_errors():
            try:
                yield
            except ollama.ResponseError as error:
                body = error.error if isinstance(error.error, str) else json.dumps(error.error)
                raise self._status_error(error.status_code, body) from error


def text_and_usage(response: ollama.ChatResponse | ollama.GenerateResponse) -> tuple[str, Usage | None]:
    """The text of an answer or of one of its chunks, and the Usage if it is the last chunk."""
    text = response.message.content if isinstance(response, ollama.ChatResponse) else response.response
    usage = (response.prompt_eval_count, response.eval_count, response.done_reason) if response.done else None
    return text or "", usage


def modelfile_options(parameters: str) -> dict[str, list[Any]]:
    """Parse the options of a Modelfile from /api/show: each line is a name and a value, strings in quotes.

    >>> modelfile_options('min_p   0.1\\nstop    "<|eot_id|>"')
    {'min_p': [0.1], 'stop': ['<|eot_id|>']}
    """
    options: dict[str, list[Any]] = {}
    for name, value in re.findall(r"^(\w+)[ \t]+(.+?)[ \t]*$", parameters, re.MULTILINE):
        options.setdefault(name, []).append(
            json.loads(value) if http_client.is_json(value) else value.strip('"')
        )
    return options
