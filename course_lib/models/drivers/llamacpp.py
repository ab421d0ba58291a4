"""Models in this process by llama.cpp (github.com/ggml-org/llama.cpp): GGUF files, and Llama folders written as GGUF."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from course_lib.errors import CourseError
from course_lib.measure.hardware import usable_cores
from course_lib.models.drivers.adapters import parts
from course_lib.models.drivers.engine import (
    Ability,
    Engine,
    Prompt,
    Reply,
    Unsupported,
    check_fits,
    context_of,
)
from course_lib.models.drivers.streaming import from_thread
from course_lib.models.drivers.wire import at_once
from course_lib.models.files import resolve
from course_lib.models.gguf import cached_export
from course_lib.models.gguf import writer as gguf_file
from course_lib.models.schema import Generation, ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALL = 64_000_000  # bytes; threads of a model below wait for each other more than they compute (measured on ours)
TYPE_OF_PRECISION = {"auto": "f32", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def cores() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may use."""
    return int(os.environ.get("OMP_NUM_THREADS") or usable_cores())


class LlamaCpp(Engine):
    """A model in llama.cpp. Small ones run as several instances of one thread each, so that every core has work.

    Texts that share an instance, where batch_size is above the cores, are computed together. That rounds differently, and can
    change a sampled text from what its seed gives alone (seen at a temperature of 1.5 in a batch of 3).
    """

    driver = "llamacpp"
    acts = frozenset(
        {
            "device",
            "precision",
            "quantization",
            "context_length",
            "batch_size",
            "low_cpu_mem_usage",
            "adapters",
            "combination_type",
        }
    ) | {f"generation.{f}" for f in Generation.model_fields}
    can: ClassVar[frozenset[Ability]] = frozenset({"generate", "stream", "json_schema", "embed"})

    def __init__(self, spec: ModelSpec, servers: list[Any], file: Path, folder: Any) -> None:
        import httpx

        self.servers, self.file, self._folder = (
            servers,
            file,
            folder,
        )  # the folder holds the file while the model lives
        self._http = httpx.Client(base_url=servers[0].listening_address, timeout=60, trust_env=False)
        props = self._ask("/props")
        super().__init__(spec, int(props["default_generation_settings"]["n_ctx"]))
        self._bos, self._turn = str(props["bos_token"]), itertools.count()
        self._known: set[str] = set()  # schemas to which it was seen to hold an answer
        self.slots = int(props["total_slots"]) * len(servers)
        self._held: dict[str, Any] = self._ask("/v1/models")["data"][0]["meta"]

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load a .gguf file, or a Llama folder after writing it as GGUF with the precision or quantization asked for.

        Raises CourseError for a missing or damaged model, and where llama.cpp cannot load it; Unsupported for a task or a
        device that it does not have here, and for other weights than a file holds.
        """
        if spec.task in ("rerank", "text-classification"):
            raise Unsupported(f"the driver llamacpp has no task {spec.task}", "use driver: huggingface")
        found = resolve(spec.source)
        folder = tempfile.TemporaryDirectory(prefix="course-gguf-")
        given = found.suffix == ".gguf"
        wanted = _type(spec)
        file = found if given else cached_export(found, wanted, scratch=Path(folder.name))
        if len(spec.adapters) > 1 and spec.combination_type != "cat":
            raise Unsupported(
                f"combination_type={spec.combination_type!r}: llama.cpp adds each adapter by itself",
                "leave it out: the sum is exact",
            )
        adapters = [
            (_adapter(part.folder, found, Path(folder.name) / f"adapter-{i}.gguf"), part.weight)
            for i, part in enumerate(parts(spec.adapters, found))
        ]
        read = gguf_file.reads(found)
        context = context_of(spec, read.context)
        if spec.task == "chat-completion" and not read.chat:
            raise CourseError(
                f"{spec.name} has no chat template: it is no chat model", "load it with task: text-generation"
            )
        engine = cls(spec, _start(spec, file, context, adapters), file, folder)
        held = engine._held["ftype"].split()[-1].lower()
        if given and (spec.quantization, spec.precision) != ("none", "auto") and held != wanted:
            engine.close()
            raise Unsupported(
                f"{file.name} holds weights of type {held}, not {wanted}",
                "leave precision and quantization out, or name a file of that type",
            )
        return engine

    @property
    def parameters(self) -> int:
        return int(self._held["n_params"])

    @property
    def weight_bytes(self) -> int:
        return int(self._held["size"])

    def close(self) -> None:
        self.servers = []
        self._http.close()
        self._folder.cleanup()

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return checked((self._http.get(path) if body is None else self._http.post(path, json=body)).json())

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, by llama.cpp's own tokenizer and the template in the file."""
        if isinstance(prompt, str):
            begin = self._tokens(self._bos, special=True) if self._bos else []
            return [*begin, *self._tokens(prompt, special=False)]
        said = self._ask("/apply-template", {"messages": [dict(t) for t in prompt]})
        return self._tokens(said["prompt"], special=True)

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        found: list[int] = self._ask(
            "/tokenize", {"content": text, "add_special": False, "parse_special": special}
        )["tokens"]
        return found

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.ids(self._prompt(prompt)))

    def _request(self, prompt: Prompt, how: Generation) -> dict[str, Any]:
        if how.min_output_length not in (0, how.max_output_length):
            raise Unsupported(
                f"min_output_length={how.min_output_length}: llama.cpp knows 0 and max_output_length alone",
                "use driver: huggingface",
            )
        ids = self.ids(prompt)
        check_fits(self.name, len(ids) + how.max_output_length, self.context)
        request = {
            "prompt": ids,
            "n_predict": how.max_output_length,
            "ignore_eos": how.min_output_length > 0,
            "cache_prompt": False,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "top_k": how.top_k,
            "min_p": 0.0,
            "seed": how.seed,
            "repeat_penalty": how.repetition_penalty,
            "repeat_last_n": self.context,
            "stop": list(how.stop),
        }
        if how.json_schema is None:
            return request
        self.check_held(how.json_schema)
        return request | {"json_schema": how.json_schema}

    def check_held(self, schema: dict[str, Any]) -> None:
        """Raise Unsupported where llama.cpp would not hold an answer to `schema`: it drops such a schema without a word.

        It is asked for one token with all weight on the letter Q, with which no JSON begins: a Q shows that nothing holds it.
        """
        said = json.dumps(schema, sort_keys=True)
        if said in self._known:
            return
        letter = self._tokens("Q", special=False)
        ask = {
            "prompt": letter,
            "n_predict": 1,
            "temperature": 0.0,
            "logit_bias": [[t, 100.0] for t in letter],
        }
        try:
            free = checked(self._server().handle_completions(ask | {"json_schema": schema}))["choices"][0][
                "text"
            ].startswith("Q")
        except (TypeError, RuntimeError, CourseError) as error:
            raise Unsupported(f"no schema that llama.cpp reads: {error}", "fix the schema") from error
        if free:
            raise Unsupported(
                "llama.cpp can hold no answer to this schema: a keyword or a type that it does not know, a "
                "reference that leads nowhere, or a demand that nothing meets",
                "fix the schema",
            )
        self._known.add(said)

    def _server(self) -> Any:
        if not self.servers:
            raise CourseError(f"{self.name} has been closed", "load it again")
        return self.servers[next(self._turn) % len(self.servers)]

    def _reply(self, request: dict[str, Any]) -> Reply:
        said = checked(self._server().handle_completions(request))
        choice, usage = said["choices"][0], said["usage"]
        text = choice["text"].strip() if self.spec.task == "chat-completion" else choice["text"]
        finish: Literal["stop", "length"] = "stop" if choice["finish_reason"] == "stop" else "length"
        return Reply(text, usage["prompt_tokens"], usage["completion_tokens"], finish)

    def _generate(self, prompts: list[Prompt], how: Generation, batch_size: int) -> list[Reply]:
        requests = [self._request(p, how) for p in prompts]  # all are checked before the first is answered
        return at_once(self._reply, requests, min(batch_size, self.slots))

    def _stream(self, prompt: Prompt, how: Generation) -> Iterator[str]:
        request = self._request(prompt, how) | {"stream": True}
        server = self._server()
        return (
            piece
            for said in streamed(server.handle_completions, request)
            if (piece := said["choices"][0]["text"])
        )

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        if not texts:
            return np.zeros((0, self._held["n_embd"]), dtype=np.float32)
        if "" in texts:
            raise ValueError(f"text {texts.index('')} of {len(texts)} is empty: llama.cpp embeds none")
        longest = max(len(self._tokens(t, special=False)) + 1 for t in texts)
        check_fits(self.name, longest, self.context)
        rows = checked(self._server().handle_embeddings({"input": texts}))["data"]
        vectors = np.array([r["embedding"] for r in sorted(rows, key=lambda r: r["index"])], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def checked(reply: Any) -> Any:
    """A reply of llama.cpp, or CourseError with what it says of its error."""
    if isinstance(reply, dict) and "error" in reply:
        said = reply["error"]
        raise CourseError(
            f"llama.cpp refused: {said.get('message', said) if isinstance(said, dict) else said}",
            "course doctor",
        )
    return reply


def streamed(handle: Callable[..., Any], request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a streamed request as they come. Leaving early stops the work."""

    def work(put: Callable[[Any], None], left: threading.Event) -> None:
        def on_event(said: Any) -> bool:
            put(said)
            return left.is_set()

        try:
            handle(request, on_event)
        except Exception as error:
            put({"error": str(error)})

    for said in from_thread(work):
        yield checked(said)


def _type(spec: ModelSpec) -> str:
    if spec.quantization == "none":
        return TYPE_OF_PRECISION[spec.precision]
    if spec.precision != "auto":
        raise Unsupported(
            f"precision={spec.precision!r} beside quantization={spec.quantization!r}: weights have one type",
            "leave one of them out",
        )
    return spec.quantization


def _adapter(folder: Path, base: Path, target: Path) -> Path:
    """An adapter as GGUF: the file itself, or one written from a PEFT folder, for which the base must be a folder, too."""
    if folder.suffix == ".gguf":
        return folder
    if base.suffix == ".gguf":
        raise Unsupported(
            f"the adapter {folder.name} is in PEFT form, and {base.name} is GGUF",
            "name the adapter's .gguf file, or the base model's folder",
        )
    return gguf_file.export_adapter(folder, base, target)


def _start(spec: ModelSpec, file: Path, context: int, adapters: list[tuple[Path, float]]) -> list[Any]:
    import xllamacpp

    small = file.stat().st_size < SMALL
    slots = spec.batch_size or 1
    copies = min(cores(), slots) if small else 1
    said = xllamacpp.CommonParams()
    said.model.path = str(file)
    said.n_parallel = -(-slots // copies)
    said.n_ctx = said.n_parallel * context
    said.model_alias = {spec.name}
    said.warmup, said.verbosity, said.ui = False, -1, False
    said.cache_ram_mib = 0  # else it keeps the KV cache of every prompt it has read, up to 8 GiB (seen)
    said.embedding = spec.task == "text-embedding"
    if said.embedding:
        said.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    said.cpuparams.n_threads = said.cpuparams_batch.n_threads = 1 if small else cores()
    said.n_gpu_layers = -1 if _gpu(spec, xllamacpp) else 0
    mode = xllamacpp.llama_load_mode
    said.load_mode = {
        None: mode.LLAMA_LOAD_MODE_AUTO,
        True: mode.LLAMA_LOAD_MODE_MMAP,
        False: mode.LLAMA_LOAD_MODE_NONE,
    }[spec.low_cpu_mem_usage]
    said.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), weight) for path, weight in adapters]
    try:
        return [xllamacpp.Server(said) for _ in range(copies)]
    except RuntimeError as error:
        raise CourseError(f"llama.cpp cannot load {file.name}: {error}", "course doctor") from error


def _gpu(spec: ModelSpec, xllamacpp: Any) -> bool:
    """Whether to put the model on a GPU. Raises CourseError where one is asked for that this llama.cpp does not see."""
    there = any("GPU" in str(d["type"]) for d in xllamacpp.get_device_info())
    if spec.device in ("cuda", "mps") and not there:
        raise CourseError(f"device={spec.device!r}: this build of llama.cpp sees no GPU", "use device: auto")
    return there and spec.device != "cpu"
