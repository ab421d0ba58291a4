"""Prepare a release: `.venv/bin/python .ci/release.py 0.2.0`.

The version goes into every file that names it, and the changes get a date. The source archive and the wheel
are built into dist/. Nothing is committed or uploaded; what to type then is printed.
"""

import datetime
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# File -> the pattern of the version in it, which is the second of three groups.
NAMED_IN = {
    "pyproject.toml": r'(^version = ")([^"]+)(")',
    "course_lib/__init__.py": r'(^__version__ = ")([^"]+)(")',
    "CITATION.cff": r"(^version: )(\S+)()",
    "uv.lock": r'(^name = "local-ai-measured"\nversion = ")([^"]+)(")',
}
IN_WORK = re.compile(r"^## \S+ \(in work\)$", re.MULTILINE)


def prepare(root: Path, version: str, day: datetime.date) -> None:
    """Write the version and the date. Raises SystemExit, with nothing written, if a file is unexpected."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"{version!r} is not MAJOR.MINOR.PATCH, such as 0.2.0")
    changed = {}
    for name, pattern in NAMED_IN.items():
        text = (root / name).read_text("utf-8")
        changed[name], count = re.subn(pattern, rf"\g<1>{version}\g<3>", text, flags=re.MULTILINE)
        if count != 1:
            raise SystemExit(f"{name} names the version {count} times, not once")
    changes = (root / "CHANGELOG.md").read_text("utf-8")
    changed["CHANGELOG.md"], count = IN_WORK.subn(f"## {version} ({day})", changes)
    if count != 1:
        raise SystemExit(f"CHANGELOG.md has {count} headings '(in work)', not one")
    for name, text in changed.items():
        (root / name).write_text(text, "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    if subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT):
        raise SystemExit("commit your changes first")
    prepare(ROOT, sys.argv[1], datetime.date.today())
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # what earlier builds left
    for what in ("sdist", "wheel"):
        code = f"from setuptools import build_meta; build_meta.build_{what}('dist')"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    release = f"git commit -am 'Release {sys.argv[1]}' && git tag v{sys.argv[1]}"
    print(f"dist/ has the release. After make test: {release}")
