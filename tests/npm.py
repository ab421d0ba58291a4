"""Packages of npm's registry for tests; without node, npm or the registry these are skipped."""

import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL_SECONDS = 60


def installed(config, files: Path) -> Path:
    """A folder with `files` and what their package.json names; pytest's cache keeps it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    wanted = (files / "package.json").read_text("utf-8")
    folder = config.cache.mkdir(f"npm-{files.parent.name}")
    for file in files.iterdir():
        shutil.copy(file, folder)
    done = folder / "installed.json"
    if not done.is_file() or done.read_text("utf-8") != wanted:
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm cannot install {files.parent.name}'s packages: {error}")
        done.write_text(wanted, "utf-8")
    return folder
