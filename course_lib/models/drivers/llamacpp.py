"""The driver llamacpp: run GGUF files with llama.cpp; other models are converted to GGUF.

A slot of llama.cpp computes one text; several slots compute several texts at the same time. An engine is a
loaded model. The KV cache holds the keys and values that a model has computed for earlier tokens. GGUF is the
file format of llama.cpp.
"""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
import threading
import unicodedata
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError, as_prompt
from course_lib.models.drivers.capabilities import CAPABILITIES, SUPPORTED_FIELDS
from course_lib.models.drivers.chat_template import (
    ChatTemplate,
    check_chat,
    has_chat_template,
    token_ids,
    with_bos,
)
from course_lib.models.drivers.context import check_fits, context_length, default_context
from course_lib.models.drivers.engine import Engine, Unsupported
from course_lib.models.drivers.fields import with_driver
from course_lib.models.drivers.http_client import map_concurrently
from course_lib.models.drivers.json_answers import bounded
from course_lib.models.drivers.llamacpp_files import adapter_files, model_file, weight_type
from course_lib.models.drivers.recommended import recommended_options
from course_lib.models.drivers.reply import FinishReason, Prompt, Reply
from course_lib.models.drivers.streaming import INCOMPLETE, whole_characters
from course_lib.models.files.resolution import resolve
from course_lib.models.gguf.header import control_tokens
from course_lib.models.gguf.inputs import InputFormat, input_format
from course_lib.models.gguf.llamacpp_server import LlamaServer, PrivateFolder
from course_lib.models.schema.generation import Generation
from course_lib.models.schema.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The samplers in transformers' order. Others, which a GGUF file may recommend, are left out.
SAMPLERS = ["penalties", "temperature", "top_k", "top_p"]
# Samplers for greedy decoding, which always takes the most likely token (top_k 1); others would sort or sum
# the whole vocabulary for each token.
GREEDY = [
    "penalties",
    "top_k",
]
CHECKED_TOKENS = 8  # the number of generated tokens, to see whether llama.cpp enforces a schema
MAX_CHECKED_SCHEMAS = 256  # that are remembered, by their SHA-256


