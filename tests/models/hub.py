"""A local test server with the part of the Hugging Face hub's HTTP API that huggingface_hub uses.

Tests can plant faults in it: error statuses, lost connections, wrong bytes.

    with Hub({"course/haneul-300k": MODELS / "haneul-300k"}) as hub:
        snapshot_download("course/haneul-300k", endpoint=hub.url, cache_dir=...)
        hub.requests                                  # the requests, each with the bytes sent in answer

A repository is a folder, or a mapping of file names to bytes. One with several revisions is a mapping of
revision names to those: {"main": ..., "v1": ...}. A symbolic link is served as a file with the target's path
as its content, as on the hub.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CHUNK_BYTES = 1 << 16
POINTER_BYTES = 130  # size of a Git LFS pointer file
LFS_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt", ".model")
Files = dict[str, bytes]
Stored = Path | Mapping[str, bytes]
Repository = Stored | Mapping[str, Stored]


@dataclass
class Request:
    """A request, and the answer to it.

    path: without the query; token: the bearer token; sent: bytes of the answer's body that were sent.
    """

    method: str
    path: str
    range: str
    token: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """A fault in the answers to the first `times` requests whose path contains `path_part`.

    status: answer with this error status, `code` as X-Error-Code and `message` as the error message;
    cut: close the connection after this many bytes of the body; stall: send this many bytes, then wait;
    flip: change the byte at this index; body: send this body instead;
    extra: send this many bytes after the end, and no Content-Length; no_ranges: ignore the Range header.
    """

    path_part: str = ""
    times: int = 1_000_000
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    status: int | None = None
    code: str | None = None
    message: str | None = None
    cut: int | None = None
    stall: int | None = None
    flip: int | None = None
    body: bytes | None = None
    extra: int | None = None
    no_ranges: bool = False


class Revision:
    """The files of a commit, with their sizes and hashes. The commit's id is a hash of these.

    stated_sizes: file name -> size that the hub states, for files whose real size is another.
    """

    def __init__(self, files: Files, stated_sizes: Mapping[str, int]) -> None:
        self.files = files
        self.entries = {
            name: _entry(name, content, stated_sizes.get(name, len(content)))
            for name, content in sorted(files.items())
        }
        self.commit = hashlib.sha1(json.dumps(self.entries).encode()).hexdigest()


def _entry(name: str, content: bytes, size: int) -> dict[str, Any]:
    """Return a file's entry in the hub's list."""
    entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": git_sha1(content)}
    return entry | (
        {"lfs": {"oid": sha256(content), "size": size, "pointerSize": POINTER_BYTES}}
        if name.endswith(LFS_SUFFIXES)
        else {}
    )


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    """Return the hash that git gives a file with this content, in hex."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _read(stored: Stored) -> Files:
    """Return the contents of a folder or mapping by file name."""
    if not isinstance(stored, Path):
        return dict(stored)
    paths = [p for p in stored.rglob("*") if p.is_symlink() or p.is_file()]
    return {
        p.relative_to(stored).as_posix(): str(p.readlink()).encode() if p.is_symlink() else p.read_bytes()
        for p in paths
    }


def _revisions(stored: Repository, stated_sizes: Mapping[str, int]) -> dict[str, Revision]:
    """Return a repository's revisions by name."""
    revisions = stored if isinstance(stored, Mapping) and "main" in stored else {"main": stored}
    return {name: Revision(_read(files), stated_sizes) for name, files in revisions.items()}  # type: ignore[arg-type]


