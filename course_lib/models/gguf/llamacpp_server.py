"""Run llama.cpp in a process of its own, and call it by HTTP through a socket that no other user can open.

GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from course_lib.errors import CourseError
from course_lib.measure.hardware import computing_threads
from course_lib.models.schema.spec import ModelSpec

SMALL_MODEL_BYTES = 64_000_000  # for smaller models, threads mostly wait for each other (measured)
# A smaller model writes with one thread: a token is so little work that sleeping threads delay it (measured
# on two cores, docs/llamacpp.md; the limit is a guess).
ONE_WRITER_BYTES = 150_000_000
LONGEST_FOLDER = 60  # bytes, of 104 to 108 that the path of a socket may have
STOP_SECONDS, END_SECONDS = 0.1, 5.0  # between two looks at `stop`; for the process to end by itself
# low_cpu_mem_usage -> llama_load_mode: automatic, mapped into memory (mmap), or read into it
LOAD_MODES = {None: -1, True: 1, False: 0}
MEAN_POOLING = 1  # a value of llama_pooling_type
SEPARATOR = -1  # separates the texts of one tokenization request; no token has this id
PROGRAM = Path(__file__).with_name("llamacpp_process.py")


class PrivateFolder:
    """A folder for sockets and converted files, which only this user can enter.

    It is removed with this object or this process, but not with a forked process that has a copy of it, as
    tempfile.TemporaryDirectory would be.
    """

    def __init__(self) -> None:
        is_short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER
        self.name = tempfile.mkdtemp(prefix="course-gguf-", dir=None if is_short else "/tmp")
        self.cleanup = weakref.finalize(self, _remove, self.name, os.getpid())


def settings(spec: ModelSpec, file: Path, slots: int, context: int, threads: int) -> dict[str, Any]:
    """Fields of llama.cpp's CommonParams for one instance of a model."""
    embeds = spec.task == "text-embedding"  # llama.cpp must read a text in one piece to embed it
    spins = os.environ.get("OMP_WAIT_POLICY", "").lower() == "active"
    one_writer = file.stat().st_size < ONE_WRITER_BYTES and not spins
    return {
        "model.path": str(file),
        "model_alias": [spec.name],
        "n_parallel": slots,
        "n_ctx": slots * context,
        "cpuparams.n_threads": 1 if one_writer else threads,  # for one token
        "cpuparams_batch.n_threads": threads,  # for several: a prompt, or the next tokens of several texts
        "cpuparams.poll": 0,  # threads sleep while they wait (in builds without the library OpenMP)
        "cpuparams_batch.poll": 0,
        "n_threads_http": slots + 1,
        "load_mode": LOAD_MODES[spec.low_cpu_mem_usage],
        "cache_ram_mib": 0,  # the default stores the KV caches of prompts, up to 8 GiB (measured)
        "warmup": False,
        "ui": False,
        "verbosity": 1,  # errors
        "embedding": embeds,
    } | ({"pooling_type": MEAN_POOLING, "n_batch": context, "n_ubatch": context} if embeds else {})


