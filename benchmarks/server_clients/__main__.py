"""Run clients of the package indices against `course serve`, and print the table of docs/server.md.

    python -m benchmarks.server_clients FOLDER

FOLDER keeps what is installed there: a virtual environment, and the clients of npm where node is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from course_lib.data import ROOT
from course_lib.serve import discovery
from course_lib.tables import table

HERE, NPM = Path(__file__).parent, ROOT / "tests" / "serve" / "npm"
PROJECTS = [
    "llama-index-llms-ollama",
    "llama-index-embeddings-ollama",
    "litellm",
    "llm",
    "llm-ollama",
    "pydantic-ai-slim[openai]",
    "instructor",
    "dspy",
]


def python_results(folder: Path, url: str) -> list[tuple[str, str, str]]:
    """Return (client with version, feature, result) of each check in Python."""
    program = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", *PROJECTS], check=True)
    listed = subprocess.run([program, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    versions = {p["name"].lower(): p["version"] for p in json.loads(listed.stdout)}
    run = [str(program), str(HERE / "python_clients.py"), url]
    return _rows(subprocess.run(run, capture_output=True, text=True, check=True).stdout, versions)


def npm_results(folder: Path, url: str) -> list[tuple[str, str, str]]:
    """Return (client with version, feature, result) of each check in JavaScript."""
    folder = folder / "npm"
    shutil.copytree(NPM, folder, dirs_exist_ok=True)
    if not (folder / "node_modules").is_dir():
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts"], cwd=folder, check=True)
    versions = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    run = ["node", "clients.mjs", url]
    return _rows(subprocess.run(run, cwd=folder, capture_output=True, text=True, check=True).stdout, versions)


def _rows(lines: str, versions: dict[str, str]) -> list[tuple[str, str, str]]:
    rows = []
    for line in lines.splitlines():
        name, result = json.loads(line)
        client, feature = name.split(": ", 1)
        rows.append((f"{client} {versions[client]}", feature, result))
    return rows


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    server = discovery.start()
    try:
        rows = python_results(folder, server.url)
        if shutil.which("node"):
            rows += npm_results(folder, server.url)
    finally:
        server.close()
    print(table(["client", "feature", "result"], rows))


if __name__ == "__main__":
    main()
