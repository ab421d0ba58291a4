"""Turn a pickle of weights into a .safetensors file without running code from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_file
from course_lib.errors import CourseError
from course_lib.models.drivers.pretrained import one_line

NAMES = {
    "pytorch_model.bin": "model.safetensors",
    "diffusion_pytorch_model.bin": "diffusion_pytorch_model.safetensors",
}
NESTED = (
    "params_ema",
    "params",
    "state_dict",
    "model",
)  # what training scripts put the tensors under, best first


def to_safetensors(path: Path | str) -> Path:
    """Write the tensors of a .pth, .pt, .ckpt or .bin file beside it as .safetensors; return the new file.

    torch reads the file with `weights_only=True`, which makes tensors and plain values, and no other objects.
    Raises CourseError if the file needs other objects, has no tensors, or cannot be read.
    """
    import torch
    from safetensors.torch import save_file

    path = Path(path).expanduser()
    target = path.with_name(NAMES.get(path.name, f"{path.stem}.safetensors"))
    if target.exists():
        raise CourseError(f"{target} already exists", f'load("{target}", ...)')
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        what = f"{path.name} holds more than tensors, or is damaged: {one_line(error)}"
        raise CourseError(what, "get the author's .safetensors file") from error
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    tensors = content.items() if isinstance(content, dict) else ()
    kept = {name: t.clone().contiguous() for name, t in tensors if isinstance(t, torch.Tensor)}
    if not kept:
        raise CourseError(f"{path.name} has no tensors by name", "get the author's .safetensors file")
    with atomic_file(target) as partial:
        save_file(kept, partial, metadata={"format": "pt"})
    return target
