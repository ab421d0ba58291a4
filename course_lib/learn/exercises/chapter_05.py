"""Exercises of chapter 05: LoRA's forward pass, its size and memory, what is learnt, mixing, when to stop, adapter or search."""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise, Wrong
from course_lib.learn.exercises.replies_05 import (
    bytes_reply,
    choose_reply,
    labels_reply,
    lora_reply,
    stop_reply,
    weights_reply,
)
from course_lib.learn.exercises.replies_05_mix import mix_reply

ALL_LEARN = "return 16 * parameters if learnt is None else "
STACKED = (
    "return (np.vstack([A for A, B, alpha in adapters]),\n"
    "        np.hstack([{factor} * B for w, (A, B, alpha) in zip(weights, adapters)]))"
)
BOTH_SIDES = (
    "pairs = list(zip(weights, adapters))\n"
    "return (np.vstack([{factor} * A for w, (A, B, alpha) in pairs]),\n"
    "        np.hstack([{factor} * B for w, (A, B, alpha) in pairs]))"
)
SCALED = "scaled = [w * alpha / len(A) * B for w, (A, B, alpha) in zip(weights, adapters)]\n"
DELTA = "delta = sum(w * alpha / len(A) * B @ A for w, (A, B, alpha) in zip(weights, adapters))\n"
LOOK = (
    "best, lowest, waited = None, float('inf'), 0\nfor step, loss in losses.items():\n    if loss {better} lowest:\n"
    "        best, lowest, waited = step, loss, {start}\n    else:\n        waited += 1\n"
    "        if waited == {patience}:\n            break\nreturn {kept}"
)
RULE = "return {{name: {choice} for name, facts in situations.items()}}"
SEARCH = "(facts['changes_daily'] or facts['must_cite'])"


def _look(better: str = "<", start: str = "0", patience: str = "patience", kept: str = "best") -> str:
    return LOOK.format(better=better, start=start, patience=patience, kept=kept)


def _choice(code: str, reply: str) -> Wrong:
    return Wrong(RULE.format(choice=code), reply)


