"""Limits on what clients may ask of the server. docs/server.md explains each of them.

The limits of a JSON schema are in course_lib/models/schema/json_schema.py. The store is the server's folder
of models; a slot computes one text.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter

MAX_CONNECTIONS = 256  # open connections; a further one closes the one that has waited longest for its client
BACKLOG = 64  # connections that wait to be accepted; few, so that a new one is read before it is the oldest
HEADER_SECONDS = 10.0  # for the header of a request to arrive
IDLE_SECONDS = 300  # before an idle connection is closed; long, because clients assume that it stays open
READ_SECONDS = 30.0  # for a client to read a part of an answer that exceeds the buffers
BODY_SECONDS = 30.0  # for the body of a request to arrive, or the next part of an uploaded file
MIN_UPLOAD_RATE = 1_000_000  # bytes per second of an upload; a slower one is ended if another upload waits
UPLOAD_SECONDS = 1.0  # before the rate of an upload is judged
MAX_BODY_BYTES = 4_000_000  # of a request, except an uploaded file
MAX_UNUSED_BYTES = 40_000_000  # read of a body that is too long, so that its client gets to read the error
MAX_VALUES = 100_000  # in the JSON of a body; checking a million of a wrong type took ten seconds
MAX_SMALL_CHUNKS = 10_000  # of fewer than SMALL_CHUNK bytes in a body; each takes as long as a large one
SMALL_CHUNK = 64  # bytes
MAX_MESSAGES = 1_000  # of a chat
MAX_TOKEN_CHARACTERS = 32  # of a prompt per token of the context; a longer one is not tokenized at all
MAX_TEXTS = 2_048  # of a request for embeddings
MAX_MODELS = 1_000  # names in the store above which clients cannot add one; each listing reads all of them
MAX_MODEL_CHARACTERS = 100_000  # of a created model's system message, licence and parameters together
MAX_PROMPTS = 64  # of a request to /v1/completions, or prompts times alternatives per token (logprobs)
MAX_RUNNING = 8  # requests for a text processed concurrently
MAX_EMBEDDINGS = 4  # requests for embeddings processed concurrently; torch keeps memory for each thread
MAX_SCHEMAS = 2  # requests with a JSON schema processed concurrently: half of the slots stay free of them
MAX_QUEUED = 64  # waiting requests of each of these kinds; further ones are rejected with status 503
MAX_PULLS = 4  # models that are pulled, created or uploaded concurrently
MAX_LOG_LINES = 300  # log lines of one kind per minute
MAX_LOG_CHARACTERS = 500  # of a log line
MAX_TRACEBACK_CHARACTERS = 4_000  # of the traceback after it; its end is kept


class LogBounds(logging.Filter):
    """Cut long log lines and tracebacks, and drop those of one kind after MAX_LOG_LINES per minute.

    A kind is a message of a logger, whatever its arguments.
    """

    def __init__(self) -> None:
        super().__init__()
        self.minute, self.counts = 0, Counter[tuple[str, str]]()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if self.minute != (minute := int(time.monotonic() // 60)):
            self.minute, self.counts = minute, Counter()
        kind = record.name, str(record.msg)[:MAX_LOG_CHARACTERS]
        self.counts[kind] += 1
        text = record.getMessage()
        if self.counts[kind] == MAX_LOG_LINES:
            text = f"{text} (further lines of this kind are dropped until the next minute)"
        text = text[-MAX_LOG_CHARACTERS:]
        if record.exc_info and record.exc_info[1]:
            lines = "".join(traceback.format_exception(record.exc_info[1]))
            text += f"\n{lines[-MAX_TRACEBACK_CHARACTERS:]}"
        record.msg, record.args, record.exc_info = text, None, None
        return self.counts[kind] <= MAX_LOG_LINES
