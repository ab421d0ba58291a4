"""Find the names of models that somebody may have meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

TUNED = re.compile(r"-(instruct|it|chat)\b", re.IGNORECASE)  # the suffix of fine-tuned models
SIZE = re.compile(r"[-:]?\d+(\.\d+)?[bm]\b.*", re.IGNORECASE)  # the end of a name, from its size on


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three of the known names that may have been meant, the most similar first.

    They begin with `name`, or are other sizes of the same series, or differ by a typing error; without any of
    those, they contain it. A name of another series or version is never returned, however similar it looks.
    Of names that differ only in upper and lower case, the first is used.

    >>> similar("llama-3.1-80b", ["Llama-3.1-8B", "Llama-2-7B"]), similar("llama-5-8b", ["Llama-3.1-8B"])
    (['Llama-3.1-8B'], [])
    """
    name = TUNED.sub("", name.rpartition("/")[2].lower())
    names = {TUNED.sub("", n.lower()): n for n in reversed(list(known))}  # form that is compared -> name
    begun = [n for n in reversed(names) if name and n.startswith(name)]
    series, numbers = SIZE.sub("", name), re.findall(r"\d+", name)
    if same := [n for n in names if series and SIZE.sub("", n) == series]:
        found = get_close_matches(name, same, cutoff=0)
    else:
        same_numbers = [n for n in names if re.findall(r"\d+", n) == numbers]
        found = get_close_matches(name, same_numbers, n=1, cutoff=0.8)
        all_series = {s for n in names if re.findall(r"\d+", s := SIZE.sub("", n)) == numbers}
        near = [] if found else get_close_matches(name, all_series, n=1, cutoff=0.9)  # a name without a size
        found += [n for n in names if SIZE.sub("", n) in near]
    containing = [] if begun or found else [n for n in reversed(names) if len(name) > 1 and name in n]
    return [names[n] for n in dict.fromkeys([*begun, *found, *containing])][:3]
