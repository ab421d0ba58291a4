"""The program that supervises a server process.

`process.py` starts this file; it imports nothing of course_lib. It reads one line of JSON, starts the command
in it, and restarts it with growing pauses if it ends by itself. It prints the id of each process. When its
standard input is closed, which also happens when its parent is killed, it ends the processes and removes the
temporary folder.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil

GRACE_SECONDS = 5.0  # between asking a process to end and killing it
STABLE_SECONDS = 60.0  # a process that ran this long counts as started; the count of restarts begins again


def wait_for_end(closed: threading.Event) -> None:
    sys.stdin.read()
    closed.set()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: ask them, wait, then kill them."""
    processes = []
    with contextlib.suppress(psutil.Error):
        processes = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for stop in ("terminate", "kill"):
        for one in processes:
            with contextlib.suppress(psutil.Error):
                getattr(one, stop)()
        _, processes = psutil.wait_procs(processes, GRACE_SECONDS)
    process.poll()


def main() -> None:
    """Run the command until it has ended too often, or standard input is closed."""
    task, closed = json.loads(sys.stdin.readline()), threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes standard input
    threading.Thread(target=wait_for_end, args=(closed,), daemon=True).start()
    pause, failures = task["pause"], 0
    with open(task["log"], "ab") as log:
        while not closed.is_set() and failures <= task["restarts"]:
            begun = time.monotonic()
            process = subprocess.Popen(
                task["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=task["environment"]
            )
            print(process.pid, flush=True)
            while process.poll() is None and not closed.wait(0.05):
                pass
            end(process)
            failures = 1 if time.monotonic() - begun > STABLE_SECONDS else failures + 1
            closed.wait(pause * 2 ** (failures - 1))
    if closed.is_set():  # otherwise the parent still reads the log
        shutil.rmtree(task["folder"], ignore_errors=True)


if __name__ == "__main__":
    main()
