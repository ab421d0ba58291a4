"""Training in a separate process that can be killed or kept short of memory."""

import multiprocessing
import os
import resource
import signal
import sys

import peft  # noqa: F401 - imported once, for all
import psutil
import torch
from transformers.models.llama import modeling_llama  # noqa: F401

from course_lib.tuning.training import train

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


def begin(bar, *arguments, room=None, **settings):
    """Start `train` in a process; its progress goes to the file `bar`, it may allocate `room` more bytes."""
    process = SERVER.Process(target=_train, args=(bar, room, arguments, settings))
    process.start()
    return process


def _train(bar, room, arguments, settings):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have made this process deaf to it
    sys.stderr = os.fdopen(os.open(bar, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), "w", buffering=1)
    torch.set_num_threads(1)
    if room is not None:
        limit = psutil.Process(os.getpid()).memory_info().vms + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    train(*arguments, **settings)
