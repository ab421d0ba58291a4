"""Make datasets/haneul/faces: drawn faces that the model haneul-faces never saw in training, in two files.

A sheet is a JPEG with a row for each identity. Another version of Pillow may write other bytes for the same
pictures.
"""

from __future__ import annotations

import json
from io import BytesIO

from PIL import Image

from bankworld.pictures.faces import PIXELS, face

SPLITS = ("validation", "test")
IDENTITIES, VIEWS, QUALITY = 40, 6, 88


def build_sheet(split: str) -> tuple[Image.Image, list[dict[str, object]]]:
    """The sheet of a split, and a row of facts about each of its pictures, from left to right."""
    sheet, rows = Image.new("RGB", (VIEWS * PIXELS, IDENTITIES * PIXELS)), []
    for person in range(IDENTITIES):
        for number in range(VIEWS):
            picture, view = face(split, person, number)
            sheet.paste(picture, (number * PIXELS, person * PIXELS))
            facts = {"glasses": view.glasses, "dark_lenses": view.dark_lenses, "light": view.light}
            rows.append({"split": split, "person": person, "view": number, **facts})
    return sheet, rows


def build_faces() -> dict[str, bytes]:
    """File name -> content of datasets/haneul/faces: the sheets, and the rows of both."""
    rows: list[dict[str, object]] = []
    files = {}
    for split in SPLITS:
        sheet, facts = build_sheet(split)
        written = BytesIO()
        sheet.save(written, "JPEG", quality=QUALITY, optimize=True)
        files[f"{split}.jpg"], rows = written.getvalue(), rows + facts
    return files | {"faces.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}
