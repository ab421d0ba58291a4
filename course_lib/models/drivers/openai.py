"""Models of a server with OpenAI's protocol: vLLM, TGI, llama.cpp, `transformers serve`, the course's own."""

from __future__ import annotations

import json
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers import wire
from course_lib.models.drivers.engine import Prompt, Unsupported
from course_lib.models.drivers.served import End, Parts, Served
from course_lib.models.schema import Generation

# What these servers apply where a request is silent on it: their own defaults, or those in the model's repository.
# The protocol has no such fields, and other servers refuse them; so they go only to those who know them, and only to
# make draws follow the defaults of Generation.
NEUTRAL: dict[str, dict[str, float]] = {
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
}
OLLAMA = "library"  # the owner of its models, as Ollama says


class OpenAI(Served):
    """A model by OpenAI's protocol (platform.openai.com/docs/api-reference), as far as servers of open models share it.

    A prompt that is too long is refused by vLLM, TGI and llama.cpp. What another server cuts by a setting of its own can
    be known only where its counts show it.
    """

    driver = "openai"
    acts = frozenset({"batch_size"}) | {
        f"generation.{f}"
        for f in ("max_output_length", "temperature", "top_p", "stop", "seed", "json_schema")
    }
    at_once = 8
    variable, token_variable = "OPENAI_BASE_URL", "OPENAI_API_KEY"
    start = "course serve   (or: vllm serve NAME; llama-server -m FILE), or correct source.url"
    form = "give the address up to its version, such as http://127.0.0.1:8000/v1, as source.url or OPENAI_BASE_URL"
    _said: dict[str, Any]  # what the server says of the model

    @property
    def parameters(self) -> int:
        return int((self._said.get("meta") or {}).get("n_params") or 0)  # llama.cpp alone says it

    def _connect(self) -> None:
        models = self._ask("GET", "/models")["data"]
        found = [m for m in models if self.model == m["id"] or self.model in (m.get("aliases") or [])]
        if not found:
            raise self._no_model(
                [m["id"] for m in models], "name one that is there, or start the server with this model"
            )
        self._said = found[0]
        if self._said.get("owned_by") == OLLAMA:
            self._check_ollama()
        read = self._said.get("max_model_len") or (self._said.get("meta") or {}).get(
            "n_ctx"
        )  # vLLM, llama.cpp
        self.context = read if isinstance(read, int) else 0

    def _check_ollama(self) -> None:
        """Refuse what Ollama, and the course's server after its manner, do otherwise by this protocol than by their own."""
        import httpx

        said = self._http.get(httpx.URL(self.address).join("/api/version"))
        version = said.json() if said.is_success else {}
        if (
            "version" in version and "server" not in version
        ):  # the course's own names itself, and cuts nothing
            raise CourseError(
                f"{self.address} is Ollama, which cuts a long prompt silently when asked by this protocol",
                "use driver: ollama, and leave /v1 out of the address",
            )
        if "version" in version and self.spec.task == "text-generation":
            raise Unsupported(
                f"{self.address} takes a text for a turn of a conversation, and does not continue it",
                "use driver: ollama, and leave /v1 out of the address",
            )

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = self._http.request(method, path, json=body)
        response.raise_for_status()
        return response.json()

    def _request(self, prompt: Prompt, how: Generation) -> tuple[str, dict[str, Any]]:
        """The path and the body for a prompt."""
        body: dict[str, Any] = NEUTRAL.get(str(self._said.get("owned_by")), {}) | {
            "model": self.model,
            "max_tokens": how.max_output_length,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "seed": how.seed,
        }
        if how.stop:
            body["stop"] = list(how.stop)
        if isinstance(prompt, str):
            if how.json_schema is not None:  # llama.cpp ignores it there, without a word
                raise Unsupported(
                    "json_schema: the protocol of OpenAI has it for conversations alone",
                    "task: chat-completion",
                )
            return "/completions", body | {"prompt": prompt}
        if how.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": how.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return "/chat/completions", body | {"messages": [dict(turn) for turn in prompt]}

    def _answer(self, prompt: Prompt, how: Generation) -> tuple[str, End]:
        path, body = self._request(prompt, how)
        said = self._ask("POST", path, body)
        choice, usage = said["choices"][0], said.get("usage") or {}
        text = choice["text"] if isinstance(prompt, str) else choice["message"].get("content")
        return text or "", (
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            choice["finish_reason"],
        )

    def _parts(self, prompt: Prompt, how: Generation) -> Parts:
        path, body = self._request(prompt, how)
        why: object = None
        usage: dict[str, Any] = {}
        with self._http.stream(
            "POST", path, json=body | {"stream": True, "stream_options": {"include_usage": True}}
        ) as response:
            if not response.is_success:
                response.read()
                response.raise_for_status()
            for line in wire.lines(response.iter_bytes()):
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue  # between events, and comments that keep the connection alive
                said = json.loads(data)
                if said.get("error"):
                    raise CourseError(
                        f"{self.address} failed: {self._shown(wire.said_by(json.dumps(said)))}",
                        "see the server's log",
                    )
                usage = said.get("usage") or usage
                for choice in said["choices"]:
                    why = choice.get("finish_reason") or why
                    yield (
                        (choice.get("text") if isinstance(prompt, str) else choice["delta"].get("content"))
                        or "",
                        None,
                    )
        if why is not None:
            yield "", (usage.get("prompt_tokens"), usage.get("completion_tokens"), why)

    def _vectors(self, texts: list[str]) -> Any:
        rows = self._ask("POST", "/embeddings", {"model": self.model, "input": texts})["data"]
        return [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]
