"""Convert PIL pictures to tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def from_zero(images: Sequence[Image.Image]) -> torch.Tensor:
    """RGB pictures of one size as (n, 3, height, width), from 0 to 1."""
    return _values(images) / 255


def from_minus_one(images: Sequence[Image.Image]) -> torch.Tensor:
    """RGB pictures of one size as (n, 3, height, width), from -1 to 1."""
    return _values(images) / 127.5 - 1


def _values(images: Sequence[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float()
