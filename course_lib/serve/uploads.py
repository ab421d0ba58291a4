"""HEAD and POST /api/blobs: upload model files (blobs) to the server's store, and tell which it has.

At most MAX_PULLS are uploaded at a time. If another file waits, a slow upload is ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from course_lib.serve import limits
from course_lib.serve.errors import ApiError, disk_errors
from course_lib.serve.store import Store

DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
CHECK_SECONDS = 0.05  # between two checks for a free place


class Upload:
    """A file that is being uploaded. size: the bytes received. limit: a timeout that ends the upload."""

    def __init__(self) -> None:
        self.begun, self.size, self.gives_way = time.monotonic(), 0, False
        self.limit = asyncio.timeout(limits.BODY_SECONDS)

    @property
    def rate(self) -> float:
        """Bytes per second since the start."""
        return self.size / max(time.monotonic() - self.begun, limits.UPLOAD_SECONDS)

    def give_way_if_slow(self) -> None:
        """End the upload if it has been slower than MIN_UPLOAD_RATE on average, after UPLOAD_SECONDS."""
        begun = time.monotonic() - self.begun > limits.UPLOAD_SECONDS
        if begun and self.rate < limits.MIN_UPLOAD_RATE and not self.gives_way:
            self.gives_way = True
            with suppress(RuntimeError):  # it has already ended
                self.limit.reschedule(asyncio.get_running_loop().time())

    def received(self, count: int) -> None:
        """Count bytes, and restart the timeout."""
        self.size += count
        if not self.gives_way:
            self.limit.reschedule(asyncio.get_running_loop().time() + limits.BODY_SECONDS)

    def error(self) -> ApiError:
        """Return the error for the client whose upload was ended."""
        what = f"nothing of the file came for {limits.BODY_SECONDS:g} seconds"
        if self.gives_way:
            least = f"fewer than {limits.MIN_UPLOAD_RATE:,} a second"
            what = f"{self.size:,} bytes came, {self.rate:,.0f} a second: {least}, and another file waits"
        return ApiError("digest", what, "send it again", status=408, headers={"Connection": "close"})


class Uploads:
    """The running uploads, at most MAX_PULLS. Others wait in the order of their arrival."""

    def __init__(self) -> None:
        self.running, self._turn = set[Upload](), asyncio.Lock()

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Upload]:
        """Wait for a free place, and yield a new upload."""
        async with self._turn:
            while len(self.running) >= limits.MAX_PULLS:
                min(self.running, key=lambda upload: upload.rate).give_way_if_slow()
                await asyncio.sleep(CHECK_SECONDS)
            self.running.add(upload := Upload())
        try:
            yield upload
        finally:
            self.running.discard(upload)


def digest_of(text: str, field: str) -> str:
    """Return the hexadecimal SHA-256 in "sha256:...". Raises ApiError for another text."""
    match = DIGEST.fullmatch(text)
    if match is None:
        raise ApiError(field, f"{text[:80]!r} is not a digest: expected sha256: and 64 hexadecimal digits")
    return match[1]


async def blob(store: Store, uploads: Uploads, request: Request) -> Response:
    """HEAD and POST /api/blobs/DIGEST: tell whether the store has a file, or upload it."""
    digest = digest_of(request.path_params["digest"], "digest")
    target = store.blob(digest)
    if request.method != "POST":
        return Response(status_code=200 if target.is_file() else 404)
    if target.is_file():
        return Response(status_code=200)
    async with uploads.next() as upload:
        await _receive(store, request, digest, upload)
    return Response(status_code=201)


async def _receive(store: Store, request: Request, digest: str, upload: Upload) -> None:
    """Write the body of a request to the store.

    Raises ApiError if the disk is full, if the body ends early, and if its digest differs.
    """
    size, free = int(request.headers.get("content-length", "0")), shutil.disk_usage(store.blobs).free
    if size > free:
        what = f"the file has {size:,} bytes, but {free:,} are free on the disk of the store"
        fix = "course serve --store models  # a folder on another disk"
        raise ApiError("digest", what, fix, status=507, headers={"Connection": "close"})
    with (
        disk_errors(),
        tempfile.NamedTemporaryFile(dir=store.blobs, prefix=".upload-", delete=False) as file,
    ):
        partial, seen = Path(file.name), hashlib.sha256()
        try:
            async with upload.limit:
                async for part in request.stream():
                    seen.update(part)
                    await run_in_threadpool(file.write, part)
                    upload.received(len(part))
            file.close()
            if seen.hexdigest() != digest:
                raise ApiError("digest", f"the file has another digest, sha256:{seen.hexdigest()}")
            partial.replace(store.blob(digest))
        except TimeoutError:
            raise upload.error() from None
        finally:
            partial.unlink(missing_ok=True)
