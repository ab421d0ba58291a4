"""A fake model server with given responses that records its requests, to test faults of a server."""

import json
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from course_lib.errors import CourseError
from course_lib.models import load

CHAT = {"openai": "/v1/chat/completions", "ollama": "/api/chat"}


class FakeServer(ThreadingHTTPServer):
    """responses: path -> (status, body), or a function of the handler. A dict or list becomes JSON.

    requests: (path, headers, body) of each request, in order.
    """

    daemon_threads = True

    def __init__(self, responses):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.responses, self.requests, self.connections = dict(responses), [], []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def get_request(self):
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def stop(self):
        """Stop listening, and close all connections."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def bodies(self, path):
        """The bodies of the requests for a path, in order."""
        return [body for requested, _, body in self.requests if requested == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.requests.append((self.path, dict(self.headers), body))
        response = self.server.responses.get(self.path, (404, {"error": "not found"}))
        if callable(response):
            response(self)
        else:
            self.reply(*response)

    do_POST = do_GET

    def reply(self, status, body, **headers):
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_chunks(self, pieces, end=True):
        """Send a chunked body; without the end marker, the connection breaks in the middle of the body."""
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
def fake_server(responses):
    """Run a FakeServer while the block runs."""
    server = FakeServer(responses)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(5)


def default_responses(driver):
    """The responses of a server without faults: the minimum that the protocol of the driver requires."""
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


def stream_chunks(driver, texts, end=True):
    """The chunks of a streamed answer, one for each text; `end` adds the event with the finish reason."""
    if driver == "openai":
        events = [{"choices": [{"index": 0, "delta": {"content": t}, "finish_reason": None}]} for t in texts]
        events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}] if end else []
        return [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"] * end
    events = [{"message": {"role": "assistant", "content": t}, "done": False} for t in texts]
    if end:
        counts = {"prompt_eval_count": 5, "eval_count": 2}
        message = {"role": "assistant", "content": ""}
        events.append({"message": message, "done": True, "done_reason": "stop"} | counts)
    return [json.dumps(event).encode() + b"\n" for event in events]


def load_from(server, driver, **fields):
    """Load the model `m` of a server. fields: further fields of the ModelSpec, also of its `source`."""
    source = {"type": "server", "model": "m", "url": server.url + ("/v1" if driver == "openai" else "")}
    return load({"source": source | fields.pop("source", {}), "driver": driver} | fields)


def assert_raises(engine, match):
    """`generate` and `stream` raise a CourseError whose message matches."""
    with pytest.raises(CourseError, match=match):
        engine.generate(["hi"])
    with pytest.raises(CourseError, match=match):
        list(engine.stream("hi"))
