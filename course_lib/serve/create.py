"""POST /api/create and /api/blobs: models of the user's own, from GGUF files or models of the store."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from course_lib.errors import CourseError
from course_lib.serve import limits
from course_lib.serve.errors import ApiError
from course_lib.serve.library import library
from course_lib.serve.ollama_protocol import progress
from course_lib.serve.ollama_schemas import ModelBody, Options
from course_lib.serve.schemas import Texts
from course_lib.serve.store import Line, Store, disk_errors
from course_lib.serve.tags import Tag, header_of, now, parse_name, tag_of_file
from course_lib.serve.worker import Worker

DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


def _one_file(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > 1:
        raise ValueError(f"{len(value)} files; one GGUF file is expected")
    return value


OneFile = Annotated[dict[str, str], BeforeValidator(_one_file)]  # name -> digest


class CreateBody(ModelBody):
    """POST /api/create. A TEMPLATE acts only if it is the one in the file."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "modelfile": "whole Modelfiles (send its parts: from, files, system, parameters)",
        "quantize": "quantization",
        "messages": "messages of a Modelfile",
    }
    base: str = Field("", alias="from")
    files: OneFile = Field(default_factory=dict)
    adapters: OneFile = Field(default_factory=dict)
    template: str = ""
    system: str = ""
    parameters: Options = Field(default_factory=Options)
    license: Texts = Field(default_factory=list)
    stream: bool = True


def digest_of(text: str, field: str) -> str:
    """Return the hexadecimal SHA-256 in "sha256:...". Raises ApiError for another text."""
    match = DIGEST.fullmatch(text)
    if match is None:
        raise ApiError(field, f"{text[:80]!r} is not a digest: expected sha256: and 64 hexadecimal digits")
    return match[1]


async def blob(worker: Worker, request: Request) -> Response:
    """HEAD and POST /api/blobs/DIGEST: whether the store has a file, and upload it."""
    digest = digest_of(request.path_params["digest"], "digest")
    target = worker.store.blob(digest)
    if request.method != "POST":
        return Response(status_code=200 if target.is_file() else 404)
    if target.is_file():
        return Response(status_code=200)
    if worker.uploads >= limits.MAX_PULLS:
        what, wait = f"{worker.uploads} files are being uploaded", {"Retry-After": "1"}
        raise ApiError("digest", what, "try again when one has ended", status=503, headers=wait)
    worker.uploads += 1
    try:
        await _receive(worker, request, digest)
    finally:
        worker.uploads -= 1
    return Response(status_code=201)


async def _receive(worker: Worker, request: Request, digest: str) -> None:
    """Write the body of a request to the store. Raises ApiError if it stops coming, or has another digest."""
    with (
        disk_errors(),
        tempfile.NamedTemporaryFile(dir=worker.store.blobs, prefix=".upload-", delete=False) as file,
    ):
        partial, seen = Path(file.name), hashlib.sha256()
        try:
            parts = request.stream()
            size, begun = 0, time.monotonic()
            while True:
                async with asyncio.timeout(limits.BODY_SECONDS):
                    if (part := await anext(parts, None)) is None:
                        break
                seen.update(part)
                size, seconds = size + len(part), time.monotonic() - begun
                if seconds > limits.BODY_SECONDS and size < seconds * limits.MIN_UPLOAD_RATE:
                    what = f"{size:,} bytes in {seconds:.0f} s: less than {limits.MIN_UPLOAD_RATE:,} a second"
                    raise ApiError(
                        "digest", what, "send it faster", status=408, headers={"Connection": "close"}
                    )
                await run_in_threadpool(file.write, part)
            file.close()
            if seen.hexdigest() != digest:
                raise ApiError("digest", f"the file has another digest, sha256:{seen.hexdigest()}")
            partial.replace(worker.store.blob(digest))
        except TimeoutError:
            what = f"nothing of the file came for {limits.BODY_SECONDS} seconds"
            raise ApiError("digest", what, "send it again", status=408) from None
        finally:
            partial.unlink(missing_ok=True)


async def create(worker: Worker, body: CreateBody) -> Response:
    """POST /api/create: make a model of an uploaded file, or of one of the store."""
    name = parse_name(body.model_name)
    if bool(body.base) == bool(body.files):
        which = "both 'from' and 'files' were" if body.base else "neither 'from' nor 'files' was"
        raise ApiError("from", f"{which} specified", "send one of them")
    return await progress(worker, lambda: _create(worker.store, name, body), body.stream)


def _create(store: Store, name: str, body: CreateBody) -> Iterator[Line]:
    if body.files:
        tag = _from_file(store, name, body.files)
    else:
        base = parse_name(body.base, "from")
        if base.lower() in library() and not store.has(base):
            yield from (line for line in store.pull(base) if line["status"] != "success")
        found = store.find(body.base, "from")
        tag = replace(found, name=name, parent=found.name, modified_at=now())
    yield {"status": f"using existing layer sha256:{tag.digest}"}
    _check_template(store, tag, body.template)
    changes: dict[str, Any] = {"options": tag.options | body.parameters.model_dump(exclude_defaults=True)}
    if body.system:
        changes["system"] = body.system
    if body.license:
        changes["licence"] = "\n".join(body.license)
    if body.adapters:
        changes["adapter"] = _adapter(store, tag, body.adapters)
        yield {"status": f"using existing layer sha256:{changes['adapter']}"}
    yield {"status": "writing manifest"}
    store.write(replace(tag, **changes))
    yield {"status": "success"}


def _from_file(store: Store, name: str, files: dict[str, str]) -> Tag:
    digest = _uploaded(store, files, "files")
    try:
        return tag_of_file(name, store.blob(digest), digest)
    except CourseError as error:
        raise ApiError("files", error.what) from error


def _adapter(store: Store, tag: Tag, adapters: dict[str, str]) -> str:
    """The digest of a LoRA adapter's file. Raises ApiError for another file, or another architecture."""
    if tag.embeds:
        raise ApiError("adapters", "an adapter works with a language model only", "leave it out")
    digest = _uploaded(store, adapters, "adapters")
    try:
        fields, tensors = header_of(store.blob(digest))
        base = header_of(store.file(tag)).tensors
    except CourseError as error:
        raise ApiError("adapters", error.what) from error
    kind = fields.get("general.type", "model")  # llama.cpp reads a file without it as a model
    family = fields.get("general.architecture", "unknown")
    if (kind, family) != ("adapter", tag.family):
        what = f"a file of type {kind!r} for {family!r}; an adapter for {tag.family!r} is expected"
        raise ApiError("adapters", what)
    for name, tensor in tensors.items():  # llama.cpp would only find out when it loads them
        weights = base.get(name.removesuffix(".lora_a").removesuffix(".lora_b"))
        if weights is None or max(tensor.shape) not in weights.shape:
            raise ApiError("adapters", f"{name[:100]} fits no weights of {tag.name}: it is for another model")
    return digest


def _uploaded(store: Store, files: dict[str, str], field: str) -> str:
    digest = digest_of(next(iter(files.values())), field)
    if not store.blob(digest).is_file():
        raise ApiError(field, f"blob sha256:{digest} not found", "POST /api/blobs/sha256:... uploads it")
    return digest


def _check_template(store: Store, tag: Tag, template: str) -> None:
    if not template:
        return
    if not tag.is_gguf or header_of(store.file(tag)).fields.get("tokenizer.chat_template") != template:
        raise ApiError("template", "this server uses the chat template in the model's file", "leave it out")
