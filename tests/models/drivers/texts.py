"""200 texts on which tokenizers differ: prose, numbers, scripts, emoji, white space, code."""

import random
import unicodedata

from course_lib import data

LINES = (
    "What does 1,234.50 cost on 2026-11-29? 3 cards, 45 days, 678901 won.",
    "1 12 123 1234 12345 100000 3.14159e-10 0x1F 50% ½ ² ٣ １２３ v2.0.1",
    "하늘은행 계좌의 수수료는 3,500원입니다. 송금 한도: 1일 500만원",
    unicodedata.normalize("NFD", "하늘은행 한도 café naïve"),
    "😀 👨‍👩‍👧 🇰🇷 ❤️ ok👍🏽 🙂🙃",
    "中文和日本語のテキスト。 السلام สวัสดี नमस्ते שלום Привет",
    "def f(x):\n    return {'a': [x**2, x != 3]}  # code\n\n\tif (a&&b) { c++; }\r\n",
    "it's he'LL we've I'm THEY'RE don't ‘quoted’ “text” — dash…",
    "<html><b>x</b></html> &amp; https://x.y/z?q=1&r=2#s a_b camelCase",
    "   three   spaces  and a tab\there\n\n\nthree lines  \n",
    "...!!!??? ## ** ``` ~~~ ||| \\n \\u0041",
    "odd \u00a0\u3000\u200b spaces é e\u0301 ﬁ ª",
    "x",
)


def texts(count: int = 200) -> list[str]:
    """The lines above, passages of the handbook in both languages, and random mixtures of pieces of these."""
    passages = [p.text for language in ("en", "ko") for p in data.load_passages(language=language).values()]
    rng = random.Random(0)
    chosen = [*LINES, *rng.sample(passages, 60)]
    while len(chosen) < count:
        cuts = []
        for text in rng.choices([*LINES, *chosen], k=rng.randrange(1, 4)):
            start = rng.randrange(len(text))
            cuts.append(text[start : start + rng.randrange(1, 60)])
        # Python's strip, which templates call, removes these spaces too; llama.cpp's own Jinja does not.
        chosen.append("".join(cuts).strip("\u00a0\u3000") or "?")
    return chosen
