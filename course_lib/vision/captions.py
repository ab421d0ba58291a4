"""Captions with transformers: by BLIP, GIT, and vit-gpt2 (a vision transformer with a text decoder)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.models.drivers.pretrained import load_tokenizer
from course_lib.vision.torch_model import TransformersModel, no_numbers


class Captioner(TransformersModel):
    """A model that describes a picture. Its decoding is greedy: it always takes the most likely token."""

    task = "image-to-text"
    capabilities = frozenset({"caption"})
    auto_class = "AutoModelForImageTextToText"

    @classmethod
    def _processors(cls, folder: Path) -> list[Any]:
        return [*super()._processors(folder), load_tokenizer(folder)]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the captions."""
        return self.parts[2]  # the last of `_processors`, behind the model's own

    @property
    def most_tokens(self) -> int:
        """The longest caption in tokens, by the decoder's positions, without the token that begins it."""
        return int(self.model.config.get_text_config(decoder=True).max_position_embeddings) - 1

    def _caption(self, pictures: list[Any], max_tokens: int | None) -> list[str]:
        import torch

        max_tokens = max_tokens or self.most_tokens
        if max_tokens > self.most_tokens:
            what = f"max_tokens is {max_tokens}, and {self.name} writes at most {self.most_tokens} tokens"
            raise CourseError(what, f"caption(images, max_tokens={self.most_tokens})")
        with torch.inference_mode():
            written = self.model.generate(
                pixel_values=self.pixels(pictures),
                max_new_tokens=max_tokens,
                do_sample=False,
                num_beams=1,
                return_dict_in_generate=True,
                output_logits=True,
            )
        if written.logits[0].isnan().any():  # such a model would silently write the vocabulary's first token
            raise no_numbers(self.name)
        texts: list[str] = self.tokenizer.batch_decode(written.sequences, skip_special_tokens=True)
        return [text.strip() for text in texts]
