"""A hub on this machine: as much of the hub's protocol as its own library needs, with faults to order.

    with Hub({"course/haneul-300k": MODELS / "haneul-300k"}) as hub:
        snapshot_download("course/haneul-300k", endpoint=hub.url, cache_dir=...)
        hub.requests                                  # what was asked, and how many bytes were sent for it

A repository is a folder, a mapping of file names to bytes, or, with several revisions,
{"main": ..., "v1": ...} of those.
Git's symbolic links are files that hold the path they lead to, as on the hub.
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

LFS = (".safetensors", ".gguf", ".bin", ".pt", ".model")
Files = dict[str, bytes]
Stored = Path | Mapping[str, bytes]
Repository = Stored | Mapping[str, Stored]


@dataclass
class Request:
    """A request: method, path without query, range, bearer token; then the answer's status and body bytes."""

    method: str
    path: str
    range: str
    token: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """What goes wrong with requests whose path contains `where`, the first `times` times.

    status: refuse with it, with `code` as X-Error-Code and `said` as message;
    cut: break the connection after so many bytes of a body; stall: send so many bytes, then nothing more;
    flip: change the byte at this place; body: send this in place of the answer;
    more: send so many bytes beyond the end, without stating a length; deaf: know no ranges.
    """

    where: str = ""
    times: int = 1_000_000
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    status: int | None = None
    code: str | None = None
    said: str | None = None
    cut: int | None = None
    stall: int | None = None
    flip: int | None = None
    body: bytes | None = None
    more: int | None = None
    deaf: bool = False


class Revision:
    """The files of a commit, each with its size and hashes. A commit is named by their hash."""

    def __init__(self, files: Files, lies: Mapping[str, int]) -> None:
        self.files = files
        self.entries = {
            name: _entry(name, content, lies.get(name, len(content)))
            for name, content in sorted(files.items())
        }
        self.commit = hashlib.sha1(json.dumps(self.entries).encode()).hexdigest()


