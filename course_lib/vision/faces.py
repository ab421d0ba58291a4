"""Face embeddings with transformers: the output of a vision transformer (ViT) or of a ResNet, one vector.

A ResNet is a convolutional network, which slides small filters over the picture.
"""

from __future__ import annotations

from typing import Any

from course_lib.vision.torch_model import TransformersModel


class FaceEmbedder(TransformersModel):
    """A model that gives pictures of one face similar vectors. It does not look for the face."""

    task = "face-embedding"
    capabilities = frozenset({"embed_faces"})
    auto_class = "AutoModel"

    def _embed_faces(self, pictures: list[Any], first: int) -> Any:
        import torch

        with torch.inference_mode():
            output = self.model(pixel_values=self.pixels(pictures))
        pooled = getattr(output, "pooler_output", None)
        pooled = output.last_hidden_state[:, 0] if pooled is None else pooled  # else that of the first token
        return pooled.flatten(1).float().cpu().numpy()
