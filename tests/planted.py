"""A server with planted answers that records its requests: for faults that no real server shows on demand."""

import json
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from course_lib.errors import CourseError
from course_lib.models import load

CHAT = {"openai": "/v1/chat/completions", "ollama": "/api/chat"}


class Planted(ThreadingHTTPServer):
    """answers: path -> (status, body) or a function of the handler. Bodies other than text become JSON."""

    daemon_threads = True

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.asked, self.connections = dict(answers), [], []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def get_request(self):
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def die(self):
        """Stop listening, and end the connections that are still open."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def bodies(self, path):
        """What was posted to a path, in order."""
        return [body for asked, _, body in self.asked if asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.server.asked.append(
            (self.path, dict(self.headers), json.loads(self.rfile.read(length)) if length else None)
        )
        answer = self.server.answers.get(self.path, (404, {"error": "nothing here"}))
        if callable(answer):
            answer(self)
        else:
            self.reply(*answer)

    do_POST = do_GET

    def reply(self, status, body, **headers):
        body = (
            body
            if isinstance(body, bytes)
            else (body if isinstance(body, str) else json.dumps(body)).encode()
        )
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def chunks(self, pieces, end=True):
        """A body in chunks; without its end it breaks off in the middle."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if end:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = not end

    def log_message(self, *_):
        pass


@contextmanager
def planted(answers):
    """Run such a server while the block runs."""
    server = Planted(answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.die()
        thread.join(5)


def answers(driver):
    """What a server answers where nothing is wrong: the least that each protocol asks for."""
    if driver == "openai":
        choice = {"index": 0, "message": {"role": "assistant", "content": " Hello "}, "finish_reason": "stop"}
        return {
            "/v1/models": (
                200,
                {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "me"}]},
            ),
            CHAT[driver]: (200, {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
        }
    done = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": True}
    return {
        "/api/version": (200, {"version": "0.40.2"}),
        "/api/show": (
            200,
            {
                "model_info": {
                    "general.architecture": "llama",
                    "llama.context_length": 4096,
                    "general.parameter_count": 7,
                },
                "capabilities": ["completion"],
            },
        ),
        "/api/generate": (200, done | {"response": "", "done_reason": "load"}),
        "/api/ps": (200, {"models": [{"model": "m:latest", "name": "m:latest", "context_length": 512}]}),
        "/api/tags": (200, {"models": []}),
        CHAT[driver]: (
            200,
            done
            | {
                "message": {"role": "assistant", "content": " Hello "},
                "done_reason": "stop",
                "prompt_eval_count": 5,
                "eval_count": 2,
            },
        ),
    }


def pieces(driver, texts, end=True):
    """A streamed answer, a text a piece."""
    if driver == "openai":
        events = [{"choices": [{"index": 0, "delta": {"content": t}, "finish_reason": None}]} for t in texts]
        events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}] if end else []
        return [f"data: {json.dumps(s)}\n\n".encode() for s in events] + [b"data: [DONE]\n\n"] * end
    events = [{"message": {"role": "assistant", "content": t}, "done": False} for t in texts]
    ended = {
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
    }
    return [json.dumps(s).encode() + b"\n" for s in events + ([ended | {"eval_count": 2}] if end else [])]


def reach(server, driver, **more):
    source = {"type": "server", "model": "m", "url": server.url + ("/v1" if driver == "openai" else "")}
    return load({"source": source | more.pop("source", {}), "driver": driver} | more)


def assert_error(engine, match):
    """The answer and the stream raise CourseError, and both say this."""
    with pytest.raises(CourseError, match=match):
        engine.generate(["hi"])
    with pytest.raises(CourseError, match=match):
        list(engine.stream("hi"))