class LlamaServer:
    """A model in a llama.cpp process; a small model runs as several instances with one thread each.

    context: The maximum number of tokens of a prompt and its answer. slots: How many texts are computed at
    the same time. threads: How many read a text, see `settings`. props, meta: What llama.cpp says
    about the model.
    The process ends with `close`, this object, or this process; that ends running requests immediately.
    """

    def __init__(
        self,
        spec: ModelSpec,
        file: Path,
        context: int,
        adapters: list[tuple[Path, float]],
        folder: PrivateFolder,
    ) -> None:
        """Load a GGUF file. adapters: Pairs of a GGUF file and its weight. folder: The folder for sockets.

        Raises CourseError if llama.cpp cannot load the file, and if it does not find the device.
        """
        slots, cores = spec.batch_size or 1, computing_threads()
        is_small = file.stat().st_size < SMALL_MODEL_BYTES
        instances = min(cores, slots) if is_small else 1
        if spec.task == "text-embedding":
            slots = instances  # a vector would depend on the texts that are computed with it (measured)
        self.name, self.slots, self.threads = spec.name, slots, 1 if is_small else cores
        self._key = secrets.token_urlsafe()
        self._running = list[str]()  # the address to which each running request was sent
        self._start(folder)
        has_sockets = hasattr(socket, "AF_UNIX")  # else by a port of this machine, which asks for the key
        order = {
            "instances": [
                settings(spec, file, len(range(i, slots, instances)), context, self.threads)
                | {"hostnames": [f"{folder.name}/{i}.sock" if has_sockets else "127.0.0.1"]}
                | {"api_keys": [self._key]}
                for i in range(instances)
            ],
            "gpu": {"auto": None, "cpu": False}.get(spec.device, True),
            "adapters": [(str(path), weight) for path, weight in adapters],
            "folder": folder.name,
        }
        answer = self._load(json.dumps(order))
        if "error" in answer:
            self.close()
            what = f"llama.cpp cannot load {spec.name} with device={spec.device!r}: {answer['error']}"
            raise CourseError(what, 'load(..., device="auto")' if order["gpu"] else "course doctor")
        self._addresses: list[str] = answer["addresses"]
        self.props = self.request("/props")
        self.meta: dict[str, Any] = self.request("/v1/models")["data"][0]["meta"]
        self.context = int(self.props["default_generation_settings"]["n_ctx"])

    def _start(self, folder: PrivateFolder) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},  # the last line is the reason of a crash
            start_new_session=True,  # Ctrl-C interrupts the caller, not llama.cpp
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        self._errors = deque[str](maxlen=100)  # the last ones
        threading.Thread(target=_collect, args=(self._process.stderr, self._errors), daemon=True).start()
        self._end = weakref.finalize(self, _end, self._process, folder, os.getpid())

    def _load(self, order: str) -> dict[str, Any]:
        """Send the order, and wait for the answer: the addresses, or an error."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._exit_message()}
        return answer | ({"error": [*self._errors][-10:][0]} if "error" in answer and self._errors else {})

    def _exit_message(self) -> str:
        """How the process ended, and its last lines of output."""
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "its process runs, but does not answer"
        return " ".join([f"its process ended with status {status}", *[*self._errors][-10:]])[:1000]

    def error_with(self, mark: str, start: str) -> str:
        """What follows `start` in the error message of llama.cpp that quotes `mark`; "" if there is none.

        The messages come through another pipe than the responses, and may come after them.
        """
        for wait in (0.0, 0.1, 0.4):
            time.sleep(wait)
            text, marked, _ = "\n".join([*self._errors]).partition(mark)
            if marked:  # after the message come the lines of the schema, which are numbered
                lines = text.rpartition(start)[2].rpartition("\n1 |")[0].splitlines()
                return " ".join(line for line in lines if line.strip("^"))
        return ""

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def closed(self) -> bool:
        return not self._end.alive

    def close(self) -> None:
        """End the process. Requests that run in other threads raise CourseError."""
        self._end()

    def request(self, path: str, body: Any = None, stop: threading.Event | None = None) -> Any:
        """The JSON response to a POST of `body`, or to a GET without one.

        stop: setting it ends the request within STOP_SECONDS, with a CancelledError. Raises CourseError for
        an error response, and if the process has ended.
        """
        with self._response(path, body, stop) as response:
            return _checked(json.loads(response.read()))

    def stream(
        self, path: str, body: dict[str, Any], stop: threading.Event | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the events of a streamed response as they arrive. Leaving the loop early stops llama.cpp.

        stop: setting it before the first event ends the request, with a CancelledError.
        """
        with self._response(path, body | {"stream": True}, stop) as response:
            if response.status != 200:
                _checked(json.loads(response.read()))
            for line in response:
                if line.startswith(b"data: {"):
                    yield _checked(json.loads(line.removeprefix(b"data: ")))

    def tokenize(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """Return the token ids of each text, without the `added_ids`, by one request.

        special: Whether "<s>" in a text, for example, becomes that token. llama.cpp accepts a list of texts
        and ids; it tokenizes the texts, and leaves the SEPARATOR between them.
        """
        content = [part for text in texts for part in (text, SEPARATOR)]
        body = {"content": content, "add_special": False, "parse_special": special}
        tokens = iter(self.request("/tokenize", body)["tokens"])
        return [list(itertools.takewhile(lambda token: token != SEPARATOR, tokens)) for _ in texts]

    @functools.cached_property
    def added_ids(self) -> tuple[list[int], list[int]]:
        """The special tokens before a text, [] or that for its beginning (BOS), and after it, by the file."""
        added = self.request("/tokenize", {"content": "", "add_special": True})["tokens"]
        before = int(added[:1] == self.tokenize([self.props["bos_token"]])[0])
        return added[:before], added[before:]

    @contextmanager
    def _response(
        self, path: str, body: Any, stop: threading.Event | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        address = min(self._addresses, key=self._running.count)  # the instance with the fewest requests
        scheme, place = address.split("://")
        connection = http.client.HTTPConnection("localhost" if scheme == "unix" else place)
        self._running.append(address)
        try:
            if scheme == "unix":
                connection.sock = socket.socket(getattr(socket, "AF_UNIX", -1))
                connection.sock.connect(place)
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
            connection.request("GET" if body is None else "POST", path, data, headers)
            if stop is not None:
                _wait(connection.sock, stop)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            if self.closed:
                raise CourseError(f"{self.name} has been closed", "load it again") from error
            what = f"llama.cpp does not answer: {self._exit_message()}"
            raise CourseError(what, "load it again") from error
        finally:
            connection.close()
            self._running.remove(address)


def _wait(connection: socket.socket, stop: threading.Event) -> None:
    """Wait for the first byte of a response. Raises CancelledError after `stop` was set."""
    connection.settimeout(STOP_SECONDS)
    while True:
        try:
            connection.recv(1, socket.MSG_PEEK)
            return connection.settimeout(None)
        except TimeoutError:
            if stop.is_set():
                raise CancelledError from None


def _checked(response: Any) -> Any:
    """The response. Raises CourseError with llama.cpp's message if it is an error."""
    if isinstance(response, dict) and "error" in response:
        error = response["error"]
        message = error.get("message", error) if isinstance(error, dict) else error
        raise CourseError(f"llama.cpp refused: {message}", "course doctor")
    return response


def _collect(stream: IO[str], lines: deque[str]) -> None:
    with stream:
        lines.extend(line.split(": ", 1)[-1].strip()[:500] for line in stream)


def _remove(folder: str, owner: int) -> None:
    """Remove a folder in the process `owner`, which made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen[str], folder: PrivateFolder, owner: int) -> None:
    """End the process, which ends when its input is closed, and remove its folder.

    owner: the process that started it; a forked one, which has copies of its objects, leaves it alone.
    """
    if os.getpid() != owner:
        return
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    folder.cleanup()
