"""llama.cpp's own HTTP server on a port of this machine: it speaks the protocol of OpenAI."""

from course_lib.models.gguf.llamacpp_process import start
from course_lib.models.gguf.llamacpp_server import settings


def http_server(engine):
    """A server with the model of an engine. It ends when the last reference to it is gone."""
    values = settings(engine.spec, engine.file, engine.slots, engine.context, threads=1)
    order = {"instances": [values | {"hostnames": ["127.0.0.1"]}], "gpu": False, "adapters": []}
    return start(order)[0]
