"""Write uv.lock where PyTorch's index cannot be reached: `.venv/bin/python .ci/lock.py`; else use `uv lock`.

What uv.lock says about torch's files is served on the loopback interface, so only the rest is resolved anew.
A new version of torch needs `uv lock` and a network that reaches PyTorch's index.
"""

import importlib.metadata
import subprocess
import sys
import tempfile
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = "https://download.pytorch.org/whl/cpu"


class TorchIndex(BaseHTTPRequestHandler):
    """PyTorch's index of builds for processors, as far as uv asks for it."""

    def do_GET(self) -> None:
        is_page = self.path == "/whl/cpu/torch/"
        body = PAGE if is_page else METADATA if self.path.endswith(".whl.metadata") else None
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html" if is_page else "text/plain")
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *_: object) -> None:
        pass


packages = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]
torch = next(p for p in packages if p["name"] == "torch" and p["source"].get("registry") == INDEX)
if importlib.metadata.version("torch") != torch["version"]:
    raise SystemExit(f"torch {torch['version']} must be installed here, for its list of dependencies")
METADATA = importlib.metadata.distribution("torch").read_text("METADATA")
PAGE = "".join(
    f'<a href="{w["url"].removeprefix("https://download.pytorch.org")}#{w["hash"].replace(":", "=")}" '
    f'data-core-metadata="true">{w["url"].rpartition("/")[2].replace("%2B", "+")}</a>\n'
    for w in torch["wheels"]
)
with ThreadingHTTPServer(("127.0.0.1", 0), TorchIndex) as server, tempfile.TemporaryDirectory() as folder:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in = f"http://127.0.0.1:{server.server_port}"
    for name in ("pyproject.toml", "uv.lock"):
        text = (ROOT / name).read_text("utf-8").replace("https://download.pytorch.org", stand_in)
        (Path(folder) / name).write_text(text, encoding="utf-8")
    subprocess.run([Path(sys.executable).parent / "uv", "lock"], cwd=folder, check=True)
    locked = (Path(folder) / "uv.lock").read_text("utf-8").replace(stand_in, "https://download.pytorch.org")
    (ROOT / "uv.lock").write_text(locked, encoding="utf-8")
    server.shutdown()
