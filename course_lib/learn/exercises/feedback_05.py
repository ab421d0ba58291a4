"""The checks of chapter 05: each takes an answer and returns None when it is right, else feedback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from course_lib.learn.exercises.comparing import compare, known_mistake

Array = np.ndarray[Any, Any]


def same(got: Array, wanted: Array) -> bool:
    """Whether two arrays have one shape and the same values."""
    return got.shape == wanted.shape and bool(np.allclose(got, wanted, atol=1e-6))


def _layer(n: int, inputs: int, outputs: int, r: int) -> tuple[Array, Array, Array, Array]:
    """x, W, A and B."""
    rng = np.random.default_rng(5)
    x, a, b = rng.normal(size=(n, inputs)), rng.normal(size=(r, inputs)), rng.normal(size=(outputs, r))
    return x, rng.normal(size=(outputs, inputs)), a, b


ALPHA = 8.0


def check_lora(lora: Callable[[Any, Any, Any, Any, float], Any]) -> str | None:
    x, w, a, b = _layer(5, 3, 4, 2)
    base, beside, given = x @ w.T, x @ a.T @ b.T, _layer(5, 3, 4, 2)
    try:
        got = np.asarray(lora(*given, ALPHA))
    except ValueError as error:
        return _orders(lora, error)
    if feedback := known_mistake(
        got,
        (
            (base + beside, "the scale is missing: alpha / r is 8 / 2 = 4"),
            (
                base + 8 * beside,
                "alpha = 8 was not divided by r = 2: with twice the rank twice as much would be added",
            ),
            (
                base + 8 / 5 * beside,
                (
                    "alpha was divided by 5, the rows of x: what a row gives would depend on its "
                    "neighbours; r is 2"
                ),
            ),
            (base + 8 / 3 * beside, "alpha was divided by 3, the inputs; r is 2, the rows of A"),
            (base + 8 / 4 * beside, "alpha was divided by 4, the outputs; r is 2, the columns of B"),
            (
                base + 8 / 2**0.5 * beside,
                "alpha / sqrt(r) is another method (rsLoRA); here the scale is alpha / r = 4",
            ),
            (base + 2 / 8 * beside, "the scale is upside down: r / alpha is 0.25; alpha / r is 4"),
            (4 * (base + beside), "the scale 4 multiplies what is added, not W too"),
            (4 * beside, "W is missing: what the model knew is gone, and only what the adapter adds is left"),
            (beside, "W is missing, and the scale alpha / r = 4 as well"),
            (base, "that is W alone; only before training, while B is zeros, does an adapter add nothing"),
            (
                4 * b @ a,
                "that is what is added to W, (4, 3); x is not multiplied by it yet, and W is missing",
            ),
            (w + 4 * b @ a, "that is the merged matrix, (4, 3); multiply x by it"),
        ),
        same,
    ):
        return feedback
    if got.shape != base.shape:
        return f"an array of shape {got.shape} came back; 5 rows of x and 4 outputs make (5, 4)"
    if not same(got, base + 4 * beside):
        return f"the values are off by up to {abs(got - base - 4 * beside).max():.3g}"
    if changed := [
        name
        for name, now, then in zip("xWAB", given, (x, w, a, b), strict=True)
        if not np.array_equal(now, then)
    ]:
        return (
            f"the values are right, but {changed[0]} was changed in place: a second call would give "
            "something else"
        )
    return None


def _orders(lora: Callable[[Any, Any, Any, Any, float], Any], error: ValueError) -> str:
    """Shapes that do not fit: with square matrices they do, and tell which product was meant."""
    x, w, a, b = _layer(3, 3, 3, 3)
    scale = ALPHA / 3
    try:
        got = np.asarray(lora(*_layer(3, 3, 3, 3), ALPHA))
    except ValueError:
        got = np.zeros(0)
    mistakes = (
        (
            x @ w.T + scale * x @ b.T @ a.T,
            "A and B were exchanged: A (2, 3) comes first and leaves 2 numbers for B (4, 2)",
        ),
        (
            x @ w + scale * x @ a @ b,
            "nothing was transposed: x is (5, 3) and W (4, 3); its rows are the outputs, so x @ W.T",
        ),
        (
            x @ w.T + scale * x @ a @ b,
            "A and B were not transposed: x is (5, 3) and A (2, 3), so x @ A.T @ B.T",
        ),
        (x @ w.T + scale * b @ a, "B A was added to the outputs; it changes W: multiply x by it first"),
    )
    return (
        known_mistake(got, mistakes, same)
        or f"shapes do not fit, where x is (5, 3), W (4, 3), A (2, 3) and B (4, 2): {error}"
    )


SHAPES = {"query": (64, 64), "key": (16, 64), "value": (16, 64), "up": (256, 64), "down": (64, 256)}


def check_weights(count: Callable[[dict[str, tuple[int, int]], int], float]) -> str | None:
    return compare(
        "five matrices and rank 4",
        count(dict(SHAPES), 4),
        3712,
        {
            155_648: (
                "155,648 is rank x outputs x inputs, four times the model's own weights: A has rank x "
                "inputs, B rank x outputs"
            ),
            38_912: "38,912 are the model's own matrices, which stay as they are; A and B lie beside them",
            2048: "2,048 are the A alone; B has rank x outputs, which makes 1,664 more",
            1664: "1,664 are the B alone; A has rank x inputs, which makes 2,048 more",
            928: (
                "928 is for rank 1: each of the 4 rows of A has all inputs, each of the 4 columns of B all "
                "outputs"
            ),
            7424: (
                "7,424 is twice as many: rank x (outputs + inputs) holds both A and B already, and weights "
                "are asked, not bytes"
            ),
            14_848: "14,848 has the rank in it twice, 4 x 4: A and B are thin on one side only",
            622_592: "622,592 is A times B; they lie side by side: add them",
            3392: (
                "3,392 has key and value once, since both are 16 x 64: each matrix has an adapter of its own"
            ),
            512: "512 is one matrix alone; add up all five",
        },
    ) or compare("one matrix of 7 x 3, rank 2", count({"head": (7, 3)}, 2), 20)


def check_bytes(held: Callable[..., float]) -> str | None:
    model, trainable = 7_000_000_000, 20_000_000
    return compare(
        "training_bytes(7_000_000_000)",
        held(model),
        112e9,
        {
            14e9: (
                "14 GB are the weights alone, enough to answer; each that learns needs 14 bytes more: 112 GB"
            ),
            28e9: (
                "4 bytes a weight: the weight and its gradient. The exact copy and Adam's two means are "
                "missing, 12 bytes"
            ),
            56e9: (
                "8 bytes a weight: the two means that Adam keeps of every weight, 4 bytes each, are missing"
            ),
            84e9: "12 bytes a weight: 4 are missing, for the exact copy or for one of Adam's two means",
            98e9: "14 bytes a weight: 2 are missing, for the gradient or for the weight itself",
            70e9: "10 bytes a weight: 6 are missing, the weight or its gradient among them",
            16.8e9: "1.2 times the weights is a rule for answering; training holds 8 times the weights",
            112.0: "112 is in GB; bytes are asked",
            112e9 / 2**30: "104.3 is in GiB; bytes are asked",
            896e9: "896 billion are bits; bytes are asked",
        },
    ) or compare(
        "training_bytes(7_000_000_000, 20_000_000)",
        held(model, trainable),
        14.32e9,
        {
            112e9: "112 GB again: with an adapter the model is frozen, and only 20 million weights learn",
            0.32e9: "0.32 GB are the adapter alone; the frozen model must be in memory too, 14 GB",
            14e9: "14 GB are the frozen model alone; each weight of the adapter takes 16 bytes, 0.32 GB",
            28.32e9: (
                "28.32 GB: the frozen weights got gradients, 14 GB for nothing; only what learns has one"
            ),
            14.28e9: (
                "14.28 GB: 14 bytes for each learnt weight; the adapter's own weights come on top of the "
                "model's, so 16"
            ),
            14.04e9: "14.04 GB hold the adapter as if it were frozen, 2 bytes each; it learns, with 16",
            112.32e9: (
                "112.32 GB: both were counted as learning; the model's weights take 2 bytes each, frozen"
            ),
            14.32: "14.32 is in GB; bytes are asked",
        },
    )


PROMPT, ANSWER, END, LEFT_OUT = [11, 7, 12, 7], [5, 7, 9], 2, -100


def check_labels(labels: Callable[[list[int], list[int], int], Any]) -> str | None:
    masked, asked = [LEFT_OUT] * 4, f"labels({PROMPT}, {ANSWER}, {END})"
    right, prompt, answer = [*masked, *ANSWER, END], list(PROMPT), list(ANSWER)
    got = labels(prompt, answer, END)
    if got is None or isinstance(got, (str, int)):
        return f"{asked} gave {got!r}; a list of labels is wanted"
    got = [int(label) for label in got]
    mistakes = (
        ([*PROMPT, *ANSWER, END], "the prompt is learnt too: 4 of 8 labels go into writing questions"),
        (
            [*masked, *ANSWER],
            "7 labels for 8 tokens: the end is missing, and a model that never saw it does not stop",
        ),
        ([*masked, *ANSWER, LEFT_OUT], "the end got -100: it is not learnt, and the model does not stop"),
        (
            [*right[1:], LEFT_OUT],
            "all labels were moved one place forward; the library does that itself, and after both each "
            "token would be taught the one after the next",
        ),
        (
            right[1:],
            (
                "7 labels, each one place too early: the library moves them itself; leave each beside its "
                "own token"
            ),
        ),
        (
            [LEFT_OUT, *right[:-1]],
            "all labels stand one place too late, and the end fell off: leave each beside its own token",
        ),
        ([*ANSWER, END], "4 labels for 8 tokens: each token of the prompt needs one as well, -100"),
        (
            [*masked, 5, LEFT_OUT, 9, END],
            "the 7 in the answer got -100, as the prompt has a 7 too: tell them by place, not id",
        ),
        ([0] * 4 + [1] * 4, "that is a mask of 0 and 1; a label is the id that is to be learnt"),
        ([LEFT_OUT] * 8, "all 8 labels are -100: nothing is learnt"),
    )
    if feedback := known_mistake(got, mistakes):
        return feedback
    if got[4:] == right[4:] and len(set(got[:4])) == 1 and got != right:
        token = (
            "the id of a token, which would be learnt four times"
            if got[0] >= 0
            else "a number that means nothing to it"
        )
        return f"the prompt got {got[0]}: {token}; the library leaves out -100 and nothing else"
    if len(got) != 8:
        return f"{asked} gave {len(got)} labels; prompt, answer and end have 4 + 3 + 1 = 8 tokens"
    if got != right:
        return f"{asked} gave {got}; it should be {right}"
    if prompt != PROMPT or answer != ANSWER:
        return (
            f"the labels are right, but the lists were changed, to {prompt} and {answer}: called again, it "
            "gives others"
        )
    again = [int(label) for label in labels([1, END], [4], END)]
    return (
        None
        if again == [-100, -100, 4, END]
        else f"labels([1, 2], [4], 2) gave {again}; it should be [-100, -100, 4, 2]"
    )


LOSSES = dict(
    zip(
        range(100, 1700, 100),
        [2.0, 1.5, 1.6, 1.4, 1.5, 1.35, 1.4, 1.33, 1.36, 1.37, 1.3, 1.34, 1.4, 1.32, 1.1, 1.2],
        strict=True,
    )
)


def check_stop(best: Callable[[dict[int, float], int], object]) -> str | None:
    def of(losses: list[float], patience: int = 3) -> object:
        return best(dict(enumerate(losses, start=1)), patience)

    got = best(dict(LOSSES), 3)
    mistakes = (
        (1600, "1600 is the last step; training ended at 1400, and its best was at 1100"),
        (
            1400,
            "1400 is where training ended; the weights to keep are those of the lowest loss before, at 1100",
        ),
        (100, "100 has the highest loss, 2.0; a loss is better where it is lower"),
        (
            200,
            (
                "it stopped at the first look that was worse, 300: with patience=3 it takes three of them "
                "in a row"
            ),
        ),
        (
            600,
            (
                "looks without a gain were counted in all, 300, 500 and 700: a better one, as at 400, begins "
                "the count anew"
            ),
        ),
        (
            800,
            (
                "it stopped at 1000, after two looks without a gain, 900 and 1000; with patience=3 it "
                "takes a third"
            ),
        ),
        (1.3, "1.3 is the loss; the step is asked"),
        (10, "10 is the place in the dict; the step is asked"),
    )
    if feedback := known_mistake(got, mistakes):
        return feedback
    if got == 1500 and of([2.0, 2.1, 2.2, 2.3, 2.4, 1.0]) == 6:
        return (
            "1500 has the lowest loss of all, but was never reached: 1200, 1300 and 1400 brought nothing, "
            "and training ended"
        )
    if got == 1500 and of([2.0, 2.1, 2.2, 2.3, 1.0]) == 5:
        return (
            "one look too many: 1200, 1300 and 1400 are three without a gain, so with patience=3 step 1500 "
            "is never reached"
        )
    if got == 1500:
        return (
            "1400 is better than 1300, but not than the best, 1.3 at 1100: compare with the best so far, "
            "not the look before"
        )
    if got != 1100:
        return (
            f"{got!r} came back; the lowest loss before three looks in a row brought nothing better is that "
            "of 1100"
        )
    if (tie := of([1.5, 1.2, 1.2, 1.4])) != 2:
        later = ": of equals the earlier is kept" if tie == 3 else ""
        return f"the losses 1.5, 1.2, 1.2, 1.4 of steps 1 to 4 gave {tie!r}, not 2{later}"
    if (tie := of([1.2, 1.2, 1.2, 1.0], 2)) != 1:
        return (
            "an equal loss is no gain: 1.2, 1.2, 1.2, 1.0 with patience=2 ends at step 3 and keeps 1, and "
            f"{tie!r} came back"
        )
    return None


def _facts(changes: bool, cite: bool, form: bool, load: float) -> dict[str, bool | float]:
    return {"changes_daily": changes, "must_cite": cite, "form": form, "questions_per_second": load}


SITUATIONS = {
    "rates": _facts(True, True, False, 0.1),
    "handbook": _facts(False, True, False, 20),
    "news": _facts(True, False, False, 40),
    "letters": _facts(False, False, True, 0.1),
    "hotline": _facts(True, False, True, 30),
    "audit": _facts(False, True, True, 1),
}
CHOICE = dict(zip(SITUATIONS, ("search", "search", "search", "adapter", "both", "both"), strict=True))
ANY = ("search", "adapter", "both")


def check_choose(choose: Callable[[dict[str, dict[str, bool | float]]], Mapping[str, str]]) -> str | None:
    got = choose({name: dict(facts) for name, facts in SITUATIONS.items()})
    if not isinstance(got, Mapping):
        return f"{got!r} came back; a dict is wanted, from each name to its choice"
    if got.keys() != CHOICE.keys():
        return f"there are choices for {list(got)}; the situations are {list(CHOICE)}"
    if odd := [choice for choice in got.values() if choice not in ANY]:
        return f"{odd[0]!r} is none of {', '.join(ANY)}"
    mistakes = (
        (
            "search search search search search search",
            "letters wants a form: a search brings passages, not a way to write",
        ),
        (
            "adapter adapter adapter adapter adapter adapter",
            "always an adapter: what it knows is of the day it was trained, and "
            "it cannot say where a sentence stands",
        ),
        (
            "both both both both both both",
            "always both: rates needs no adapter and letters no search; each is work to keep up",
        ),
        (
            "adapter adapter adapter search both both",
            "the two were swapped: rates would be trained anew every day, and letters "
            "would get passages where it lacks a tone",
        ),
        (
            "search adapter search adapter both adapter",
            "must_cite was left out: handbook does not change, but weights cannot "
            "say where they have a sentence from",
        ),
        (
            "search search adapter adapter adapter both",
            "changes_daily was left out: news need not be cited, but an adapter would tell yesterday's",
        ),
        (
            "search adapter adapter adapter adapter adapter",
            "one reason is enough for a search: it was asked to change *and* to "
            "be cited, which only rates does",
        ),
        (
            "search search search adapter search search",
            "hotline and audit want a form too, which no search brings",
        ),
        (
            "search search search adapter adapter adapter",
            "hotline changes daily and audit must cite: an adapter alone gives them the form and no source",
        ),
        (
            "both search search adapter both both",
            "two reasons for a search, as rates has, are no reason for an adapter",
        ),
    )
    if feedback := known_mistake(" ".join(map(str, (got[name] for name in CHOICE))), mistakes):
        return feedback
    wrong_ones = [name for name in CHOICE if got[name] != CHOICE[name]]
    if wrong_ones and all(
        (got[n] == "adapter") == (SITUATIONS[n]["questions_per_second"] > 10) for n in CHOICE
    ):
        return (
            "you chose by questions_per_second: the load says how large a machine must be, not where "
            "answers come from"
        )
    if wrong_ones:
        name = wrong_ones[0]
        return f"{name}, {SITUATIONS[name]}, got {got[name]!r}; it should be {CHOICE[name]!r}"
    return None
