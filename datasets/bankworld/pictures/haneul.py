"""Make datasets/haneul/pictures: pictures of every kind that no model saw in training, with their facts."""

from __future__ import annotations

import io
import itertools
import json

from bankworld.pictures import CAPTIONS, KINDS, draw_picture

PER_KIND, PIXELS = 30, 128


def build_pictures() -> dict[str, bytes]:
    """File name -> content: PNG files, and one row of pictures.jsonl for each of them."""
    files: dict[str, bytes] = {}
    rows = []
    for kind in KINDS:
        unseen = (draw_picture("test", index, PIXELS) for index in itertools.count())
        of_this_kind = (picture for picture in unseen if picture.kind == kind)
        for i, picture in enumerate(itertools.islice(of_this_kind, PER_KIND)):
            name, png = f"{kind}-{i:02}.png", io.BytesIO()
            picture.image.save(png, "png", optimize=True)
            files[name] = png.getvalue()
            rows.append({"file": name, "kind": kind, "template": CAPTIONS[kind], "facts": picture.facts})
    files["pictures.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return files
