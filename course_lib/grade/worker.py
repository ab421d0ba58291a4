"""The program that runs one answer of a learner. `judge` starts it, and talks to it over pipes."""

from __future__ import annotations

import ast
import builtins
import contextlib
import os
import re
import sys
import types
from typing import Any

from course_lib.grade.peer import Peer, PeerFailed
from course_lib.grade.protection import protect
from course_lib.grade.values import encode_error

# Jupyter's own commands, which are not Python, and what takes their place. %time runs a statement, which
# stays; other commands (%, !, ?name) and questions for help (name?) become `pass`.
COMMANDS = (
    (re.compile(r"^(\s*|.*=\s*)%time\s+(?=\S)"), r"\1"),
    (re.compile(r"^(\s*)[%!?].*"), r"\1pass"),
    (re.compile(r"^(\s*).*[\w*\]]\?\??\s*$"), r"\1pass"),
)
CELL = "<exercise>"  # the file name of the cell in a traceback


def main() -> None:
    """Protect the machine, run the cell, send the answer, and serve calls until the judge ends."""
    # Every exception of the answer is sent on, and what the judge sends is trusted.
    peer = Peer(os.dup(0), os.dup(1), catch=BaseException, trusts=True)
    null = os.open(os.devnull, os.O_RDWR)  # what the answer prints must not get into the pipe
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    task = peer.receive()
    # gaps: what this system cannot forbid to the answer; then nothing runs, unless the teacher allows it.
    gaps = protect(task["readable"], task["writable"], task["seconds"])
    peer.send({"gaps": gaps})
    if gaps and not task["unprotected"]:
        return
    namespace = _namespace()
    for source, what in (*((p, "chapter") for p in task["before"]), (task["cell"], "cell")):
        if error := _run(source, namespace):
            return peer.send({"stopped": what, **error})
    answer = task["answer"]
    if answer not in namespace:
        return peer.send({"stopped": "answer", "error": "NameError", "text": answer})
    peer.send({"value": peer.pack(namespace[answer])})
    peer.serve()


def _namespace() -> dict[str, Any]:
    """Return the global names of a cell. `check`, `hint` and `solution` do nothing: the judge checks."""
    exercises: Any = types.ModuleType("course_lib.learn.exercises")
    for name in ("check", "hint", "solution"):
        setattr(exercises, name, lambda *_, **__: None)
    sys.modules[exercises.__name__] = exercises
    module = types.ModuleType("__main__")  # so that what looks for the answer's module finds it
    sys.modules["__main__"] = module
    names = vars(module)
    names |= {"__builtins__": builtins, "display": print}
    names |= {name: getattr(exercises, name) for name in ("check", "hint", "solution")}
    return names


def plain_python(source: str) -> str:
    """Return a cell without Jupyter's commands, with as many lines.

    Only lines of which Python complains are changed: others that look alike belong to a text or expression.
    """
    lines = re.split("\r\n|\r|\n", source)
    for _ in lines:
        try:
            compile("\n".join(lines), CELL, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        except SyntaxError as error:
            number = min(error.lineno or 1, len(lines)) - 1
            forms = (form.sub(new, lines[number]) for form, new in COMMANDS if form.match(lines[number]))
            if (changed := next(forms, lines[number])) == lines[number]:
                break
            lines[number] = changed
        except ValueError:  # a zero byte
            break
        else:
            break
    return "\n".join(lines)


def _run(source: str, namespace: dict[str, Any]) -> dict[str, Any] | None:
    """Run a source. Returns None, or the exception that stopped it, with the line in the source."""
    try:
        exec(compile(plain_python(source), CELL, "exec", dont_inherit=True), namespace)
    except PeerFailed:
        raise
    except BaseException as error:
        trace, line = error.__traceback__, getattr(error, "lineno", None)
        while trace:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == CELL else line
            trace = trace.tb_next
        return {**encode_error(error), "line": line}
    return None


if __name__ == "__main__":
    with contextlib.suppress(PeerFailed):
        main()
