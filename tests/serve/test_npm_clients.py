"""Clients of npm drive the server as they are. They need node, and npm's registry at the first run."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).with_name("npm")
INSTALL_SECONDS = 60


@pytest.fixture(scope="module")
def folder(request):
    """A folder with the clients, which pytest's cache keeps."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = request.config.cache.mkdir("npm-clients")
    wanted = (HERE / "package.json").read_text("utf-8")
    for file in HERE.iterdir():
        shutil.copy(file, folder)
    done = folder / "installed.json"
    if not done.is_file() or done.read_text("utf-8") != wanted:
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm cannot install the clients: {error}")
        done.write_text(wanted, "utf-8")
    return folder


def test_clients_of_npm(server, folder):
    command = ["node", "clients.mjs", server.url]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    results = dict(json.loads(line) for line in told.stdout.splitlines())
    assert len(results) == 29
    assert {name: result for name, result in results.items() if result != "works"} == {}
