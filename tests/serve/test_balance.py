"""The load balancer: whom it asks, what is lost when a replica is killed, and that the replica comes back."""

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import ollama
import openai
import pytest

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.serve.balance import Balancer
from course_lib.serve.managed import ManagedServer

CUT = "peer closed connection without sending complete message body"
MESSAGES = [{"role": "user", "content": "Hello."}]


@pytest.fixture
def replica():
    """Start a server that counts its requests in `asked` and the pieces of an answer in `written`.

    ends: the number of pieces after which it cuts the connection; 0: before the answer begins.
    held: an event for which each answer waits. pause: seconds before each piece.
    """
    started = []

    def start(ends=None, held=None, pieces=4, pause=0.0):
        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                models = b'{"data": [{"id": "m"}]}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(models)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(models)

            def do_POST(self):
                server.asked += 1
                server.body = self.rfile.read(int(self.headers["Content-Length"]))
                if held:
                    held.wait(20)
                if ends == 0:
                    return self.cut()
                with contextlib.suppress(ConnectionError):
                    self.answer()

            def answer(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.send_header("Connection", "close")
                self.end_headers()
                for i in range(pieces):
                    if i == ends:
                        return self.cut()
                    server.written = i
                    time.sleep(pause)
                    delta = {"choices": [{"index": 0, "delta": {"content": f"{i} "}, "finish_reason": None}]}
                    self.piece(f"data: {json.dumps(delta)}\n\n")
                self.piece("data: [DONE]\n\n")
                self.piece("")

            def piece(self, text):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text.encode()))

            def cut(self):
                self.close_connection = True

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        server.asked, server.url = 0, f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def ask(balancer, **fields):
    return httpx.post(balancer.url + "/v1/chat/completions", json=fields, timeout=30)


def test_a_request_goes_to_the_replica_with_the_fewest_in_progress(replica):
    held = threading.Event()
    slow, quick = replica(held=held), replica()
    with Balancer([slow.url, quick.url]) as balancer, ThreadPoolExecutor() as pool:
        first = []
        while not slow.asked:  # with none in progress, either may get it
            first.append(pool.submit(ask, balancer))
            while not slow.asked and not first[-1].done():
                time.sleep(0.01)
        before = quick.asked
        for _ in range(5):
            assert ask(balancer).headers["x-replica"] == balancer.replicas[1]
        assert (slow.asked, quick.asked) == (1, before + 5)
        held.set()
        assert all(request.result().status_code == 200 for request in first)


def test_a_request_that_had_not_begun_is_sent_once_more_and_the_replica_cools_down(replica):
    broken, sound, text = replica(ends=0), replica(), "x" * 3_900_000
    with Balancer([broken.url, sound.url], cool_down=60) as balancer:
        for i in range(5):
            assert "3 " in ask(balancer, n=i, text=text).text
            assert json.loads(sound.body) == {"n": i, "text": text}  # whole, also at the second try
        assert (broken.asked, sound.asked) == (1, 5)


def test_an_answer_that_had_begun_is_not_repeated_and_ends_with_an_error(replica):
    broken = replica(ends=2)
    with Balancer([broken.url]) as balancer:
        client = openai.OpenAI(base_url=balancer.url + "/v1", api_key="none", max_retries=0)
        got = []
        with pytest.raises(openai.APIConnectionError) as told:
            for piece in client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
                got.append(piece.choices[0].delta.content)
        assert (got, broken.asked) == (["0 ", "1 "], 1) and CUT in str(told.value.__cause__)
        source = {"type": "server", "url": f"{balancer.url}/v1", "model": "m"}
        with pytest.raises(CourseError, match=f"the connection to {balancer.url}/v1 broke: {CUT}"):
            list(load({"source": source, "driver": "openai"}).stream("Hello."))
        assert broken.asked == 2


def test_a_stream_passes_at_once_and_a_client_that_leaves_ends_it(replica):
    long = replica(pieces=200, pause=0.05)
    with Balancer([long.url]) as balancer:
        with httpx.stream("POST", balancer.url + "/v1/chat/completions", json={}, timeout=30) as response:
            assert next(response.iter_text()).startswith("data: ")
            assert long.written < 100
        time.sleep(1)
        written = long.written
        time.sleep(0.5)
        assert long.written == written < 199