def _entry(name: str, content: bytes, size: int) -> dict[str, Any]:
    """A file as the hub lists it."""
    entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": git_sha1(content)}
    return entry | (
        {"lfs": {"oid": sha256(content), "size": size, "pointerSize": 130}} if name.endswith(LFS) else {}
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _read(stored: Stored) -> Files:
    if not isinstance(stored, Path):
        return dict(stored)
    paths = [p for p in stored.rglob("*") if p.is_symlink() or p.is_file()]
    return {
        p.relative_to(stored).as_posix(): str(p.readlink()).encode() if p.is_symlink() else p.read_bytes()
        for p in paths
    }


def _revisions(stored: Repository, lies: Mapping[str, int]) -> dict[str, Revision]:
    several = stored if isinstance(stored, Mapping) and "main" in stored else {"main": stored}
    return {name: Revision(_read(some), lies) for name, some in several.items()}  # type: ignore[arg-type]


class Hub:
    """The server. private, gated: repositories that need `token`; lies: file name -> size that it states."""

    def __init__(
        self,
        repositories: Mapping[str, Repository],
        *,
        token: str = "hf_right",
        private: tuple[str, ...] = (),
        gated: tuple[str, ...] = (),
        lies: Mapping[str, int] | None = None,
    ) -> None:
        self.repositories = {name: _revisions(stored, lies or {}) for name, stored in repositories.items()}
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

    def plant(self, where: str = "", **fault: Any) -> Fault:
        """Let something go wrong from now on; see Fault."""
        self.faults.append(Fault(where, **fault))
        return self.faults[-1]

    def fix(self) -> None:
        """Take all faults away, and forget what was asked."""
        self.faults.clear()
        self.requests.clear()

    def commit(self, repository: str, revision: str = "main") -> str:
        """The commit that a branch or tag stands for."""
        return self.repositories[repository][revision].commit

    def sent(self, where: str = "") -> int:
        """Bytes of bodies sent for paths that contain `where`."""
        return sum(r.sent for r in self.requests if where in r.path)

    def asked(self, where: str = "") -> list[Request]:
        """The requests whose path contains `where`."""
        return [r for r in self.requests if where in r.path]

    def fault(self, method: str, path: str) -> Fault:
        """What is to go wrong now; one that is used up is no more."""
        for fault in self.faults:
            if fault.where in path and method in fault.methods and fault.times > 0:
                fault.times -= 1
                return fault
        return Fault()

    def found(self, repository: str, revision: str) -> Revision | None:
        """A revision by branch, tag or commit."""
        there = self.repositories[repository]
        return there.get(revision) or next((r for r in there.values() if r.commit == revision), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # else each small answer waits 40 ms for the client's acknowledgement of its headers
    )

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.request_seen = Request(self.command, split.path, self.headers.get("Range", ""), token)
        self.hub.requests.append(self.request_seen)
        self.wrong = self.hub.fault(self.command, split.path)
        self.asked_body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.wrong.status:
                self._refuse(self.wrong.status, self.wrong.code, self.wrong.said or "planted")
            elif split.path.startswith("/api/models/"):
                self._api(split.path.removeprefix("/api/models/"), parse_qs(split.query))
            else:
                self._file(split.path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_POST = do_GET

    def _refuse(self, status: int, code: str | None, said: str) -> None:
        headers = {"X-Error-Message": said} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": said}).encode(), headers)

    def _allowed(self, repository: str, reading: bool) -> bool:
        """Whether a repository may be read; if not, answer as the hub does."""
        token = self.request_seen.token
        if token and token != self.hub.token:
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif repository not in self.hub.repositories or (repository in self.hub.private and not token):
            if token:
                self._refuse(404, "RepoNotFound", "Repository not found")
            else:
                self._refuse(401, None, "Invalid username or password.")
        elif reading and repository in self.hub.gated and not token:
            self._refuse(401, "GatedRepo", f"Access to model {repository} is restricted.")
        else:
            return True
        return False

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        """models/ID, models/ID/revision/R, models/ID/tree/R, models/ID/paths-info/R."""
        words = path.split("/")
        at = next((i for i, w in enumerate(words) if w in ("revision", "tree", "paths-info")), len(words))
        repository, kind = "/".join(words[:at]), words[at] if at < len(words) else "revision"
        if not self._allowed(repository, reading=False):
            return
        name = unquote(words[at + 1]) if at < len(words) else "main"
        revision = self.hub.found(repository, name)
        if revision is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {name}")
            return
        entries = list(revision.entries.values())
        if kind == "revision":
            said: Any = self._info(repository, revision, entries, "blobs" in query)
        elif kind == "tree":
            said = entries
        else:
            wanted = parse_qs(self.asked_body.decode())["paths"]
            said = [e for e in entries if e["path"] in wanted]
        self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _info(
        self, repository: str, revision: Revision, entries: list[dict[str, Any]], blobs: bool
    ) -> dict[str, Any]:
        siblings = []
        for e in entries:
            lfs = (
                {"lfs": {"sha256": e["lfs"]["oid"], "size": e["lfs"]["size"], "pointerSize": 130}}
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
        """/ID/resolve/REVISION/NAME, with ranges."""
        repository, found, rest = path.removeprefix("/").partition("/resolve/")
        revision_name, _, name = rest.partition("/")
        if not found or not self._allowed(repository, reading=True):
            if not found:
                self._refuse(404, None, "Not found")
            return
        revision = self.hub.found(repository, unquote(revision_name))
        if revision is None or unquote(name) not in revision.files:
            self._refuse(404, "RevisionNotFound" if revision is None else "EntryNotFound", "Not found")
            return
        entry, content = revision.entries[unquote(name)], revision.files[unquote(name)]
        digest = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"X-Repo-Commit": revision.commit, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if "lfs" in entry:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(entry["size"])}
        self._ranged(content, headers)

    def _ranged(self, content: bytes, headers: dict[str, str]) -> None:
        if self.wrong.flip is not None:
            content = bytes(b ^ (i == self.wrong.flip) for i, b in enumerate(content))
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if begin and not self.wrong.deaf:
            if begin >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            told = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
            self._send(206, content[begin:], headers | told)
        else:
            self._send(200, content, headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        wrong = self.wrong
        body = body if wrong.body is None else wrong.body
        self.request_seen.status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if wrong.more is None:
            self.send_header("Content-Length", str(len(body)))
        else:
            body += bytes(wrong.more)
            self.send_header("Connection", "close")  # its end is the end of the body
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = next((n for n in (wrong.cut, wrong.stall) if n is not None), len(body))
        for at in range(0, min(limit, len(body)), 1 << 16):
            piece = body[at : min(at + (1 << 16), limit)]
            self.wfile.write(piece)
            self.request_seen.sent += len(piece)
        self.wfile.flush()
        if wrong.stall is not None:
            self.hub.closing.wait(30)
        if wrong.cut is not None or wrong.stall is not None:
            self.close_connection = True
