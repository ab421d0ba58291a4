"""Run a model server of another project, or the course's own, as a process that ends with this one.

`engines.yaml` says how each server is started. A field of the model's specification becomes the server's flag
or environment variable; a field without one is refused.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from course_lib.errors import CourseError
from course_lib.models.schema.spec import ModelSpec
from course_lib.serve.server import bind

PROGRAM = Path(__file__).with_name("supervisor.py")
SHOWN_LINES = 8  # of the log, in an error
ASK_SECONDS = 2.0  # for one answer to the ready check
NOT_FLAGS = {"source", "driver", "task"}  # fields of ModelSpec that choose the model


class Preset(BaseModel):
    """How a server is installed, started and found ready; `engines.yaml` explains the fields."""

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
    """The servers of `engines.yaml` by name."""
    text = PROGRAM.with_name("engines.yaml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(fields) for name, fields in yaml.safe_load(text).items()}


def find_preset(engine: str) -> Preset:
    """The preset of a server. Raises CourseError for another name."""
    if engine not in presets():
        what = f"no server {engine!r}; there are {', '.join(presets())}"
        raise CourseError(what, "course serve --engine course")
    return presets()[engine]


class Start(NamedTuple):
    """How a server is started: its command, its variables, and the name of the model in requests."""

    command: list[str]
    variables: dict[str, str]
    request: str


def start_of(engine: str, spec: ModelSpec | None, port: int, arguments: Sequence[str] = ()) -> Start:
    """Return how a server is started with a model.

    spec: the model; None only for a server whose requests name it. arguments: added to the command.
    Raises CourseError for a field of the specification, or a value, for which the server has no flag.
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
            environment[preset.variables[name]] = f"{value:g}" if isinstance(value, float) else str(value)
        else:
            command += [word.replace("{value}", str(value)) for word in _flag(engine, preset, name, value)]
    *command, request = (_filled(part, words) for part in (*command, preset.request))
    return Start([*command, *arguments], environment, request)


def _filled(part: str, words: Mapping[str, object]) -> str:
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
    """What the server must be given as its model. Raises CourseError if the model has another form."""
    from course_lib.models.files.resolution import resolve

    path = resolve(spec.source)
    kind = "file" if path.suffix == ".gguf" else "folder"
    if preset.model != kind:
        needed = {"file": "a GGUF file", "folder": "a model folder"}[preset.model]
        export = {"file": f"course models export {path.name}", "folder": f"course models unpack {path.name}"}
        raise CourseError(f"{engine} needs {needed}; {spec.name} is a {kind}", export[preset.model])
    return str(path)


class ManagedServer:
    """A server process at `url`. It is started again after a crash, and ends with this object or process.

    log: the file with all that the server wrote. protocols: what it speaks. model: its name in requests.
    """

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
        server's own flags and variables. ready_timeout: seconds. restarts: how often it starts again after
        a crash, after pauses of .5, 1, 2 ... seconds. Raises CourseError if the server is not installed, the
        port is taken, the specification has a field without a flag, or the server is not ready in time.
        """
        self.engine, self.protocols = engine, find_preset(engine).protocols
        with bind(port) as free:  # refuses a port that another program has
            port = free.getsockname()[1]
        spec = None if model is None else ModelSpec.parse(model)
        command, variables, self.model = start_of(engine, spec, port, arguments)
        if shutil.which(command[0]) is None:
            what = f"{engine} is not installed: no program {command[0]}"
            raise CourseError(what, find_preset(engine).install)
        folder = tempfile.TemporaryDirectory(prefix="course-server-")
        self.url, self.log = f"http://127.0.0.1:{port}", log or Path(folder.name, "server.log")
        self.pids: list[int] = []  # of each start, the latest last
        order = {
            "command": command,
            "environment": os.environ | dict(environment or {}) | variables,
            "log": str(self.log),
            "restarts": restarts,
            "pause": 0.5,
        }
        self._watcher = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C interrupts the caller, which then ends the server
        )
        self._end = weakref.finalize(self, _end, self._watcher, folder)
        assert self._watcher.stdin is not None
        self._watcher.stdin.write(json.dumps(order) + "\n")
        self._watcher.stdin.flush()
        threading.Thread(target=_collect, args=(self._watcher.stdout, self.pids), daemon=True).start()
        try:
            self.wait_until_ready(ready_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def running(self) -> bool:
        """Whether the server runs, or is about to be started again."""
        return self._watcher.poll() is None

    def ready(self) -> bool:
        """Whether the server answers its ready check now."""
        import httpx

        try:
            path = find_preset(self.engine).ready
            return httpx.get(self.url + path, timeout=ASK_SECONDS, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, timeout: float) -> None:
        """Wait for the ready check, at most `timeout` seconds. Raises CourseError with the end of the log."""
        until = time.monotonic() + timeout
        while not self.ready():
            if not self.running:
                what = f"{self.engine} ended {len(self.pids)} times while it started:\n{self.last_lines()}"
                raise CourseError(what, "course doctor")
            if time.monotonic() > until:
                what = f"{self.engine} was not ready after {timeout:g} s; its log ends:\n{self.last_lines()}"
                raise CourseError(what, f"ManagedServer({self.engine!r}, ..., ready_timeout={timeout * 2:g})")
            time.sleep(0.05)

    def last_lines(self) -> str:
        """The end of the log, for messages."""
        lines = (
            self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        )
        return "\n".join(line[:200] for line in lines[-SHOWN_LINES:]) or "(it wrote nothing)"

    def close(self) -> None:
        """End the server: it is asked, and killed after five seconds. A second call does nothing."""
        self._end()

    def __enter__(self) -> ManagedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.engine} at {self.url}: {'running' if self.running else 'ended'}>"


def serve_with(engine: str, models: Sequence[str], port: int = 0, store: Path | None = None) -> int:
    """Start another server than the course's, and wait for Ctrl-C or its end. Return the exit status.

    models: at most one. Raises CourseError for more, for a store, and if the server ends.
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


def _collect(lines: Any, pids: list[int]) -> None:
    with lines:
        pids += (int(line) for line in lines)


def _end(watcher: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
    assert watcher.stdin is not None
    watcher.stdin.close()
    watcher.wait()
    folder.cleanup()
