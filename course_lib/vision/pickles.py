"""Convert a pickle of weights to a .safetensors file without running code from it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_file
from course_lib.errors import CourseError
from course_lib.models.drivers.pretrained import library_errors, one_line

NAMES = {  # file name in a model folder -> the name of its .safetensors file; other names keep their stem
    "pytorch_model.bin": "model.safetensors",
    "diffusion_pytorch_model.bin": "diffusion_pytorch_model.safetensors",
}
# Keys under which training scripts store tensors, best first ("ema": averaged over the training).
NESTED = (
    "params_ema",
    "params",
    "state_dict",
    "model",
)
FIX = "get the author's .safetensors file"


def to_safetensors(path: Path | str) -> Path:
    """Write the tensors of a .pth, .pt, .ckpt or .bin file to a .safetensors file; return its path.

    torch reads the file with `weights_only=True`, which creates tensors and plain values but no other
    objects. Raises CourseError if the file cannot be read, needs other objects, has no tensors, or has
    tensors in a part that is not read or that a .safetensors file cannot hold.
    """
    import torch
    from safetensors.torch import save_file

    path = Path(path).expanduser()
    if not path.is_file():
        raise CourseError(f"{path} is no file", "give the path of a .pth, .pt, .ckpt or .bin file")
    target = path.with_name(NAMES.get(path.name, f"{path.stem}.safetensors"))
    if target.exists():
        raise CourseError(f"{target} already exists", f'load("{target}", ...)')
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        # torch's own advice, to load the file without `weights_only`, would run the code in it.
        needs = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it needs {needs[1]}" if needs else one_line(error).split(". ")[0]
        what = f"{path.name} holds more than tensors, or is damaged: {why}"
        raise CourseError(what, FIX) from error
    for name in NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    found = content if isinstance(content, dict) else {}
    if left_out := next((name for name, value in found.items() if _holds_tensors(value)), None):
        what = f"{path.name} has tensors inside {left_out!r}; read are those at the top, or inside "
        raise CourseError(what + ", ".join(NESTED), FIX)
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CourseError(f"{path.name} has no tensors by name", FIX)
    with library_errors(f"{path.name} has a tensor that a .safetensors file cannot hold", FIX):
        kept = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
        with atomic_file(target) as partial:
            save_file(kept, partial, metadata={"format": "pt"})
    return target


def _holds_tensors(value: Any) -> bool:
    """Whether a value is a list or a dict with a tensor in it."""
    import torch

    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(isinstance(item, torch.Tensor) or _holds_tensors(item) for item in inner)
