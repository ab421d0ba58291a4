"""A causal language model in this process, by transformers: answers, log-probabilities, perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models import catalog


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a one-turn conversation up to where the answer begins."""
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)


def check_fits(name: str, tokens: int, context: int) -> None:
    """Raise CourseError, with the numbers, where a prompt and its answer are longer than the model reads."""
    if tokens > context:
        raise CourseError(
            f"{tokens} tokens with the answer, but {name} reads {context}",
            "give fewer or shorter passages, or a smaller max_new_tokens",
        )


class LanguageModel:
    """A loaded model with its tokenizer. Greedy unless a temperature is given."""

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name

    @classmethod
    def load(cls, name: str | Path, *, precision: str = "float32") -> LanguageModel:
        """Load a model shipped with the course by its name, or a local Hugging Face folder by its path.

        precision: float32, bfloat16 or float16. Weights are read from safetensors only.
        Raises CourseError for a missing or damaged model, ValueError for an unknown precision.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from course_lib.models.loading import quiet

        if precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"precision={precision!r}; one of float32, bfloat16, float16")
        folder = name if isinstance(name, Path) else catalog.folder_of(name)
        dtype = getattr(torch, precision)
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(model.eval(), tokenizer, folder.name)

    @property
    def parameters(self) -> int:
        """Number of weights, shared ones counted once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights take in memory, shared ones counted once."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    @property
    def context(self) -> int:
        """The longest sequence the model reads, in tokens."""
        return int(self.model.config.max_position_embeddings)

    def chat_ids(self, prompt: str) -> list[int]:
        """Token ids of a one-turn conversation up to where the answer begins."""
        return chat_ids(self.tokenizer, prompt)

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int = 48, min_new_tokens: int = 0, temperature: float = 0.0,
        seed: int = 0, batch_size: int = 16,
    ) -> list[str]:  # fmt: skip
        """Answer every prompt; prompts of like length share a batch.

        temperature 0 means greedy decoding. min_new_tokens keeps the model writing (for timing, not for answers).
        Raises CourseError, with the numbers, when a prompt and its answer do not fit into the context, ValueError for
        a negative temperature or a minimum above the maximum.
        """
        if temperature < 0 or min_new_tokens > max_new_tokens:
            raise ValueError(f"temperature={temperature}, {min_new_tokens} to {max_new_tokens} new tokens: impossible")
        ids = [self.chat_ids(p) for p in prompts]
        check_fits(self.name, max(map(len, ids), default=0) + max_new_tokens, self.context)
        how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "min_new_tokens": min_new_tokens, "do_sample": temperature > 0}
        how |= {"temperature": temperature} if temperature > 0 else {}
        answers = [""] * len(ids)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for at in range(0, len(order), batch_size):
            chosen = order[at : at + batch_size]
            for i, text in zip(chosen, self._generate([ids[i] for i in chosen], seed, how), strict=True):
                answers[i] = text
        return answers

    def _raw_ids(self, text: str) -> list[int]:
        return [self.tokenizer.bos_token_id, *self.tokenizer.encode(text, add_special_tokens=False)]

    def _generate(self, ids: list[list[int]], seed: int, how: dict[str, Any]) -> list[str]:
        import torch

        batch = self.tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
        torch.manual_seed(seed)
        with torch.inference_mode():
            out = self.model.generate(**batch, pad_token_id=self.tokenizer.pad_token_id, **how)
        new = out[:, batch["input_ids"].shape[1] :]
        return [t.strip() for t in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def log_probabilities(self, text: str) -> list[float]:
        """Natural log-probability of every token of `text`, each given all before it (the first given <|bos|>)."""
        import torch

        ids = self._raw_ids(text)
        check_fits(self.name, len(ids), self.context)
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids])).logits[0, :-1].float()
        chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])
        return chosen[:, 0].tolist()

    def perplexity(self, texts: Sequence[str]) -> float:
        """exp of the mean negative log-probability of a token over all texts (Jelinek et al. 1977).

        Only models with the same tokenizer can be compared by it. Raises ValueError for no text.
        """
        logs = [p for text in texts for p in self.log_probabilities(text)]
        if not logs:
            raise ValueError("no tokens to take the perplexity of")
        return math.exp(-sum(logs) / len(logs))
