"""The peak of memory of a process and its children."""

import subprocess
import sys
import time

import psutil
import pytest

from course_lib.chapters import PeakMemory, _with_descendants

MB = 1_000_000
FORKING = """
import os, sys, time
memory = bytearray(200_000_000)
memory[::4096] = b"x" * len(memory[::4096])  # the pages are there
longest = 0
for _ in range(int(sys.argv[1])):
    begun = time.monotonic()
    if os.fork() == 0:
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    os.wait()
    longest = max(longest, time.monotonic() - begun)
    time.sleep(0.13)
print(longest)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize(("children", "seconds", "least", "most"), [(25, 0.005, 200, 300), (1, 1, 400, 500)])
def test_a_child_counts_if_it_lasts(children, seconds, least, most):
    command = [sys.executable, "-c", FORKING, str(children), str(seconds)]
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        with PeakMemory(process.pid) as peak:
            longest = float(process.communicate()[0])
        if longest < seconds + 0.03:  # on a busy machine a short child may last, and then it rightly counts
            break
    assert least * MB < peak.bytes < most * MB


def test_the_children_that_linux_lists_are_those_that_psutil_finds():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        while not (children := psutil.Process(process.pid).children(recursive=True)):
            time.sleep(0.01)
        assert sorted(_with_descendants(process.pid)) == sorted([process.pid, *(c.pid for c in children)])
    assert _with_descendants(process.pid) == []
