"""The program of a llama.cpp process. `LlamaServer` starts this file; it imports nothing of course_lib.

It reads one line of JSON, loads the model, and writes one line of JSON: the addresses at which it listens. It
ends when its standard input is closed, which also happens when the parent process is killed. GGUF is the file
format of llama.cpp. A LoRA adapter has two small matrices for each of some matrices of a model; their product
is added to it.
"""

import json
import os
import shutil
import sys
from typing import Any


def start(order: dict[str, Any]) -> list[Any]:
    """Load the model as often as there are instances. order: the line of JSON, with these fields.

    instances: For each instance, the fields of CommonParams (llama.cpp's settings) by dotted names. gpu: True
    requires a GPU, False forbids one, and None uses one if there is one. adapters: pairs of a GGUF file and
    its weight. Raises RuntimeError if llama.cpp cannot load the file.
    """
    import xllamacpp

    has_gpu = any("GPU" in str(device["type"]) for device in xllamacpp.get_device_info())
    if order["gpu"] and not has_gpu:
        raise RuntimeError("this build of llama.cpp finds no GPU")
    servers = []
    for settings in order["instances"]:
        params = xllamacpp.CommonParams()
        for name, value in settings.items():
            *path, field = name.split(".")
            target: Any = params
            for part in path:
                target = getattr(target, part)
            setattr(target, field, value)
        params.n_gpu_layers = -1 if has_gpu and order["gpu"] is not False else 0
        params.fit_params = params.n_gpu_layers != 0  # reads the file and its vocabulary once more
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(*adapter) for adapter in order["adapters"]]
        servers.append(xllamacpp.Server(params))
    return servers


def main() -> None:
    """Serve until standard input is closed. Then remove the folder and end, even while a text is written."""
    order = json.loads(sys.stdin.readline())
    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp itself writes to standard output
    try:
        servers = start(order)
        print(json.dumps({"addresses": [s.listening_address for s in servers]}), file=parent, flush=True)
        sys.stdin.read()
    except RuntimeError as error:
        print(json.dumps({"error": str(error)}), file=parent, flush=True)
    finally:
        shutil.rmtree(order["folder"], ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main()
