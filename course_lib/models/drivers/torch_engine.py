"""`TorchEngine`, the base class for transformers' language models and encoders: sizes, saving and closing.

An encoder reads a text and gives vectors or labels, but generates no text. Quantized weights are codes of a
few bits, which scales (factors) turn into weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from course_lib.atomic import atomic_folder
from course_lib.errors import CourseError
from course_lib.models.drivers import bitsandbytes_weights
from course_lib.models.drivers.adapter_merging import merged_copy
from course_lib.models.drivers.arguments import as_folder
from course_lib.models.drivers.capabilities import CAPABILITIES, SUPPORTED_FIELDS
from course_lib.models.drivers.engine import Engine
from course_lib.quiet import quiet

# Tokens in a batch, padding included: small enough for the cache of a CPU, large enough to keep a GPU busy.
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 2048, 65536


class TorchEngine(Engine):
    """A transformers model in this process.

    sidecar_files: files that `save` writes and save_pretrained does not; name -> content.
    """

    driver = "huggingface"
    supported_fields, capabilities = SUPPORTED_FIELDS["huggingface"], CAPABILITIES["huggingface"]
    model: Any
    tokenizer: Any
    sidecar_files: Mapping[str, bytes] = MappingProxyType({})

    @property
    def parameters(self) -> int:
        weights = (p for name, p in self.model.named_parameters() if ".lora_" not in name)
        return sum(map(bitsandbytes_weights.weight_count, weights))

    @property
    def weight_bytes(self) -> int:
        from course_lib.models.planner.memory import memory_footprint

        return memory_footprint(self.model)

    @property
    def device(self) -> str:
        return str(self.model.device.type)

    @property
    def batch_tokens(self) -> int:
        """The tokens that a batch may have, padding included."""
        return CPU_BATCH_TOKENS if self.device == "cpu" else GPU_BATCH_TOKENS

    def save(self, folder: Path | str) -> Path:
        """Write model and tokenizer to a new folder. Loaded from there, the model gives the same answers.

        Returns the folder. Raises CourseError if it exists or cannot be written, and for 4-bit weights whose
        scales were rounded when the model was first used (in bfloat16 on some CPUs). An interrupted `save`
        leaves no files.
        """
        from safetensors import SafetensorError

        target = as_folder(folder)
        self._check_open()
        bitsandbytes_weights.check_saveable(self.model, self.name)
        try:
            with atomic_folder(target) as partial, quiet():
                merged_copy(self.model, self.name).save_pretrained(partial)
                self.tokenizer.save_pretrained(partial)
                for name, content in self.sidecar_files.items():
                    (partial / name).parent.mkdir(exist_ok=True)
                    (partial / name).write_bytes(content)
        except (OSError, SafetensorError) as error:
            fix = "choose a writable folder on a disk with enough space"
            raise CourseError(f"{target} cannot be written: {error}", fix) from error
        return target

    def close(self) -> None:
        self.model = None

    def _is_closed(self) -> bool:
        return self.model is None


def batches(lengths: Sequence[int], max_tokens: int, max_texts: int | None = None) -> list[list[int]]:
    """Group the indices of texts into batches of similar lengths.

    lengths: The number of tokens in each text. A batch has at most `max_tokens` tokens, padding included, and
    at most `max_texts` texts. A text with more than `max_tokens` tokens is a batch by itself.

    >>> batches([10, 200, 12, 190, 11, 13], 400)
    [[0, 4, 2, 5], [3, 1]]
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[i] <= max_tokens and len(groups[-1]) != max_texts:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
