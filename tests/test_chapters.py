"""The peak of memory of a process and its children."""

import subprocess
import sys

import pytest

from course_lib.chapters import PeakMemory

MB = 1_000_000
FORKING = """
import os, sys, time
memory = bytearray(200_000_000)
memory[::4096] = b"x" * len(memory[::4096])  # the pages are there
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    os.wait()
    time.sleep(0.13)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize(("children", "seconds", "least", "most"), [(25, 0.005, 200, 300), (1, 1, 400, 500)])
def test_a_child_counts_if_it_lasts(children, seconds, least, most):
    process = subprocess.Popen([sys.executable, "-c", FORKING, str(children), str(seconds)])
    with PeakMemory(process.pid) as peak:
        process.wait()
    assert least * MB < peak.bytes < most * MB
