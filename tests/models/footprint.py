"""What a loaded model holds, measured. Libraries report less: see planner/test_estimate."""

from typing import NamedTuple

from course_lib.measure import peak_memory
from course_lib.models.planner import memory_footprint


class Footprint(NamedTuple):
    """Bytes of weights with their scales, of buffers, and by how much the process grew.

    Not in `grown`: memory of other processes and of a GPU, and what this process had taken earlier.
    """

    weights: int
    buffers: int
    grown: int


def real_bytes(load):
    """Call `load`, which returns an engine or a torch model, and measure what it holds.

    A .gguf file that is mapped is resident as far as it has been read: generate in `load` to count all of it.
    """
    loaded, memory = peak_memory(load)
    model = getattr(loaded, "model", loaded)
    is_torch = hasattr(model, "buffers")
    buffers = sum({b.data_ptr(): b.nbytes for b in model.buffers()}.values()) if is_torch else 0
    weights = memory_footprint(model) if is_torch else model.weight_bytes
    return loaded, Footprint(weights, buffers, memory.after - memory.before)
