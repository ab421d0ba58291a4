"""The driver tgi: continue texts by Hugging Face's server Text Generation Inference, in its own protocol."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from course_lib.models.drivers.capabilities import CAPABILITIES, SUPPORTED_FIELDS
from course_lib.models.drivers.remote import Chunks, RemoteEngine, Usage
from course_lib.models.drivers.reply import Prompt
from course_lib.models.schema.generation import Generation


class TGI(RemoteEngine):
    """A model on a TGI server (huggingface.github.io/text-generation-inference).

    /generate gets a text and continues it. TGI's chat, with the model's template, is in OpenAI's protocol:
    driver openai. TGI refuses a prompt that does not fit with its answer.
    """

    driver = "tgi"
    supported_fields, capabilities = SUPPORTED_FIELDS["tgi"], CAPABILITIES["tgi"]
    default_batch_size = 8
    url_variable, token_variable = "TGI_BASE_URL", "HF_TOKEN"
    start_fix = "course serve --engine tgi --model NAME, or correct source.url"
    address_fix = "export TGI_BASE_URL=http://127.0.0.1:8080   (an address without a path), or source.url"

    def _connect(self) -> None:
        info = self._request("GET", "/info")
        if info["model_id"] != self.model:
            raise self._missing_model_error([info["model_id"]], f"use {info['model_id']!r} as source.model")
        self.context = int(info["max_total_tokens"])

    def _body(self, prompt: Prompt, options: Generation) -> dict[str, Any]:
        """Return the request.

        It has temperature, top_p and top_k only if they are set, since each makes TGI sample.
        """
        parameters: dict[str, Any] = {
            "max_new_tokens": options.max_output_length,
            "repetition_penalty": options.repetition_penalty,
            "stop": list(options.stop),
            "details": True,
        }
        if options.temperature:
            parameters |= {"do_sample": True, "temperature": options.temperature, "seed": options.seed}
            parameters |= {"top_p": options.top_p} if options.top_p < 1 else {}
            parameters |= {"top_k": options.top_k} if options.top_k else {}
        if options.json_schema is not None:
            parameters["grammar"] = {"type": "json", "value": options.json_schema}
        return {"inputs": prompt, "parameters": parameters}

    def _answer(self, prompt: Prompt, options: Generation) -> tuple[str, Usage]:
        body = self._body(prompt, options)
        answer = self._request("POST", "/generate", body)
        prompt_tokens = len(self._request("POST", "/tokenize", {"inputs": prompt}))  # not in the answer
        details = answer["details"]
        return answer["generated_text"], (
            prompt_tokens,
            details["generated_tokens"],
            details["finish_reason"],
        )

    def _chunks(self, prompt: Prompt, options: Generation) -> Chunks:
        with closing(self._events("/generate_stream", self._body(prompt, options))) as events:
            for event in events:
                token, details = event["token"], event.get("details") or {}
                usage = (
                    (details.get("input_length"), details["generated_tokens"], details["finish_reason"])
                    if details
                    else None
                )
                yield "" if token["special"] else token["text"], usage

    def _vectors(self, texts: list[str]) -> Any:
        raise NotImplementedError  # `load` refuses the task