class LlamaCpp(Engine):
    """A model in llama.cpp (github.com/ggml-org/llama.cpp).

    A small model runs as several instances with one thread each, to use all cores. If batch_size is greater
    than the number of cores, an instance computes several texts together. This rounds differently, so that a
    sampled text can differ from the text for the same seed alone (observed at temperature 1.5 in a batch of
    3).

    server: the process with the model. file: the GGUF file.
    """

    driver = "llamacpp"
    supported_fields, capabilities = SUPPORTED_FIELDS["llamacpp"], CAPABILITIES["llamacpp"]
    shown = (*Engine.shown, "slots", "cache_bytes", "threads")

    def __init__(self, spec: ModelSpec, server: LlamaServer, file: Path, text_input: InputFormat) -> None:
        super().__init__(spec, server.context)
        self.server, self.file = server, file
        self.slots, self.threads, self.process_id = server.slots, server.threads, server.process_id
        self.longest_context, self._template, self._composes = text_input
        self._meta = server.meta  # llama.cpp's data about the model, such as its number of weights
        self._enforced: dict[bytes, None] = {}  # SHA-256 of schemas that check_schema accepted
        self._checking = threading.Lock()  # one schema at a time: llama.cpp serves no other text meanwhile

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load a .gguf file, or convert a model folder to GGUF with the spec's precision or quantization.

        Raises CourseError for a missing or damaged model, if llama.cpp cannot load it, and for a device that
        it does not find; Unsupported for a precision or quantization that a .gguf file does not have.
        """
        if len(spec.adapters) > 1 and spec.combination_type != "cat":
            what = f"combination_type={spec.combination_type!r}: llama.cpp can only add adapters up"
            raise Unsupported(what, "leave combination_type out: the sum is exact")
        source, wanted = resolve(spec.source), weight_type(spec)
        if spec.task == "chat-completion":
            check_chat(spec.name, has_chat_template(source))
        scratch = PrivateFolder()
        file = model_file(source, wanted, Path(scratch.name))
        adapters = adapter_files(spec, source, Path(scratch.name))
        text_input = input_format(file)
        context = context_length(spec, text_input.context, default_context(spec, file))
        engine = cls(spec, LlamaServer(spec, file, context, adapters, scratch), file, text_input)
        engine.recommended = recommended_options(source)
        if file == source and (spec.quantization, spec.precision) != ("none", "auto"):
            engine._check_weight_type(wanted)
        return engine

    def _check_weight_type(self, expected: str) -> None:
        """Close the engine and raise Unsupported if the weights have another GGUF type."""
        actual = self._meta["ftype"].split()[-1].lower()
        if actual != expected:
            self.close()
            what = f"{self.file.name} holds weights of type {actual}, not {expected}"
            raise Unsupported(what, "leave precision and quantization out, or name a file of that type")

    @property
    def parameters(self) -> int:
        return int(self._meta["n_params"])

    @property
    def weight_bytes(self) -> int:
        return int(self._meta["size"])

    @functools.cached_property
    def cache_bytes(self) -> int | None:
        """The bytes of the KV caches of all slots; None for an architecture unknown to models/planner."""
        from course_lib.models.planner import plan

        try:
            return plan(self.file, context=self.context, batch=self.slots, driver="llamacpp").kv
        except CourseError:
            return None

    def close(self) -> None:
        self.server.close()

    def _is_closed(self) -> bool:
        return self.server.closed

    # -- tokens -------------------------------------------------------------------------------------------

    def ids(self, prompt: Prompt) -> list[int]:
        """The token ids of a conversation up to the beginning of the answer, or of a text."""
        return self._all_ids([as_prompt(prompt, "prompt")])[0]

    def _all_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The token ids of each prompt, by one request, unless a turn contains a name such as <|im_end|>."""
        parts = [self._parts(p) for p in prompts]
        if all(len(p) == 1 for p in parts):
            rows = self._tokenize([p[0] for p in parts])
        else:
            rows = [token_ids(p, self._tokenize) for p in parts]
        return [with_bos(row, self.server.added_ids[0]) for row in rows]

    def _parts(self, prompt: Prompt) -> list[str]:
        """What the model reads: a text as it is, or what `ChatTemplate.render` writes of a conversation."""
        return [prompt] if isinstance(prompt, str) else self._chat_template.render(prompt)

    def _composed(self, text: str) -> str:
        """The text in Unicode's form NFC, if the model's tokenizer composes letters: llama.cpp does not."""
        return unicodedata.normalize("NFC", text) if self._composes else text

    @functools.cached_property
    def _chat_template(self) -> ChatTemplate:
        check_chat(self.name, self._template is not None)
        variables = {name: self.server.props[name] for name in ("bos_token", "eos_token")}
        return ChatTemplate(str(self._template), self.name, variables, control_tokens(self.file))

    def _tokenize(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """The token ids of each text. special: whether "<s>" in a text, for example, becomes that token."""
        return self.server.tokenize([self._composed(text) for text in texts], special)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.ids(self._prompt(prompt)))

    # -- answers ------------------------------------------------------------------------------------------

    def _request(self, ids: list[int], options: Generation) -> dict[str, Any]:
        """The request to complete a prompt of token ids. Raises CourseError if the answer does not fit."""
        if options.min_output_length not in (0, options.max_output_length):
            what = f"min_output_length={options.min_output_length}: llama.cpp supports 0 or max_output_length"
            raise Unsupported(what, with_driver(self.spec, "huggingface"))
        check_fits(self.name, len(ids) + options.max_output_length, self.context, self.longest_context)
        request = {
            "prompt": ids,
            "n_predict": options.max_output_length,
            "ignore_eos": options.min_output_length > 0,
            "cache_prompt": False,
            "samplers": SAMPLERS if options.temperature else GREEDY,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k if options.temperature else 1,
            "min_p": 0.0,
            "seed": options.seed,
            "repeat_penalty": options.repetition_penalty,
            "repeat_last_n": self.context,
            "stop": list(options.stop),
        }
        if options.json_schema is None:
            return request
        self.check_schema(options.json_schema)
        return request | {"json_schema": bounded(options.json_schema)}

    def check_schema(self, schema: dict[str, Any], stop: threading.Event | None = None) -> None:
        """Raise Unsupported for a JSON schema that llama.cpp does not enforce: it only logs a warning.

        stop: Setting it ends the check with a CancelledError. The check generates a few tokens with a large
        bias towards the line break, which `bounded` allows nowhere: it may drop a schema later than at the
        first token. A mark in the schema distinguishes its log message from messages of other requests.
        """
        key = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).digest()
        with self._checking:
            if key not in self._enforced:
                self._check_enforced(schema, stop)
                self._enforced[key] = None
                if len(self._enforced) > MAX_CHECKED_SCHEMAS:
                    self._enforced.pop(next(iter(self._enforced)), None)

    def _check_enforced(self, schema: dict[str, Any], stop: threading.Event | None) -> None:
        mark = secrets.token_hex()
        line_break = self._tokenize(["\n"])[0][-1]
        request = {
            "prompt": [line_break],
            "n_predict": CHECKED_TOKENS,
            "temperature": 0.0,
            "logit_bias": [[line_break, 100.0]],
            "json_schema": {"$comment": mark} | bounded({**schema, "$comment": mark}),
        }
        try:
            enforced = "\n" not in self._completion(request, stop)["choices"][0]["text"]
        except (TypeError, RuntimeError, CourseError) as error:
            raise Unsupported(f"llama.cpp cannot read this JSON schema: {error}", "fix the schema") from error
        if not enforced:
            reason = self.server.error_with(mark, "JSON schema: ") or "it is too large, or contradicts itself"
            what = f"llama.cpp does not enforce this JSON schema: {reason}"
            raise Unsupported(what, "leave that part of the schema out")

    def _completion(self, request: dict[str, Any], stop: threading.Event | None = None) -> Any:
        """llama.cpp's response; setting `stop` ends the request with a CancelledError."""
        self._check_open()
        return self.server.request("/v1/completions", request, stop)

    def _reply(self, request: dict[str, Any]) -> Reply:
        response = self._completion(request)
        choice = response["choices"][0]
        return self._finished(choice["text"].rstrip(INCOMPLETE), choice["finish_reason"], response["usage"])

    def _finished(self, text: str, reason: str, usage: dict[str, int]) -> Reply:
        finish_reason: FinishReason = "stop" if reason == "stop" else "length"
        text = text.strip() if self.spec.task == "chat-completion" else text
        return Reply(text, usage["prompt_tokens"], usage["completion_tokens"], finish_reason)

    def _generate(self, prompts: list[Prompt], options: Generation, batch_size: int | None) -> list[Reply]:
        requests = [self._request(ids, options) for ids in self._all_ids(prompts)]  # checks all of them
        return map_concurrently(self._reply, requests, min(batch_size or self.default_batch_size, self.slots))

    def _stream(self, prompt: Prompt, options: Generation) -> Generator[str, None, Reply]:
        return self._pieces(self._request(self.ids(prompt), options))

    def _pieces(self, request: dict[str, Any]) -> Generator[str, None, Reply]:
        """Yield the pieces of the answer to a request, and return the whole answer."""
        answer, reason, usage = "", "length", dict[str, int]()

        def texts() -> Iterator[str]:
            nonlocal reason
            usage_at_end = {"stream_options": {"include_usage": True}}
            for event in self.server.stream("/v1/completions", request | usage_at_end):
                usage.update(event.get("usage") or {})
                for choice in event["choices"]:
                    reason = choice["finish_reason"] or reason
                    yield choice["text"]

        for piece in whole_characters(texts()):
            answer += piece
            yield piece
        return self._finished(answer, reason, usage)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        if not texts:
            return np.zeros((0, self._meta["n_embd"]), dtype=np.float32)
        if "" in texts:
            what = f"texts[{texts.index('')}] of {len(texts)} is empty: llama.cpp cannot embed it"
            raise InputError(what, "leave empty texts out")
        longest = max(map(len, self._tokenize(texts, special=False))) + 1
        check_fits(self.name, longest, self.context, self.longest_context)
        rows = self.server.request("/v1/embeddings", {"input": texts})["data"]
        vectors = np.array([r["embedding"] for r in sorted(rows, key=lambda r: r["index"])], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
