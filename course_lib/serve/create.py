"""POST /api/create: make the user's own models from uploaded GGUF files or from models in the store.

The store is the server's folder of models, a tag its record of a model under one name. The library lists the
models that can be pulled. A digest is the SHA-256 of a file. A Modelfile is Ollama's text file that describes
a model to make. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from starlette.responses import Response

from course_lib.errors import CourseError
from course_lib.serve.errors import ApiError
from course_lib.serve.library import library
from course_lib.serve.limits import MAX_MODEL_CHARACTERS, MAX_MODELS
from course_lib.serve.ollama_protocol import progress
from course_lib.serve.ollama_schemas import ModelBody, Options
from course_lib.serve.schemas import Texts
from course_lib.serve.store import Line, Store
from course_lib.serve.tags import Tag, header_of, now, parse_name, tag_of_file
from course_lib.serve.uploads import digest_of
from course_lib.serve.worker import Worker


def _one_file(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > 1:
        raise ValueError(f"{len(value)} files; one GGUF file is expected")
    return value


OneFile = Annotated[dict[str, str], BeforeValidator(_one_file)]  # name -> digest


class CreateBody(ModelBody):
    """POST /api/create. A template is accepted only if it is the one in the model's file."""

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


async def create(worker: Worker, body: CreateBody) -> Response:
    """POST /api/create: make a model from an uploaded file, or from a model in the store."""
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
    size = len(json.dumps(changes, ensure_ascii=False))
    if size > MAX_MODEL_CHARACTERS:  # every list of models reads them all
        what = f"{size:,} characters with license and parameters, more than {MAX_MODEL_CHARACTERS:,}"
        raise ApiError("system", what, "shorten it")
    if body.adapters:
        changes["adapter"] = _adapter(store, tag, body.adapters)
        yield {"status": f"using existing layer sha256:{changes['adapter']}"}
    yield {"status": "writing manifest"}
    store.write(replace(tag, **changes), MAX_MODELS)
    yield {"status": "success"}


def _from_file(store: Store, name: str, files: dict[str, str]) -> Tag:
    digest = _uploaded(store, files, "files")
    try:
        return tag_of_file(name, store.blob(digest), digest)
    except CourseError as error:
        raise ApiError("files", error.what) from error


def _adapter(store: Store, tag: Tag, adapters: dict[str, str]) -> str:
    """Return the digest of a LoRA adapter's file.

    Raises ApiError for another kind of file or architecture.
    """
    if tag.embeds:
        raise ApiError("adapters", "an adapter works with a language model only", "leave it out")
    digest = _uploaded(store, adapters, "adapters")
    try:
        fields, tensors = header_of(store.blob(digest))
        base = header_of(store.file(tag)).tensors
    except CourseError as error:
        raise ApiError("adapters", error.what) from error
    kind = fields.get("general.type", "model")  # without this field, llama.cpp takes a file for a model
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
