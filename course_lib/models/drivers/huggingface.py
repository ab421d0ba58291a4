"""Models in this process by transformers: causal language models here, encoders in `encoder`."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from course_lib.atomic import atomic_folder
from course_lib.errors import CourseError
from course_lib.models.drivers import adapters, packed
from course_lib.models.drivers.engine import Ability, Engine, Prompt, Reply, check_fits, context_of
from course_lib.models.drivers.pretrained import from_pretrained, tokenizer_of
from course_lib.models.drivers.quiet import quiet
from course_lib.models.files import resolve
from course_lib.models.planner.memory import memory_footprint
from course_lib.models.schema import Generation, ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GENERATION = frozenset(f"generation.{f}" for f in Generation.model_fields)
ROWS_PER_PASS = 64  # continuations scored in one pass: the cache of a prompt is held once for each


def template_ids(tokenizer: Any, turns: Sequence[Any], name: str) -> list[int]:
    """Token ids of a conversation up to where the answer begins. Raises CourseError where the model has no template."""
    if not tokenizer.chat_template:
        raise CourseError(
            f"{name} has no chat template: it is no chat model", "load it with task: text-generation"
        )
    ids: list[int] = tokenizer.apply_chat_template(
        [dict(t) for t in turns], add_generation_prompt=True, return_dict=False
    )
    return ids


class InTorch(Engine):
    """A model of transformers in this process."""

    model: Any
    tokenizer: Any
    beside: Mapping[str, Path] = MappingProxyType(
        {}
    )  # name -> file that tells what the model's own files do not

    @property
    def parameters(self) -> int:
        return sum(packed.count(p) for name, p in self.model.named_parameters() if ".lora_" not in name)

    @property
    def weight_bytes(self) -> int:
        return memory_footprint(self.model)

    @property
    def device(self) -> str:
        return str(self.model.device.type)

    def save(self, folder: Path | str) -> Path:
        """Write the model with its tokenizer as a new folder that loads again to the same answers; returns the folder.

        Raises CourseError where something lies there already, where it cannot be written, and for 4-bit weights whose scales
        their first use rounded (computing in bfloat16 on some CPUs). What is interrupted leaves nothing.
        """
        from safetensors import SafetensorError

        target = Path(folder).expanduser()
        if self.model is None:
            raise CourseError(f"{self.name} has been closed", "load it again")
        packed.check_whole(self.model, self.name)
        try:
            with atomic_folder(target) as partial, quiet():
                adapters.whole(self.model, self.name).save_pretrained(partial)
                self.tokenizer.save_pretrained(partial)
                for name, file in self.beside.items():
                    (partial / name).parent.mkdir(exist_ok=True)
                    shutil.copyfile(file, partial / name)
        except (OSError, SafetensorError) as error:
            fix = "name a folder that you can write and that has room"
            raise CourseError(f"{target} cannot be written: {error}", fix) from error
        return target

    def close(self) -> None:
        self.model = None


class HuggingFace(InTorch):
    """A causal language model with its tokenizer."""

    driver = "huggingface"
    acts = GENERATION - {"generation.json_schema"} | {
        "device",
        "device_mode",
        "precision",
        "quantization",
        "compute_dtype",
        "double_quantization",
        "batch_size",
        "adapters",
        "combination_type",
        "context_length",
    }
    can: ClassVar[frozenset[Ability]] = frozenset(
        {"generate", "stream", "score", "embed", "embed_tokens", "rerank", "classify"}
    )

    def __init__(self, spec: ModelSpec, model: Any, tokenizer: Any, context: int) -> None:
        super().__init__(spec, context)
        self.model, self.tokenizer = model, tokenizer
        self._sum_of = functools.cache(
            adapters.sha256_of_weights
        )  # once: a large model's takes as long as loading it

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Load by the task of the specification. Raises CourseError for missing or damaged files."""
        from course_lib.models.drivers.encoder import Encoder

        packed.check(spec)
        if spec.task not in ("text-generation", "chat-completion"):
            return Encoder.load(spec)
        from transformers import AutoModelForCausalLM

        folder = resolve(spec.source)
        model = from_pretrained(AutoModelForCausalLM, spec, folder)
        return cls(
            spec, model, tokenizer_of(folder), context_of(spec, int(model.config.max_position_embeddings))
        )

    def with_adapters(self, spec: ModelSpec) -> Engine:
        """An engine of the same weights with the adapters of `spec` beside them: nothing but the adapters is read or held anew.

        Both can be used at the same time; closing one does not touch the other. Raises as loading does.
        """
        some = adapters.parts(spec.adapters, resolve(spec.source), self._sum_of)
        model = adapters.applied(adapters.twin(self.model), some, spec.combination_type)
        return HuggingFace(spec, model.eval(), self.tokenizer, self.context)

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt: of the conversation up to where the answer begins, or of a text after <bos>."""
        if not isinstance(prompt, str):
            return template_ids(self.tokenizer, prompt, self.name)
        begin = self.tokenizer.bos_token_id
        return [*([] if begin is None else [begin]), *self.tokenizer.encode(prompt, add_special_tokens=False)]

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.ids(self._prompt(prompt)))

    def _generate(self, prompts: list[Prompt], how: Generation, batch_size: int) -> list[Reply]:
        ids = [self.ids(p) for p in prompts]
        check_fits(self.name, max(map(len, ids)) + how.max_output_length, self.context)
        replies: list[Any] = [None] * len(ids)
        order = sorted(
            range(len(ids)), key=lambda i: len(ids[i])
        )  # like lengths share a batch: little padding
        for at in range(0, len(order), batch_size):
            chosen = order[at : at + batch_size]
            for i, new in zip(chosen, self._write([ids[i] for i in chosen], how), strict=True):
                replies[i] = self._reply(new, len(ids[i]), how)
        return replies

    def _write(self, ids: list[list[int]], how: Generation, **more: Any) -> list[list[int]]:
        """New token ids of each row, up to its end."""
        import torch

        from course_lib.models.drivers.sampling import processors

        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self._ends()[0]
        longest = max(map(len, ids))
        rows = torch.tensor([[pad] * (longest - len(row)) + row for row in ids], device=self.model.device)
        mask = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in ids], device=self.model.device
        )
        said: dict[str, Any] = {
            "max_new_tokens": how.max_output_length,
            "do_sample": False,
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "pad_token_id": pad,
            "logits_processor": processors(how, len(ids)),
        } | more
        if how.min_output_length:
            said["min_new_tokens"] = how.min_output_length
        if how.stop:
            said |= {"stop_strings": list(how.stop), "tokenizer": self.tokenizer}
        with torch.inference_mode():
            out = self.model.generate(rows, attention_mask=mask, **said)
        return [self._until_end(row) for row in out[:, longest:].tolist()]

    def _ends(self) -> list[int]:
        said = self.model.generation_config.eos_token_id
        ends = said if isinstance(said, list) else [said]
        return [e for e in [*ends, self.tokenizer.eos_token_id] if e is not None]

    def _until_end(self, row: list[int]) -> list[int]:
        ends = set(self._ends())
        at = next((i for i, t in enumerate(row) if t in ends), None)
        return row if at is None else row[: at + 1]

    def _reply(self, new: list[int], read: int, how: Generation) -> Reply:
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        cut = before_stop(text, how.stop)
        ended = cut != text or (bool(new) and new[-1] in self._ends())
        return Reply(
            cut.strip() if self.spec.task == "chat-completion" else cut,
            read,
            len(new),
            "stop" if ended else "length",
        )

    def _stream(self, prompt: Prompt, how: Generation) -> Iterator[str]:
        from course_lib.models.drivers.streaming import streamed

        ids = self.ids(prompt)
        check_fits(self.name, len(ids) + how.max_output_length, self.context)
        pieces = streamed(self.tokenizer, lambda **more: self._write([ids], how, **more))
        return (p for p in without_stops(pieces, how.stop) if p)

    def _score(self, prompts: list[Prompt], continuations: list[str]) -> NDArray[np.float64]:
        from course_lib.models.drivers.scoring import score

        ids = [self.ids(p) for p in prompts]
        tails = [self.tokenizer.encode(c, add_special_tokens=False) for c in continuations]
        check_fits(self.name, max(map(len, ids), default=0) + max(map(len, tails), default=0), self.context)
        return score(self.model, ids, tails, ROWS_PER_PASS)

    def _log_probabilities(self, text: str) -> list[float]:
        from course_lib.models.drivers.scoring import log_probabilities

        ids = self.ids(text)
        check_fits(self.name, len(ids), self.context)
        return log_probabilities(self.model, ids)


def before_stop(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first of `stops`."""
    return text[: min((at for s in stops if (at := text.find(s)) >= 0), default=len(text))]


def without_stops(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a stream up to the first of `stops`; what may be the beginning of one is held back."""
    held, keep = "", max(map(len, stops), default=1) - 1
    for piece in pieces:
        held += piece
        if (cut := before_stop(held, stops)) != held:
            yield cut
            return
        if len(held) > keep:
            yield held[: len(held) - keep]
            held = held[len(held) - keep :]
    yield held
