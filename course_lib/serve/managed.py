"""Run a model server (vLLM, Ollama, the course's own, ...) as a process that ends with this one.

`engines.yaml` describes how each server is started. A field of the model's specification becomes a flag or an
environment variable of the server; a field for which it has neither is rejected.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from course_lib.errors import CourseError
from course_lib.models.schema.spec import ModelSpec
from course_lib.serve.process import ServerProcess, free_port

NOT_FLAGS = {"source", "driver", "task"}  # fields of ModelSpec that choose the model


class Preset(BaseModel):
    """How a server is installed, started, and recognised as ready.

    install: a shell command, shown if the program is missing. command: with placeholders such as {port}.
    model: what the server loads at its start; "none" if it loads what a request names. request: the model's
    name in requests. ready: the URL path that answers once it is ready. protocols: the APIs that it offers.
    flags: field of ModelSpec (or field -> value) -> flags. variables: field of ModelSpec -> environment
    variable.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    install: str
    command: tuple[str, ...]
    model: Literal["file", "folder", "none"]
    request: str = "{name}"
    ready: str
    protocols: tuple[Literal["ollama", "openai", "tgi"], ...]
    flags: dict[str, tuple[str, ...] | dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    variables: dict[str, str] = Field(default_factory=dict)


@functools.cache
def presets() -> dict[str, Preset]:
    """Return server name -> preset, from `engines.yaml`."""
    text = Path(__file__).with_name("engines.yaml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(fields) for name, fields in yaml.safe_load(text).items()}


def find_preset(engine: str) -> Preset:
    """Return the preset of a server. Raises CourseError for an unknown name."""
    if engine not in presets():
        what = f"no server {engine!r}; there are {', '.join(presets())}"
        raise CourseError(what, "course serve --engine course")
    return presets()[engine]


class StartCommand(NamedTuple):
    """A command with environment variables, and the model's name in requests to the server."""

    command: list[str]
    variables: dict[str, str]
    request: str


def start_command(
    engine: str, spec: ModelSpec | None, port: int, arguments: Sequence[str] = ()
) -> StartCommand:
    """Return the command that starts a server with a model.

    spec: the model; None only for a server that takes the model's name in each request. arguments: appended
    to the command. Raises CourseError for a field of the specification, or a value, for which the server has
    no flag.
    """
    preset = find_preset(engine)
    if spec is None and preset.model != "none":
        fix = f"course serve --engine {engine} --model haneul-4m"
        raise CourseError(f"{engine} needs a model when it starts", fix)
    fields = {name: getattr(spec, name) for name in spec.model_fields_set - NOT_FLAGS} if spec else {}
    slots = fields.get("batch_size") or 1
    words = {
        "port": port,
        "name": spec.name if spec else "",
        "slots": slots,
        "context_of_all_slots": slots * (fields.get("context_length") or 0),
        "model": _model(engine, preset, spec) if spec and preset.model != "none" else "",
    }
    environment = {preset.variables["port"]: f"127.0.0.1:{port}"} if "port" in preset.variables else {}
    command = [sys.executable if word == "python" else word for word in preset.command]
    for name, value in sorted(fields.items()):
        if name in preset.variables:
            # keep_alive; Ollama ignores a fraction of a second without its unit
            environment[preset.variables[name]] = f"{value}s" if isinstance(value, float) else str(value)
        else:
            command += [word.replace("{value}", str(value)) for word in _flag(engine, preset, name, value)]
    *command, request = (_filled(part, words) for part in (*command, preset.request))
    return StartCommand([*command, *arguments], environment, request)


def _filled(part: str, words: Mapping[str, object]) -> str:
    """Return a part of a command with the values of its placeholders."""
    for word, value in words.items():
        part = part.replace(f"{{{word}}}", str(value))
    return part


def _flag(engine: str, preset: Preset, name: str, value: object) -> tuple[str, ...]:
    flags = preset.flags.get(name)
    if isinstance(flags, dict):
        flags = flags.get(str(value))
    if flags is None:
        known = ", ".join(sorted({*preset.flags, *preset.variables} - {"port"})) or "no field"
        raise CourseError(
            f"{engine} has no flag for {name}={value!r}; it has flags for {known}",
            f"leave {name} out, or give the server's own flag in `arguments`",
        )
    return flags


def _model(engine: str, preset: Preset, spec: ModelSpec) -> str:
    """Return the file or folder to give to the server.

    Raises CourseError if the server needs the other kind.
    """
    from course_lib.models.files.resolution import resolve

    path = resolve(spec.source)
    kind = "file" if path.suffix == ".gguf" else "folder"
    if preset.model != kind:
        needed = {"file": "a GGUF file", "folder": "a model folder"}[preset.model]
        export = {"file": f"course models export {path.name}", "folder": f"course models unpack {path.name}"}
        raise CourseError(f"{engine} needs {needed}; {spec.name} is a {kind}", export[preset.model])
    return str(path)


class ManagedServer(ServerProcess):
    """A model server as a process. protocols: the APIs that it offers. model: its name in requests."""

    def __init__(
        self,
        engine: str,
        model: Any = None,
        *,
        port: int = 0,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        ready_timeout: float = 300.0,
        restarts: int = 3,
    ) -> None:
        """Start the server and wait until it is ready.

        model: a specification as `load` takes it. port: 0 chooses a free one. arguments, environment: the
        server's own flags and variables. ready_timeout: seconds. restarts: how often it is restarted after a
        crash, with pauses of 0.5, 1, 2 ... seconds. Raises CourseError if the server is not installed, the
        port is taken, the specification has a field without a flag, or the server is not ready in time.
        """
        preset, port = find_preset(engine), free_port(port)
        spec = None if model is None else ModelSpec.parse(model)
        command, variables, self.model = start_command(engine, spec, port, arguments)
        self.protocols = preset.protocols
        super().__init__(
            engine,
            command,
            port=port,
            ready=preset.ready,
            install=preset.install,
            environment={**(environment or {}), **variables},
            log=log,
            ready_timeout=ready_timeout,
            restarts=restarts,
        )


def serve_with(engine: str, models: Sequence[str], port: int = 0, store: Path | None = None) -> int:
    """Start a server other than the course's, and wait for Ctrl-C or its end. Return the exit status.

    models: at most one. Raises CourseError for more, for a `store` (which only the course's server has), and
    if the server ends.
    """
    if store or len(models) > 1:
        what = f"{engine} serves one model and has no --store: {[*models, *([store] if store else [])]}"
        raise CourseError(what, f"course serve --engine {engine} --model haneul-4m")
    with ManagedServer(engine, *models, port=port) as server, contextlib.suppress(KeyboardInterrupt):
        print(f"{engine} is ready at {server.url} and writes to {server.log}. Ctrl-C ends it.", flush=True)
        while server.running:
            time.sleep(0.2)
        what = f"{engine} ended {len(server.pids)} times:\n{server.last_lines()}"
        raise CourseError(what, "course doctor")
    return 0
