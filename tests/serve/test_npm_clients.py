"""Clients of npm drive the server as they are. They need node, and npm's registry at the first run."""

import json
import subprocess
from pathlib import Path

import pytest

from tests import npm


@pytest.fixture(scope="module")
def folder(request):
    return npm.installed(request.config, Path(__file__).with_name("npm"))


def test_clients_of_npm(server, folder):
    command = ["node", "clients.mjs", server.url]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    results = dict(json.loads(line) for line in told.stdout.splitlines())
    assert len(results) == 29
    assert {name: result for name, result in results.items() if result != "works"} == {}
