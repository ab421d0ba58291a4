"""The course's own server, for tests: a process of its own on a free port."""

import subprocess
import sys
import time
from contextlib import contextmanager

import httpx

from course_lib.data import ROOT
from course_lib.lab import next_free


@contextmanager
def serving(*arguments):
    """Start `python -m course_lib.serve`, wait until it answers, yield its address, and end it."""
    port = next_free(21000)
    process = subprocess.Popen([sys.executable, "-m", "course_lib.serve", "--port", str(port), *arguments], cwd=ROOT)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            try:
                httpx.get(f"{url}/api/version", timeout=1).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None and time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)
