"""docs/scale-out.md: its sums are those of the planner, its Python is that of Ray and of the course."""

import ast
import re

import pytest

from course_lib.data import ROOT
from course_lib.models.planner import GIB, plan
from course_lib.models.planner.gpus import GPUS
from course_lib.models.planner.lookup import architecture
from course_lib.ray_connection import INSTALL

PAGE = (ROOT / "docs" / "scale-out.md").read_text("utf-8")
GPU_COUNT, SHARE, RESERVED = (
    4,
    0.9,
    2 * GIB,
)  # vLLM's --gpu-memory-utilization; its buffers, as the page assumes
CHOICES = [
    ("Llama-3.1-8B", "bfloat16", 1),
    ("Llama-3.3-70B", "bfloat16", 4),
    ("Llama-3.3-70B", "bfloat16", 2),
    ("Llama-3.3-70B", "int8", 2),
    ("Llama-3.3-70B", "nf4", 1),
]


def row(model: str, weight_format: str, parallel: int) -> str:
    """A line of the page's table: one way to use four A100 of 80 GB."""
    planned = plan(model, weight_format, 4096)
    weights = (planned.weights + planned.embeddings + planned.norms) / parallel
    per_token = planned.kv / planned.context / parallel
    tokens = int((GPUS["A100, 80 GB"] * 2**20 * SHARE - RESERVED - weights) / per_token)
    replicas = GPU_COUNT // parallel
    cells = [
        model,
        weight_format,
        parallel,
        replicas,
        f"{weights / GIB:.1f} GiB",
        f"{per_token / 1024:.0f} KiB",
    ]
    cells += [f"{tokens:,}", f"{replicas * (tokens // 4096):,}"]
    return "| " + " | ".join(map(str, cells)) + " |"


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: f"{c[0]}-{c[1]}")
def test_the_sums_of_four_a100_are_the_planners(choice):
    assert row(*choice) in PAGE.splitlines()
    assert architecture(choice[0]).kv_heads % choice[2] == 0, "each GPU needs whole heads"


def test_the_table_has_no_other_rows():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (Llama|Qwen|EXAONE)", line)]
    assert len(rows) == len(CHOICES)


def test_the_pages_code_is_python_and_its_command_installs_ray():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        ast.parse(block)
    assert INSTALL in PAGE
