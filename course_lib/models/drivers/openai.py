"""The driver openai: use models on a server with OpenAI's protocol, such as vLLM or llama.cpp's server.

TGI is Hugging Face's server Text Generation Inference.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers.capabilities import CAPABILITIES, SUPPORTED_FIELDS
from course_lib.models.drivers.engine import Unsupported
from course_lib.models.drivers.http_client import is_json
from course_lib.models.drivers.remote import Chunks, RemoteEngine, Usage
from course_lib.models.drivers.reply import Prompt
from course_lib.models.schema.generation import Generation

# Sampling options that OpenAI's protocol lacks, by the server's name (`owned_by` in /v1/models). Each of
# these servers has other defaults; with these values it samples like the other drivers.
NEUTRAL: dict[str, dict[str, float]] = {
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
}


class OpenAI(RemoteEngine):
    """A model on a server with OpenAI's protocol (platform.openai.com/docs/api-reference).

    vLLM, TGI and llama.cpp refuse a prompt that is too long. Another server may truncate it, which its token
    counts may reveal.
    """

    driver = "openai"
    supported_fields, capabilities = SUPPORTED_FIELDS["openai"], CAPABILITIES["openai"]
    default_batch_size = 8
    url_variable, token_variable = "OPENAI_BASE_URL", "OPENAI_API_KEY"
    start_fix = "course serve   (or: vllm serve NAME; llama-server -m FILE), or correct source.url"
    address_fix = "export OPENAI_BASE_URL=http://127.0.0.1:8000/v1   (the address up to /v1), or source.url"
    _model_info: dict[str, Any]  # the model's entry in /v1/models

    @property
    def parameters(self) -> int:
        # 0 if unknown: only llama.cpp reports it.
        return int((self._model_info.get("meta") or {}).get("n_params") or 0)

    def _connect(self) -> None:
        models = self._models()
        names = (self.model, f"{self.model}:latest")  # Ollama accepts a name without its tag
        matches = [m for m in models if m["id"] in names or self.model in (m.get("aliases") or [])]
        if not matches:
            fix = "use a listed model, or start the server with this model"
            raise self._missing_model_error([m["id"] for m in models], fix)
        self._model_info = matches[0]
        if self._model_info.get("owned_by") not in NEUTRAL:  # Ollama writes the model's owner there
            self._check_ollama()
        meta = self._model_info.get("meta") or {}
        context = self._model_info.get("max_model_len") or meta.get("n_ctx")  # in vLLM, in llama.cpp
        self.context = context if isinstance(context, int) else 0  # 0: the server does not report it

    def _models(self) -> list[dict[str, Any]]:
        """The server's models. Raises CourseError if they are at /v1/models, and the address lacks /v1."""
        response = self._http.get("/models")
        if response.status_code == 404 and not self.address.endswith("/v1"):
            complete = f"{self.address}/v1"
            if self._http.get(f"{complete}/models").is_success:
                source = {"type": "server", "model": self.model, "url": complete}
                fix = f'load({{"source": {json.dumps(source)}, "driver": "openai"}})'
                raise CourseError(f"{self.address} has no models at /models, but at /v1/models", fix)
        response.raise_for_status()
        models: list[dict[str, Any]] = response.json()["data"]
        return models

    def _check_ollama(self) -> None:
        """Raise CourseError if the server is Ollama, which truncates long prompts under this protocol.

        Raises Unsupported for the task text-generation on the course's own server.
        """
        import httpx

        response = self._http.get(httpx.URL(self.address).join("/api/version"))
        version = response.json() if response.is_success and is_json(response.text) else {}
        fix = 'load(..., driver="ollama"), with an address without /v1'
        if "version" in version and "server" not in version:  # the course's server reports "server"
            what = f"{self.address} is Ollama, which truncates long prompts silently under this protocol"
            raise CourseError(what, fix)
        if "version" in version and self.spec.task == "text-generation":
            what = f"{self.address} treats a text as a turn of a conversation, and does not continue it"
            raise Unsupported(what, fix)

    def _completion_request(self, prompt: Prompt, options: Generation) -> tuple[str, dict[str, Any]]:
        """The path and body of a request: /completions for a text, /chat/completions for turns."""
        body = NEUTRAL.get(str(self._model_info.get("owned_by")), {}) | {
            "model": self.model,
            "max_tokens": options.max_output_length,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
        }
        if options.stop:
            body["stop"] = list(options.stop)
        if isinstance(prompt, str):
            if options.json_schema is not None:  # llama.cpp ignores it in /completions
                what = "json_schema: OpenAI's protocol supports it for conversations only"
                raise Unsupported(what, 'load(..., task="chat-completion")')
            return "/completions", body | {"prompt": prompt}
        if options.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": options.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return "/chat/completions", body | {"messages": [dict(turn) for turn in prompt]}

    def _answer(self, prompt: Prompt, options: Generation) -> tuple[str, Usage]:
        response = self._request("POST", *self._completion_request(prompt, options))
        choice = response["choices"][0]
        text = choice["text"] if isinstance(prompt, str) else choice["message"].get("content")
        return text or "", _usage(response.get("usage") or {}, choice["finish_reason"])

    def _chunks(self, prompt: Prompt, options: Generation) -> Chunks:
        path, body = self._completion_request(prompt, options)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        usage: dict[str, Any] = {}
        finish_reason: object = None
        with closing(self._events(path, body)) as events:
            for event in events:
                usage = event.get("usage") or usage
                for choice in event["choices"]:
                    finish_reason = choice.get("finish_reason") or finish_reason
                    text = choice.get("text") if isinstance(prompt, str) else choice["delta"].get("content")
                    yield text or "", None
        if finish_reason is not None:
            yield "", _usage(usage, finish_reason)

    def _vectors(self, texts: list[str]) -> Any:
        rows = self._request("POST", "/embeddings", {"model": self.model, "input": texts})["data"]
        return [row["embedding"] for row in sorted(rows, key=lambda row: row["index"])]


def _usage(usage: dict[str, Any], finish_reason: object) -> Usage:
    return usage.get("prompt_tokens"), usage.get("completion_tokens"), finish_reason
