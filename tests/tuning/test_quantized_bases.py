"""An adapter is trained beside weights that stay packed in four bits (QLoRA), and loads beside them."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.tuning.dataset import tokenize
from tests.tuning.conftest import VALIDATION, mean_loss


@pytest.mark.parametrize("quantization", ["nf4", "fp4"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_adapter_learns_beside_packed_weights_and_loads_beside_them(tiny, short, quantization, precision):
    base = {"source": str(tiny), "quantization": quantization}
    result = short(base=base, precision=precision, validation=VALIDATION, steps=20, learning_rate=3e-2)
    assert result.losses[-1] < 0.8 * result.losses[0]
    engine, dataset = (
        load(base, precision=precision, adapters=[result.folder]),
        tokenize(load(tiny), VALIDATION, 2048),
    )
    assert engine.weight_bytes < load(tiny, precision=precision).weight_bytes
    with torch.no_grad():
        loss = float(mean_loss(engine.model, dataset))
    assert loss == pytest.approx(
        result.validation[result.best_step], rel=1e-4 if precision == "float32" else 0.05
    )
    assert (
        short(base=base, precision=precision, validation=VALIDATION, steps=20, learning_rate=3e-2) == result
    )
    with pytest.raises(CourseError, match=f"quantization='{quantization}', not 'none'"):
        short(precision=precision, validation=VALIDATION, steps=20, learning_rate=3e-2)
