"""Drivers whose engines need an NVIDIA GPU in this process. The specification is read; loading says how to go on."""

from __future__ import annotations

import importlib.util
from typing import ClassVar

from course_lib.errors import CourseError
from course_lib.models.drivers.engine import Ability, Engine
from course_lib.models.schema import ModelSpec


class _GpuOnly(Engine):
    acts = frozenset()
    can: ClassVar[frozenset[Ability]] = frozenset()
    serve: ClassVar[str]

    @classmethod
    def load(cls, spec: ModelSpec) -> Engine:
        """Raises CourseError always: what is missing here, and how the model is served instead."""
        import torch

        missing = [f"the package {cls.driver}"] * (importlib.util.find_spec(cls.driver) is None)
        missing += ["an NVIDIA GPU with CUDA"] * (not torch.cuda.is_available())
        lack = f"lacks {' and '.join(missing)}" if missing else "is not driven in this process"
        raise CourseError(f"driver {cls.driver}: this machine {lack}", cls.serve.format(name=spec.name))


class Vllm(_GpuOnly):
    """vLLM is a server (docs.vllm.ai): run it where the GPU is, and use the driver openai."""

    driver = "vllm"
    serve = (
        "on the machine with the GPU: vllm serve {name} --port 8000; here: "
        "driver: openai, source: {{type: server, model: {name}, url: http://HOST:8000/v1}}"
    )


class Unsloth(_GpuOnly):
    """Unsloth is for training (docs.unsloth.ai): what it saves is a folder in Hugging Face form."""

    driver = "unsloth"
    serve = "save what Unsloth trained with save_pretrained_merged, and load that folder with driver: huggingface or llamacpp"
