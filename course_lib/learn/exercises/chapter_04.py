"""Exercises of chapter 04: the new order, MaxSim, windows, batches by length, a budget, and whether to rerank at all."""

from __future__ import annotations

from course_lib.learn.exercises.engine import Exercise, Wrong
from course_lib.learn.exercises.replies_04 import (
    batches_reply,
    budget_reply,
    decide_reply,
    maxsim_reply,
    order_reply,
    windows_reply,
)

CHECKED = 'if any(map(math.isnan, scores)):\n    raise ValueError("NaN")\n'
COSINES = "cosines = question @ passage.T\n"
BY_LENGTH = "order = sorted(range(len(lengths)), key=lambda i: lengths[i])\n"
FILL = (
    "out = []\nfor i in {order}:\n    if out and {fits}:\n        out[-1].append(i)\n    else:\n"
    "        out.append([i])\nreturn out"
)
PADDED = "(len(out[-1]) + 1) * max(lengths[j] for j in [*out[-1], i]) <= most"
FITTING = "fitting = [n for n in seconds if seconds[n] <= allowed]\n"
PAIRED = "gap = difference(dict(enumerate(after)), dict(enumerate(before)))\n"

EXERCISES = (
    Exercise(
        "04.1",
        "the new order",
        (
            "sorted(range(len(ids)), key=...) gives places; the key of place i is -scores[i], so that the highest comes first.",
            "Python's sorted leaves equals in the order in which they came, which is the order of the search.",
            "math.isnan tells a score that is none: raise ValueError before sorting.",
        ),
        order_reply,
        {
            "ascending": Wrong(
                CHECKED + "order = sorted(range(len(ids)), key=lambda i: scores[i])\n"
                "return [ids[i] for i in order[:k]]",
                "the worst came first",
            ),
            "cut first": Wrong(
                CHECKED
                + "order = sorted(range(k), key=lambda i: -scores[i])\nreturn [ids[i] for i in order]",
                "order all, then take k",
            ),
            "argsort turned round": Wrong(
                CHECKED + "return [ids[i] for i in sorted(range(len(ids)), key=lambda i: scores[i])"
                "[::-1][:k]]",
                "changed places",
            ),
            "ties by name": Wrong(
                CHECKED + "order = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))\n"
                "return [ids[i] for i in order[:k]]",
                "ordered by name",
            ),
            "all of them": Wrong(
                CHECKED + "return [ids[i] for i in sorted(range(len(ids)), key=lambda i: -scores[i])]",
                "all 5 came back",
            ),
            "scores": Wrong(CHECKED + "return sorted(scores, reverse=True)[:k]", "not scores or places"),
            "search's order": Wrong(CHECKED + "return ids[:k]", "the scores were not used"),
            "NaN": Wrong(
                "order = sorted(range(len(ids)), key=lambda i: -scores[i])\nreturn [ids[i] for i in order[:k]]",
                "raise a ValueError",
            ),
        },
    ),
    Exercise(
        "04.2",
        "late interaction",
        (
            "question @ passage.T holds the cosine of every pair: a row for each token of the question.",
            "In each row only the largest counts: .max(axis=1).",
            "Their sum is the score.",
        ),
        maxsim_reply,
        {
            "the other axis": Wrong(COSINES + "return float(cosines.max(axis=0).sum())", "win by its length"),
            "mean": Wrong(COSINES + "return float(cosines.max(axis=1).mean())", "MaxSim is their sum"),
            "all pairs": Wrong(COSINES + "return float(cosines.sum())", "only the best for each token"),
            "mean of all": Wrong(COSINES + "return float(cosines.mean())", "drowns"),
            "one maximum": Wrong(COSINES + "return float(cosines.max())", "one token alone"),
            "pooled": Wrong(
                "q, p = question.mean(axis=0), passage.mean(axis=0)\n"
                "return float(q @ p / np.linalg.norm(q) / np.linalg.norm(p))",
                "that is the bi-encoder",
            ),
            "minimum": Wrong(COSINES + "return float(cosines.min(axis=1).sum())", "the worst match"),
            "not added up": Wrong(COSINES + "return cosines.max(axis=1)", "add up the best cosines"),
        },
    ),
    Exercise(
        "04.3",
        "windows over a long document",
        (
            "A window begins room - overlap tokens behind the one before: range(0, ..., room - overlap).",
            "The last one must reach the end and none may begin behind it: stop at length - overlap.",
            "range(0, max(1, length - overlap), room - overlap), and each ends at min(start + room, length).",
        ),
        windows_reply,
        {
            "cut off": Wrong("return [(0, min(room, length))]", "cut off, silently"),
            "no overlap": Wrong(
                "return [(s, min(s + room, length)) for s in range(0, length, room)]", "do not overlap:"
            ),
            "end lost": Wrong(
                "return [(s, s + room) for s in range(0, length - room, room - overlap)]", "in no window"
            ),
            "one too many": Wrong(
                "return [(s, min(s + room, length)) for s in range(0, length, room - overlap)]",
                "holds nothing that",
            ),
            "step of the overlap": Wrong(
                "return [(s, s + room) for s in range(0, length - room + 1, overlap)]", "not the step"
            ),
            "behind the end": Wrong(
                "return [(s, s + room) for s in range(0, max(1, length - overlap), room - overlap)]",
                "(6, 10): a window ends where",
            ),
            "neither": Wrong(
                "return [(s, s + room) for s in range(0, length, room)]", "and (8, 12) ends behind"
            ),
            "short lost": Wrong(
                "return [(s, min(s + room, length)) for s in range(0, length - overlap, room - overlap)"
                " if length > room]",
                "which fits",
            ),
        },
    ),
    Exercise(
        "04.4",
        "like lengths together",
        (
            "Go through the texts by length, the shortest first: sorted(range(len(lengths)), key=...).",
            "A batch of n texts is computed as n times its longest: with a text more that is (n + 1) * lengths[i].",
            "Append to the last batch while that is at most `most`; else open a new batch with this text in it.",
        ),
        batches_reply,
        {
            "in the order given": Wrong(
                FILL.format(order="range(len(lengths))", fits=PADDED), "short texts stand beside"
            ),
            "tokens, not padded": Wrong(
                BY_LENGTH
                + FILL.format(order="order", fits="sum(lengths[j] for j in out[-1]) + lengths[i] <= most"),
                "filled up to the longest",
            ),
            "one by one": Wrong("return [[i] for i in range(len(lengths))]", "each text is alone"),
            "last lost": Wrong(
                BY_LENGTH + "out, now = [], []\nfor i in order:\n    if (len(now) + 1) * lengths[i] > most:\n"
                "        out.append(now)\n        now = []\n    now.append(i)\nreturn out",
                "last batch kept",
            ),
            "lengths": Wrong("return [sorted(lengths)[:4], sorted(lengths)[4:]]", "so that scores find"),
            "pairs": Wrong(
                BY_LENGTH + "return [order[i : i + 2] for i in range(0, len(order), 2)]",
                "2 have room for all",
            ),
            "too long dropped": Wrong(
                BY_LENGTH
                + "order = [i for i in order if lengths[i] <= most]\n"
                + FILL.format(order="order", fits=PADDED),
                "must still be read",
            ),
        },
    ),
    Exercise(
        "04.5",
        "how many candidates",
        (
            "Keep those that take at most the seconds allowed.",
            "Of them the highest quality; of equal quality the fewest candidates: max(..., key=lambda n: (quality[n], -n)).",
            "max(..., default=0) answers where nothing fits.",
        ),
        budget_reply,
        {
            "most that fit": Wrong(FITTING + "return max(fitting, default=0)", "more chances to be wrong"),
            "ties to the most": Wrong(
                FITTING + "return max(fitting, key=lambda n: (quality[n], n), default=0)", "take the fewest"
            ),
            "fewest": Wrong(FITTING + "return min(fitting, default=0)", "5 candidates are the quickest"),
            "time forgotten": Wrong(
                "return max(quality, key=lambda n: (quality[n], -n))", "0.7 seconds are allowed"
            ),
            "just under": Wrong(
                "fitting = [n for n in seconds if seconds[n] < allowed]\n"
                "return max(fitting, key=lambda n: (quality[n], -n), default=0)",
                "that fits",
            ),
            "nothing fits": Wrong(
                FITTING + "return max(fitting, key=lambda n: (quality[n], -n))", "no largest of nothing"
            ),
            "always some": Wrong(
                FITTING + "return max(fitting or [5], key=lambda n: (quality[n], -n))", "not even 5 fit"
            ),
            "quality": Wrong(
                FITTING + "return max((quality[n] for n in fitting), default=0)", "that is the quality"
            ),
        },
    ),
    Exercise(
        "04.6",
        "should you rerank?",
        (
            "difference(a, b) wants dicts: question -> value. dict(enumerate(after)) makes one.",
            "difference(after, before).verdict is 'A' where reranking is better, 'B' where it is worse, else 'undecided'.",
        ),
        decide_reply,
        {
            "the mean": Wrong(
                'gain = sum(after) - sum(before)\nreturn "rerank" if gain > 0 else "do not"',
                "luck can do that",
            ),
            "swapped": Wrong(
                "gap = difference(dict(enumerate(before)), dict(enumerate(after)))\n"
                'return {"A": "rerank", "B": "do not"}.get(gap.verdict, "undecided")',
                "were swapped",
            ),
            "two intervals": Wrong(
                "from course_lib.measure.intervals import mean_of\n"
                "a, b = mean_of(after), mean_of(before)\n"
                'return "rerank" if a.low > b.high else "do not" if a.high < b.low else "undecided"',
                "compare question by question",
            ),
            "always": Wrong('return "rerank"', "it always says"),
            "the verdict itself": Wrong(PAIRED + "return gap.verdict", "is none of"),
            "doubt is a no": Wrong(
                PAIRED + 'return "rerank" if gap.verdict == "A" else "do not"', "where the interval says"
            ),
        },
    ),
)
