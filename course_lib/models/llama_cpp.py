"""A shipped model in llama.cpp, in this process: the answers of `LanguageModel`, from another engine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.gguf_file import export
from course_lib.models.language_model import chat_ids, check_fits


def threads() -> int:
    """OMP_NUM_THREADS, or one: models as small as ours were slower on two, whose threads wait for each other at every step."""
    return int(os.environ.get("OMP_NUM_THREADS") or 1)


class LlamaCpp:
    """A model in llama.cpp with its tokenizer. Greedy unless a temperature is given."""

    def __init__(self, server: Any, tokenizer: Any, name: str, context: int, folder: Any) -> None:
        self.server, self.tokenizer, self.name, self.context = server, tokenizer, name, context
        self._folder = folder  # holds the file for as long as the model lives

    @classmethod
    def load(cls, name: str, *, weights: str = "f32") -> LlamaCpp:
        """Write the model as GGUF with these weights (one of gguf_file.TYPES) into a temporary folder, and load it.

        Raises CourseError for a missing or damaged model or where llama.cpp cannot load it, ValueError for unknown weights.
        """
        import xllamacpp
        from transformers import AutoTokenizer

        source = catalog.folder_of(name)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        folder = tempfile.TemporaryDirectory(prefix="course-gguf-")
        said = xllamacpp.CommonParams()
        said.model.path = str(export(source, Path(folder.name) / f"{name}.gguf", weights))
        said.n_ctx = tokenizer.model_max_length
        said.n_parallel, said.warmup, said.verbosity = 1, False, -1
        said.cpuparams.n_threads = said.cpuparams_batch.n_threads = threads()
        try:
            server = xllamacpp.Server(said)
        except RuntimeError as error:
            raise CourseError(f"llama.cpp cannot load {name}: {error}", "course doctor") from error
        return cls(server, tokenizer, name, said.n_ctx, folder)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 48,
        min_new_tokens: int = 0,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 1,
    ) -> list[str]:
        """Answer every prompt, one after the other; nothing is kept from one prompt for the next.

        batch_size: at most so many prompts are read at once; llama.cpp here reads one, whatever it is.
        temperature 0 means greedy decoding. min_new_tokens keeps the model writing: llama.cpp knows 0 and max_new_tokens.
        Raises CourseError, with the numbers, when a prompt and its answer do not fit into the context, ValueError for a
        negative temperature or another minimum.
        """
        if temperature < 0 or min_new_tokens not in (0, max_new_tokens):
            raise ValueError(f"temperature={temperature}, {min_new_tokens} to {max_new_tokens} new tokens: impossible")
        ids = [chat_ids(self.tokenizer, p) for p in prompts]
        check_fits(self.name, max(map(len, ids), default=0) + max_new_tokens, self.context)
        how = {"n_predict": max_new_tokens, "temperature": temperature, "seed": seed, "cache_prompt": False,
               "ignore_eos": min_new_tokens > 0}  # fmt: skip
        return [self._complete(how | {"prompt": one}) for one in ids]

    def _complete(self, request: dict[str, Any]) -> str:
        reply = self.server.handle_completions(request)
        if "error" in reply:
            raise CourseError(f"llama.cpp refused: {reply['error']}", "course doctor")
        return str(reply["choices"][0]["text"]).strip()