class Hub:
    """The server.

    private, gated: repositories that need `token`; stated_sizes: false sizes to state, see `Revision`.
    """

    def __init__(
        self,
        repositories: Mapping[str, Repository],
        *,
        token: str = "hf_right",
        private: tuple[str, ...] = (),
        gated: tuple[str, ...] = (),
        stated_sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.repositories = {
            name: _revisions(stored, stated_sizes or {}) for name, stored in repositories.items()
        }
        self.token, self.private, self.gated = token, private, gated
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()

    def __enter__(self) -> Hub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def plant(self, path_part: str = "", **fault: Any) -> Fault:
        """Add a fault, which affects the requests from now on; see Fault."""
        self.faults.append(Fault(path_part, **fault))
        return self.faults[-1]

    def reset(self) -> None:
        """Remove all faults, and clear the record of requests."""
        self.faults.clear()
        self.requests.clear()

    def commit(self, repository: str, revision: str = "main") -> str:
        """Return the commit of a branch or tag."""
        return self.repositories[repository][revision].commit

    def bytes_sent(self, path_part: str = "") -> int:
        """Return the bytes sent in answers to requests whose path contains `path_part`."""
        return sum(r.sent for r in self.requests_for(path_part))

    def requests_for(self, path_part: str = "") -> list[Request]:
        """Return the requests whose path contains `path_part`."""
        return [r for r in self.requests if path_part in r.path]

    def next_fault(self, method: str, path: str) -> Fault:
        """Return the fault for a request, and count it as used once; an empty Fault if there is none."""
        for fault in self.faults:
            if fault.path_part in path and method in fault.methods and fault.times > 0:
                fault.times -= 1
                return fault
        return Fault()

    def find_revision(self, repository: str, name: str) -> Revision | None:
        """Return a revision by branch, tag or commit; None if there is none."""
        revisions = self.repositories[repository]
        return revisions.get(name) or next((r for r in revisions.values() if r.commit == name), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each small answer waits 40 ms for the client's TCP ACK

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.record = Request(self.command, split.path, self.headers.get("Range", ""), token)
        self.hub.requests.append(self.record)
        self.fault = self.hub.next_fault(self.command, split.path)
        self.request_body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.fault.status:
                self._refuse(self.fault.status, self.fault.code, self.fault.message or "planted")
            elif split.path.startswith("/api/models/"):
                self._api(split.path.removeprefix("/api/models/"), parse_qs(split.query))
            else:
                self._file(split.path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_POST = do_GET

    def _refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _allowed(self, repository: str, reads_file: bool) -> bool:
        """Whether the request may read a repository; if not, send the hub's error answer."""
        token = self.record.token
        if token and token != self.hub.token:
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif repository not in self.hub.repositories or (repository in self.hub.private and not token):
            if token:
                self._refuse(404, "RepoNotFound", "Repository not found")
            else:
                self._refuse(401, None, "Invalid username or password.")
        elif reads_file and repository in self.hub.gated and not token:
            self._refuse(401, "GatedRepo", f"Access to model {repository} is restricted.")
        else:
            return True
        return False

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        """Answer /api/models/ID, and /revision/R, /tree/R or /paths-info/R after it. path: from ID on."""
        parts = path.split("/")
        i = next((i for i, p in enumerate(parts) if p in ("revision", "tree", "paths-info")), len(parts))
        repository, endpoint = "/".join(parts[:i]), parts[i] if i < len(parts) else "revision"
        if not self._allowed(repository, reads_file=False):
            return
        name = unquote(parts[i + 1]) if i < len(parts) else "main"
        revision = self.hub.find_revision(repository, name)
        if revision is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
            return
        entries = list(revision.entries.values())
        if endpoint == "revision":
            payload: Any = self._info(repository, revision, entries, "blobs" in query)
        elif endpoint == "tree":
            payload = entries
        else:
            wanted = parse_qs(self.request_body.decode())["paths"]
            payload = [e for e in entries if e["path"] in wanted]
        self._send(200, json.dumps(payload).encode(), {"Content-Type": "application/json"})

    def _info(
        self, repository: str, revision: Revision, entries: list[dict[str, Any]], blobs: bool
    ) -> dict[str, Any]:
        """Return the hub's information on a model. blobs: with sizes and hashes of its files."""
        siblings = []
        for e in entries:
            lfs = (
                {"lfs": {"sha256": e["lfs"]["oid"], "size": e["lfs"]["size"], "pointerSize": POINTER_BYTES}}
                if "lfs" in e
                else {}
            )
            siblings.append(
                {"rfilename": e["path"]} | ({"size": e["size"], "blobId": e["oid"]} | lfs if blobs else {})
            )
        gated = "auto" if repository in self.hub.gated else False
        private = repository in self.hub.private
        return {
            "id": repository,
            "sha": revision.commit,
            "private": private,
            "gated": gated,
            "siblings": siblings,
        }

    def _file(self, path: str) -> None:
        """Answer /ID/resolve/REVISION/NAME, the request for a file."""
        repository, separator, rest = path.removeprefix("/").partition("/resolve/")
        revision_name, _, name = rest.partition("/")
        if not separator or not self._allowed(repository, reads_file=True):
            if not separator:
                self._refuse(404, None, "Not found")
            return
        revision = self.hub.find_revision(repository, unquote(revision_name))
        if revision is None or unquote(name) not in revision.files:
            self._refuse(404, "RevisionNotFound" if revision is None else "EntryNotFound", "Not found")
            return
        entry, content = revision.entries[unquote(name)], revision.files[unquote(name)]
        digest = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"X-Repo-Commit": revision.commit, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if "lfs" in entry:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(entry["size"])}
        self._send_content(content, headers)

    def _send_content(self, content: bytes, headers: dict[str, str]) -> None:
        """Send a file, or the part of it that the Range header asks for."""
        if self.fault.flip is not None:
            content = bytes(b ^ (i == self.fault.flip) for i, b in enumerate(content))
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if begin and not self.fault.no_ranges:
            if begin >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            content_range = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
            self._send(206, content[begin:], headers | content_range)
        else:
            self._send(200, content, headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Send an answer, changed as the planted fault says."""
        fault = self.fault
        body = body if fault.body is None else fault.body
        self.record.status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if fault.extra is None:
            self.send_header("Content-Length", str(len(body)))
        else:
            body += bytes(fault.extra)
            self.send_header("Connection", "close")  # the end of the connection marks the end of the body
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = next((n for n in (fault.cut, fault.stall) if n is not None), len(body))
        for start in range(0, min(limit, len(body)), CHUNK_BYTES):
            chunk = body[start : min(start + CHUNK_BYTES, limit)]
            self.wfile.write(chunk)
            self.record.sent += len(chunk)
        self.wfile.flush()
        if fault.stall is not None:
            self.hub.closing.wait(30)
        if fault.cut is not None or fault.stall is not None:
            self.close_connection = True
