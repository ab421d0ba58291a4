"""The models that `course serve --model` names: GGUF files of the user, and models of the library.

The library lists the models that the server can pull (download or convert). Its names have the form name:tag,
such as haneul-4m:latest. The store is the server's folder of models. GGUF is the file format of llama.cpp.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from tqdm import tqdm

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.files.headers import check_gguf, gguf_models
from course_lib.models.gguf.inputs import input_format
from course_lib.serve.errors import ApiError
from course_lib.serve.library import library, similar_names
from course_lib.serve.store import Store
from course_lib.serve.tags import parse_name
from course_lib.shell import command_line

NAME_A_WHOLE_MODEL = "name the .gguf file of a whole model; ollama create adds an adapter to one"


def add(store: Store, argument: str) -> None:
    """Add a model to the store: `FILE.gguf`, or a model of the library (library.py).

    Either may be followed by `=NAME`, its name on the server. A model of the library is pulled unless the
    store has it. A file is copied. Raises CourseError, with the reason, for anything else.
    """
    given, name = argument, None
    if "=" in argument and not Path(argument).expanduser().exists():
        given, _, name = argument.rpartition("=")
    path = Path(given).expanduser()
    if path.is_file():
        _check_name(given, path.stem if name is None else name)
        _add_file(store, path, name or path.stem)
        return
    known = _library_name(given)
    if known is None:
        raise _not_found_error(path)
    if name is not None:  # before the download
        _check_name(given, name)
    if not store.has(known):
        _pull(store, known)
    if name:
        store.copy(known, name)


def _check_name(given: str, name: str) -> None:
    try:
        parse_name(name)
    except ApiError as error:
        fix = command_line("course", "serve", "--model", f"{given}=my-model")
        raise CourseError(error.what, fix) from error


def _pull(store: Store, name: str) -> None:
    """Pull a model, with a progress bar if a terminal shows it."""
    with tqdm(desc=f"pulling {name}", unit="B", unit_scale=True, disable=None) as bar:
        for line in store.pull(name):
            bar.total = line.get("total", bar.total)
            bar.update(line.get("completed", bar.n) - bar.n)


def _library_name(text: str) -> str | None:
    """Return the name with its tag if the library has it, else None."""
    try:
        name = parse_name(text)
    except ApiError:
        return None
    return name if name.lower() in library() else None


def _add_file(store: Store, path: Path, name: str) -> None:
    try:
        check_gguf(path)
    except CourseError as error:  # its fixes are calls of `load`, except `git lfs pull`
        fix = error.fix if error.fix.startswith("git ") else NAME_A_WHOLE_MODEL
        raise CourseError(error.what, fix) from error
    input_format(path)  # raises CourseError for an architecture that llama.cpp does not know
    store.add_file(path, name)


def _not_found_error(path: Path) -> CourseError:
    """Return the error for a text that is neither a file nor a name in the library."""
    if path.is_dir():
        files = gguf_models(p.name for p in path.iterdir())
        what = f"{path} is a folder (GGUF models in it: {len(files)}); a file is expected"
        fix = NAME_A_WHOLE_MODEL
        if files:
            fix = command_line("course", "serve", "--model", path / files[0])
        elif (path / "config.json").is_file():
            fix = command_line("course", "models", "export", path)
        return CourseError(what, fix)
    if (known := catalog.find(str(path))) is not None:
        kind = "a LoRA adapter" if known.adapter_of else "not a GGUF file"
        what = f"{known.model} is {kind}; this server runs whole models"
        return CourseError(what, "course models list")
    names = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    near = [str(path.parent / n) for n in get_close_matches(path.name, names, n=1)]
    near += similar_names(str(path)) if len(path.parts) == 1 else []
    what = f"{path} is neither a file nor a model of the library"
    return CourseError(
        what, command_line("course", "serve", "--model", near[0]) if near else "course models list"
    )
