"""Prompts with a common beginning are scored as each of them alone, whatever comes after it."""

import numpy as np
import pytest

from course_lib.models import load
from course_lib.models.drivers.scoring import _common_prefix, score

TAILS = ["account_closing", "card", "fee_dispute", ""]
COMMON = "You label messages of a bank.\n" * 5


@pytest.mark.parametrize(
    "prompts",
    [
        [
            f"{COMMON}Message: {m}\nLabel:"
            for m in ("lost card", "x", "how do I close my account please", "fee")
        ],
        [COMMON, COMMON],  # nothing but the beginning
        [COMMON, f"{COMMON}Message: fee"],  # one is the beginning of the other
        ["lost card", "Fee?"],
    ],
)
def test_together_and_alone_the_scores_are_the_same(prompts):
    model = load("haneul-300k")
    alone = np.vstack([model.score([prompt], TAILS) for prompt in prompts])
    assert np.allclose(model.score(prompts, TAILS), alone, atol=1e-3)
    assert len(set(alone[:, 0])) == len(set(prompts))


def test_a_prompt_without_a_token_is_refused():
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        score(None, [[1], []], [[2]], rows=8)


def test_the_common_beginning_leaves_a_token_of_every_prompt():
    assert _common_prefix([[1, 2, 3], [1, 2, 4]]) == [1, 2]
    assert _common_prefix([[1, 2], [1, 2], [1, 2, 3]]) == [1]
    assert _common_prefix([[1, 2, 3]]) == [] and _common_prefix([[5], [5]]) == []