EXERCISES = (
    Exercise(
        "05.1",
        "an adapter beside a layer",
        (
            "The layer alone gives x @ W.T: a row for each row of x, a column for each output.",
            "The adapter goes the same way in two steps: x @ A.T leaves r numbers, and @ B.T makes outputs of them.",
            "r is len(A): x @ W.T + alpha / len(A) * x @ A.T @ B.T",
        ),
        lora_reply,
        {
            "no scale": Wrong("return x @ W.T + x @ A.T @ B.T", "the scale is missing"),
            "alpha whole": Wrong("return x @ W.T + alpha * x @ A.T @ B.T", "not divided by r = 2"),
            "by the rows of x": Wrong("return x @ W.T + alpha / len(x) * x @ A.T @ B.T", "5, the rows of x"),
            "by the inputs": Wrong("return x @ W.T + alpha / A.shape[1] * x @ A.T @ B.T", "3, the inputs"),
            "by the outputs": Wrong("return x @ W.T + alpha / len(B) * x @ A.T @ B.T", "4, the outputs"),
            "root of r": Wrong("return x @ W.T + alpha / len(A) ** 0.5 * x @ A.T @ B.T", "rsLoRA"),
            "upside down": Wrong("return x @ W.T + len(A) / alpha * x @ A.T @ B.T", "upside down"),
            "scale on all": Wrong("return alpha / len(A) * (x @ W.T + x @ A.T @ B.T)", "not W too"),
            "exchanged": Wrong("return x @ W.T + alpha / len(A) * x @ B.T @ A.T", "A and B were exchanged"),
            "not transposed": Wrong("return x @ W + alpha / len(A) * x @ A @ B", "nothing was transposed"),
            "adapter not transposed": Wrong(
                "return x @ W.T + alpha / len(A) * x @ A @ B", "A and B were not transposed"
            ),
            "without x": Wrong("return x @ W.T + alpha / len(A) * B @ A", "was added to the outputs"),
            "W left out": Wrong("return alpha / len(A) * x @ A.T @ B.T", "W is missing: what the model knew"),
            "delta alone": Wrong("return alpha / len(A) * B @ A", "x is not multiplied by it yet"),
            "merged matrix": Wrong("return W + alpha / len(A) * B @ A", "that is the merged matrix"),
            "no adapter": Wrong("return x @ W.T", "that is W alone"),
            "W changed": Wrong("W += alpha / len(A) * B @ A\nreturn x @ W.T", "W was changed in place"),
        },
    ),
    Exercise(
        "05.2",
        "how large an adapter is",
        (
            "A has a row of all inputs for each rank, B a column of all outputs.",
            "So a matrix gets rank * inputs + rank * outputs weights.",
            "Add up over shapes.values(), not over a set of them: equal shapes are different matrices.",
        ),
        weights_reply,
        {
            "a whole matrix per rank": Wrong(
                "return sum(rank * o * i for o, i in shapes.values())", "rank x outputs x inputs"
            ),
            "whole matrices": Wrong(
                "return sum(o * i for o, i in shapes.values())", "the model's own matrices"
            ),
            "A alone": Wrong("return sum(rank * i for o, i in shapes.values())", "the A alone"),
            "B alone": Wrong("return sum(rank * o for o, i in shapes.values())", "the B alone"),
            "rank forgotten": Wrong("return sum(o + i for o, i in shapes.values())", "for rank 1"),
            "twice": Wrong("return sum(2 * rank * (o + i) for o, i in shapes.values())", "twice as many"),
            "rank twice": Wrong(
                "return rank * sum(rank * (o + i) for o, i in shapes.values())", "the rank in it twice"
            ),
            "A times B": Wrong("return sum(rank * o * rank * i for o, i in shapes.values())", "A times B"),
            "a set": Wrong(
                "return sum(rank * (o + i) for o, i in set(shapes.values()))", "key and value once"
            ),
            "one": Wrong(
                "outputs, inputs = list(shapes.values())[0]\nreturn rank * (outputs + inputs)",
                "one matrix alone",
            ),
        },
    ),
    Exercise(
        "05.3",
        "what training holds",
        (
            "Without an adapter: 2 + 2 + 4 + 8 for each weight.",
            "With one, the model's weights are only read, two bytes each; gradient, copy and means belong to what learns.",
            "16 * parameters, or 2 * parameters + 16 * learnt where learnt is not None.",
        ),
        bytes_reply,
        {
            "weights alone": Wrong("return 2 * parameters", "14 GB are the weights alone"),
            "Adam forgotten": Wrong("return (2 + 2 + 4) * parameters", "8 bytes a weight"),
            "copy forgotten": Wrong("return (2 + 2 + 8) * parameters", "12 bytes a weight"),
            "gradient forgotten": Wrong("return (2 + 4 + 8) * parameters", "14 bytes a weight"),
            "gradient alone": Wrong("return (2 + 2) * parameters", "the weight and its gradient. The exact"),
            "a fifth more": Wrong("return 1.2 * 2 * parameters", "1.2 times"),
            "GB": Wrong("return 16 * parameters / 1e9", "112 is in GB"),
            "adapter ignored": Wrong("return 16 * parameters", "112 GB again"),
            "model forgotten": Wrong(
                "return 16 * (parameters if learnt is None else learnt)", "the adapter alone"
            ),
            "gradients for the frozen": Wrong(
                ALL_LEARN + "4 * parameters + 16 * learnt", "the frozen weights got gradients"
            ),
            "adapter inside the model": Wrong(
                ALL_LEARN + "2 * (parameters - learnt) + 16 * learnt", "on top of the model's"
            ),
            "adapter frozen": Wrong(ALL_LEARN + "2 * (parameters + learnt)", "as if it were"),
            "both learn": Wrong("return 16 * (parameters + (learnt or 0))", "both were counted as learning"),
        },
    ),
    Exercise(
        "05.4",
        "which tokens are learnt",
        (
            "The list is as long as prompt, answer and end together: a label beside each token.",
            "-100 as often as the prompt has tokens: [-100] * len(prompt).",
            "Then the answer's own ids, then the end's, none of them moved.",
        ),
        labels_reply,
        {
            "prompt too": Wrong("return prompt + answer + [end]", "the prompt is learnt too"),
            "no end": Wrong("return [-100] * len(prompt) + answer", "does not stop"),
            "end masked": Wrong("return [-100] * len(prompt) + answer + [-100]", "the end got -100"),
            "shifted": Wrong(
                "return [-100] * (len(prompt) - 1) + answer + [end, -100]", "moved one place forward"
            ),
            "shifted and cut": Wrong(
                "return ([-100] * len(prompt) + answer + [end])[1:]", "one place too early"
            ),
            "shifted back": Wrong(
                "return ([-100] * (len(prompt) + 1) + answer + [end])[:-1]", "one place too late"
            ),
            "0": Wrong("return [0] * len(prompt) + answer + [end]", "the prompt got 0"),
            "-1": Wrong("return [-1] * len(prompt) + answer + [end]", "the prompt got -1"),
            "answer alone": Wrong("return answer + [end]", "4 labels for 8 tokens"),
            "by id": Wrong(
                "return [-100 if t in prompt else t for t in prompt + answer + [end]]", "by place, not id"
            ),
            "a mask": Wrong("return [0] * len(prompt) + [1] * (len(answer) + 1)", "a mask of 0 and 1"),
            "lists changed": Wrong(
                "answer.append(end)\nreturn [-100] * len(prompt) + answer", "lists were changed"
            ),
        },
    ),
    Exercise(
        "05.5",
        "when to stop",
        (
            "Go through the looks in order, and keep the lowest loss so far, its step, and how long ago it was.",
            "A loss below the lowest begins the count anew; any other, an equal one too, adds 1 to it.",
            "When the count has come to patience, stop looking: break; then return the step of the lowest.",
        ),
        stop_reply,
        {
            "last": Wrong("return list(losses)[-1]", "1600 is the last step"),
            "lowest of all": Wrong("return min(losses, key=losses.get)", "was never reached"),
            "where it ended": Wrong(_look(kept="step"), "1400 is where training ended"),
            "highest": Wrong("return max(losses, key=losses.get)", "has the highest loss"),
            "no patience": Wrong(_look(patience="1"), "the first look that was worse"),
            "one too few": Wrong(_look(patience="patience - 1"), "after two looks without"),
            "one too many": Wrong(_look(patience="patience + 1"), "one look too many"),
            "counted in all": Wrong(_look(start="waited"), "were counted in all"),
            "the look before": Wrong(
                "best, before, waited = None, float('inf'), 0\nfor step, loss in losses.items():\n"
                "    if best is None or loss < losses[best]:\n        best = step\n"
                "    waited = 0 if loss < before else waited + 1\n    before = loss\n"
                "    if waited == patience:\n        break\nreturn best",
                "not the look before",
            ),
            "tie to the later": Wrong(_look(better="<="), "of equals the earlier"),
            "equal is better": Wrong(
                _look().replace("    else:\n", "    elif loss > lowest:\n"), "an equal loss is no gain"
            ),
            "loss": Wrong(_look(kept="lowest"), "1.3 is the loss"),
            "place": Wrong(_look(kept="list(losses).index(best)"), "the place in the dict"),
        },
    ),
    Exercise(
        "05.6",
        "adapters mixed exactly",
        (
            "Side by side: put one A below the other, and one B beside the other; B A is then the sum of the products.",
            "Multiply each B, or each A, but not both, by w * alpha / r, where r is len(A).",
            "np.vstack of the A, and np.hstack of the w * alpha / len(A) * B.",
        ),
        mix_reply,
        {
            "no scale": Wrong(STACKED.format(factor="w"), "the scales are missing: alpha / r is"),
            "alpha whole": Wrong(STACKED.format(factor="w * alpha"), "not divided by r = 2"),
            "weights on both": Wrong(
                SCALED + "return np.vstack([w * A for w, (A, B, alpha) in zip(weights, adapters)]), "
                "np.hstack(scaled)",
                "each weight is on A and on B, and",
            ),
            "all on both": Wrong(BOTH_SIDES.format(factor="w * alpha / len(A)"), "6 became 36"),
            "no weights": Wrong(STACKED.format(factor="alpha / len(A)"), "the weights were not used"),
            "weights to sum 1": Wrong(
                STACKED.format(factor="w / sum(weights) * alpha / len(A)"), "divided by their sum"
            ),
            "linear": Wrong(
                "return (sum((w * alpha / len(A)) ** 0.5 * A for w, (A, B, alpha) in zip(weights, adapters)),\n"
                "        sum((w * alpha / len(A)) ** 0.5 * B for w, (A, B, alpha) in zip(weights, adapters)))",
                "which nobody learnt",
            ),
            "averaged": Wrong(
                "return (np.mean([A for A, B, alpha in adapters], axis=0),\n"
                "        np.mean([B for A, B, alpha in adapters], axis=0))",
                "which nobody learnt",
            ),
            "svd": Wrong(
                DELTA
                + "U, S, V = np.linalg.svd(delta)\nr = len(adapters[0][0])\nreturn V[:r], U[:, :r] * S[:r]",
                "the best mix of rank 2",
            ),
            "root": Wrong(BOTH_SIDES.format(factor="np.sqrt(w * alpha / len(A))"), "nan came back"),
            "root that raises": Wrong(
                "import math\n" + BOTH_SIDES.format(factor="math.sqrt(w * alpha / len(A))"),
                "the root of the weight -0.5 is no number",
            ),
            "complex root": Wrong(BOTH_SIDES.format(factor="(w * alpha / len(A)) ** 0.5"), "complex numbers"),
            "sign lost": Wrong(BOTH_SIDES.format(factor="np.sqrt(abs(w) * alpha / len(A))"), "added as 0.5"),
            "A side by side": Wrong(
                SCALED + "return np.hstack([A for A, B, alpha in adapters]), np.hstack(scaled)", "np.vstack"
            ),
            "B below": Wrong(
                SCALED + "return np.vstack([A for A, B, alpha in adapters]), np.vstack(scaled)", "np.hstack"
            ),
            "B first": Wrong(
                SCALED + "return np.hstack(scaled), np.vstack([A for A, B, alpha in adapters])",
                "B came first",
            ),
            "whole matrix": Wrong(DELTA + "return np.eye(delta.shape[1]), delta", "rank 9, where 4"),
            "rank of the first": Wrong(
                STACKED.format(factor="w * alpha / len(adapters[0][0])"), "the others have 3 and 1"
            ),
            "in place": Wrong(
                "for w, (A, B, alpha) in zip(weights, adapters):\n    B *= w * alpha / len(A)\n"
                + STACKED.format(factor="1"),
                "were changed in place",
            ),
        },
    ),
    Exercise(
        "05.7",
        "adapter or search",
        (
            "Two questions for each: is there a reason for a search, and is there one for an adapter?",
            "A search: changes_daily or must_cite. An adapter: form. questions_per_second is a reason for neither.",
            "Both reasons: 'both'; else the one that there is.",
        ),
        choose_reply,
        {
            "always search": _choice("'search'", "letters wants a form"),
            "always adapter": _choice("'adapter'", "always an adapter"),
            "always both": _choice("'both'", "always both"),
            "swapped": _choice(
                f"'both' if {SEARCH} and facts['form'] else 'adapter' if {SEARCH} else 'search'", "swapped"
            ),
            "only what changes": _choice(
                "('both' if facts['form'] else 'search') if facts['changes_daily'] else 'adapter'",
                "must_cite was left out",
            ),
            "only what is cited": _choice(
                "('both' if facts['form'] else 'search') if facts['must_cite'] else 'adapter'",
                "changes_daily was left out",
            ),
            "and": _choice(
                "'search' if facts['changes_daily'] and facts['must_cite'] else 'adapter'",
                "one reason is enough",
            ),
            "never both": _choice(
                f"'search' if {SEARCH} else 'adapter'", "hotline and audit want a form too"
            ),
            "form first": _choice(
                "'adapter' if facts['form'] else 'search'", "hotline changes daily and audit must cite"
            ),
            "any two": _choice(
                "'both' if facts['changes_daily'] + facts['must_cite'] + facts['form'] > 1 else 'adapter' "
                "if facts['form'] else 'search'",
                "two reasons for a search",
            ),
            "by the load": _choice(
                "'adapter' if facts['questions_per_second'] > 10 else 'search'", "by questions_per_second"
            ),
            "another word": _choice("'rag'", "is none of"),
            "names alone": Wrong("return [name for name in situations]", "a dict is wanted"),
        },
    ),
)