def test_without_a_replica_both_protocols_say_so(replica):
    only = replica()
    with Balancer([only.url], wait=0.2) as balancer:
        only.shutdown()
        only.server_close()
        client = openai.OpenAI(base_url=balancer.url + "/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="no replica answered"):
            client.chat.completions.create(model="m", messages=MESSAGES)
        with pytest.raises(ollama.ResponseError, match=r"^no replica answered"):
            ollama.Client(balancer.url).chat("m", MESSAGES)


def test_a_killed_replica_loses_nothing_that_had_not_begun_and_is_taken_back():
    """Six clients, three of them streaming; the replica that is killed is started again by its supervisor."""
    folder = str(MODELS / "haneul-300k")
    killed, answers, back = threading.Event(), [], threading.Event()

    def client(balancer, stream):
        until = time.monotonic() + 60
        body = {"model": "haneul-300k", "messages": MESSAGES, "max_tokens": 48, "stream": stream}
        while not back.is_set() and time.monotonic() < until:
            late, text, by, error = killed.is_set(), "", "", ""
            try:
                with httpx.stream("POST", balancer.url + "/v1/chat/completions", json=body, timeout=60) as r:
                    by = r.headers["x-replica"]
                    text = "".join(r.iter_text())
                    assert r.status_code == 200 and (not stream or text.endswith("[DONE]\n\n"))
            except (httpx.HTTPError, AssertionError) as problem:
                error = f"{type(problem).__name__}: {problem}"
            answers.append((late, stream, by, error))
            if late and by == balancer.replicas[0]:
                back.set()
            if late:
                time.sleep(0.2)  # leave the processor to the server that starts again

    with (
        ManagedServer("course", folder) as a,
        ManagedServer("course", folder) as b,
        Balancer([a, b], cool_down=0.5) as balancer,
        ThreadPoolExecutor(6) as pool,
    ):
        clients = [pool.submit(client, balancer, i % 2 == 1) for i in range(6)]
        while len({by for _, _, by, _ in answers}) < 2 or len(answers) < 30:
            assert not any(one.done() for one in clients)
            time.sleep(0.01)
        os.kill(a.pids[0], signal.SIGKILL)
        killed.set()
        for one in clients:
            one.result()
        assert back.is_set() and len(a.pids) == 2 and len(b.pids) == 1

    errors = [answer for answer in answers if answer[3]]
    assert all(stream and by and CUT in error for _, stream, by, error in errors), errors
    shares = {late: Counter(by for since, _, by, _ in answers if since is late) for late in (False, True)}
    own, other = balancer.replicas
    assert shares[False][own] > 0 < shares[False][other]
    share = {late: found[other] / found.total() for late, found in shares.items()}
    assert share[True] > share[False]


@pytest.mark.parametrize(
    ("servers", "fields", "what"),
    [
        ([], {}, "0 servers"),
        (["http://127.0.0.1:1/v1"], {}, "a replica's address is http://host:port, without a path"),
        (["127.0.0.1:1"], {}, "got '127.0.0.1:1'"),
        (["https://127.0.0.1:1"], {}, "got 'https://127.0.0.1:1'"),
        (["http://127.0.0.1:99999"], {}, "got 'http://127.0.0.1:99999'"),
        (["http://me:word@127.0.0.1:1"], {}, "got 'http://me:word@127.0.0.1:1'"),
        (["http://127.0.0.1:1"], {"cool_down": 0}, "cool_down=0"),
        (["http://127.0.0.1:1"], {"wait": 0}, "wait=0; minima: 1, above 0, 0.1"),
        (
            ["http://127.0.0.1:1"],
            {"ready_timeout": 0.5},
            r"balancer was not ready after 0.5 s(.|\n)*127.0.0.1:1",
        ),
    ],
)
def test_what_cannot_be_balanced_is_refused(servers, fields, what):
    with pytest.raises(CourseError, match=what):
        Balancer(servers, **fields)
