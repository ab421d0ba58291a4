"""`python -m bankworld` writes datasets/haneul and datasets/adapters. The same sources give the same bytes.

Only the files of pictures can differ, with other versions of FreeType or zlib; they look the same.

`python -m bankworld check [AREA ...]` checks the written texts against the rules of AUTHORING.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bankworld import check, korean_check, korean_haneul, korean_messages, korean_text, schema
from bankworld.adapter_data import build_adapter_tables
from bankworld.haneul import World, build_questions, build_relevance
from bankworld.messages import build_messages
from bankworld.overlap import largest_overlap
from bankworld.passages import Passage
from bankworld.pictures import KINDS, face_sheets
from bankworld.pictures.haneul import PER_KIND, build_pictures

DATASETS = schema.HERE.parent
ABOUTS = [
    "old",
    "since",
    "exception",
    "negated",
    "untrue",
    "pair",
    "compare",
]  # what a question can ask other than the value; see `data.Question.about`
Rows = list[dict[str, Any]]


def build_haneul() -> dict[str, str]:
    """Return file name -> content of datasets/haneul. The names of Korean files begin with `ko/`."""
    world = World.load()
    questions, messages = build_questions(world), build_messages()
    tables: dict[str, Rows] = {
        "facts": [
            {"id": f.id, **f.model_dump(exclude_none=True), "name": world.name(f)}
            for f in world.facts.values()
        ],
        "passages": _passages(world, world.passages),
        "questions": questions,
        "relevance": build_relevance(world, questions),
        "messages": messages,
        "ko/passages": _passages(world, korean_haneul.build_passages(world)),
        "ko/questions": korean_haneul.build_questions(world, questions),
        "ko/questions_english_names": korean_haneul.build_questions(world, questions, english_names=True),
        "ko/messages": korean_messages.build_messages(messages),
    }
    return _with_manifest(_files(tables) | {"DATASHEET.md": datasheet(tables)})


def build_adapters() -> dict[str, str]:
    """Return file name -> content of datasets/adapters."""
    return _with_manifest(_files(build_adapter_tables()))


FOLDERS = {"haneul": build_haneul, "adapters": build_adapters}


def _files(tables: dict[str, Rows]) -> dict[str, str]:
    return {
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, rows in tables.items()
    }


def _with_manifest(files: dict[str, str]) -> dict[str, str]:
    return files | {"manifest.json": _manifest({name: text.encode() for name, text in files.items()})}


def _manifest(files: dict[str, bytes]) -> str:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return json.dumps({"sha256": digests}, indent=1) + "\n"


def _passages(world: World, passages: dict[str, Passage]) -> Rows:
    return [
        {
            "id": i,
            "title": p.title,
            "text": p.text,
            "about": sorted(world.about[i]),
            "states": sorted(map(list, p.states)),
        }
        for i, p in passages.items()
    ]


def _counts(rows: Rows, key: str) -> str:
    return ", ".join(f"{k} {n}" for k, n in sorted(Counter(r[key] for r in rows).items()))


def datasheet(tables: dict[str, Rows]) -> str:
    """Return the datasheet, whose numbers are counted from the rows that it describes."""
    passages, questions = tables["passages"], tables["questions"]
    words = sorted(len(p["text"].split()) for p in passages)
    share, a, b = largest_overlap([p["text"] for p in passages])
    specs, texts = schema.specs(), schema.texts()
    figures = {
        "areas": len(schema.AREAS),
        "kinds": len(specs),
        "fact_types": sum(map(len, specs.values())),
        "asks": sum(len(a.asks) for t in texts.values() for a in t.attributes.values()),
        "held": sum(
            len(a.held.lexical + a.held.paraphrase) for t in texts.values() for a in t.attributes.values()
        ),
        "facts": len(tables["facts"]),
        "changed": sum("old" in f for f in tables["facts"]),
        "excepted": sum("exception" in f for f in tables["facts"]),
        "passages": len(passages),
        "shortest": words[0],
        "median": words[len(words) // 2],
        "longest": words[-1],
        "overlap": f"{share:.0%}",
        "overlap_a": passages[a]["id"],
        "overlap_b": passages[b]["id"],
        "openings": len({" ".join(p["text"].split()[:3]).lower() for p in passages}),
        "questions": len(questions),
        "question_kinds": _counts(questions, "kind"),
        "question_formats": _counts(questions, "format"),
        "question_splits": _counts(questions, "split"),
        "judged": len({r["question"] for r in tables["relevance"]}),
        "judgements": len(tables["relevance"]),
        "grades": _counts(tables["relevance"], "grade"),
        "pictures": len(KINDS) * PER_KIND,
        "persons": face_sheets.IDENTITIES,
        "faces": len(face_sheets.SPLITS) * face_sheets.IDENTITIES * face_sheets.VIEWS,
        "messages": len(tables["messages"]),
        "intents": len({m["intent"] for m in tables["messages"]}),
        "message_splits": _counts(tables["messages"], "split"),
    }
    figures |= _korean_figures(tables, sum(words))
    return (schema.HANEUL / "DATASHEET.template.md").read_text("utf-8").format(**figures)


def _korean_figures(tables: dict[str, Rows], english_words: int) -> dict[str, Any]:
    passages, messages = tables["ko/passages"], tables["ko/messages"]
    texts = [p["text"] for p in passages]
    words = sorted(len(t.split()) for t in texts)
    complete = {
        m for intent in {r["intent"] for r in messages} for m in korean_text.messages_of(intent).whole
    }
    own = [
        w for kind in korean_text.texts().values() for a in kind.values() for w in (*a.lexical, *a.paraphrase)
    ]
    shared = [w for about in ("value", *ABOUTS) for w in korean_text.common()[about]]
    return {
        "ko_passages": len(passages),
        "ko_shortest": words[0],
        "ko_median": words[len(words) // 2],
        "ko_longest": words[-1],
        "ko_shorter": f"{1 - sum(words) / english_words:.0%}",
        "ko_overlap": f"{largest_overlap(texts)[0]:.0%}",
        "ko_openings": len({" ".join(t.split()[:3]) for t in texts}),
        "ko_unnamed": sum("(Haneul " not in p["title"] for p in passages),
        "ko_questions": len(tables["ko/questions"]),
        "ko_wordings": len(own) + len(shared),
        "ko_messages": len(messages),
        "ko_joined": sum(m["message"] not in complete for m in messages),
    }


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write every file under a temporary name, then rename them all, so that no file is ever incomplete."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.partial").write_bytes(content)
    for name in files:
        (folder / f"{name}.partial").replace(folder / name)
    print(f"{folder.name}: {len(files)} files, {sum(map(len, files.values())) / 1e3:.0f} kB")


def check_areas(areas: list[str]) -> int:
    """Print the problems of each area; returns 1 if there are any, else 0."""
    count = 0
    for area in areas or schema.AREAS:
        try:
            problems = check.problems(area) + korean_check.problems(area)
        except (OSError, ValueError, KeyError) as error:
            problems = [f"{area}: {error}"]
        count += len(problems)
        print("\n".join(problems) if problems else f"{area}: all rules hold")
    return 1 if count else 0


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["check"]:
        return check_areas(arguments[1:])
    for name, build in FOLDERS.items():
        write(DATASETS / name, {file: text.encode() for file, text in build().items()})
    for name, build_files in (("pictures", build_pictures), ("faces", face_sheets.build_faces)):
        files = build_files()
        write(DATASETS / "haneul" / name, files | {"manifest.json": _manifest(files).encode()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
