"""The models that `course serve --model` names: GGUF files of the user, and models of the catalogue."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.files.headers import check_gguf, gguf_models
from course_lib.models.gguf.inputs import input_format
from course_lib.serve.errors import ApiError
from course_lib.serve.library import library, similar_names
from course_lib.serve.store import Store
from course_lib.serve.tags import parse_name
from course_lib.shell import command_line

WHOLE_MODEL = "name the .gguf file of a whole model; ollama create adds an adapter to one"


def add(store: Store, text: str) -> None:
    """Add to the store what `text` names: `FILE.gguf` or a model of the library, each also as `...=NAME`.

    A model of the library is pulled, unless it is there. Raises CourseError, with the reason, for anything
    else. The user's file is copied and otherwise left alone.
    """
    given, name = text, ""
    if "=" in text and not Path(text).exists():
        given, _, name = text.rpartition("=")
    path = Path(given).expanduser()
    if path.is_file():
        _add_file(store, path, name or path.stem)
    elif (known := _library_name(given)) is not None:
        if not store.has(known):
            for _ in store.pull(known):
                pass
        if name:
            store.copy(known, name)
    else:
        raise _nothing_there(path)


def _library_name(text: str) -> str | None:
    """The name with its tag, if the library has it."""
    try:
        name = parse_name(text)
    except ApiError:
        return None
    return name if name.lower() in library() else None


def _add_file(store: Store, path: Path, name: str) -> None:
    try:
        parse_name(name)
    except ApiError as error:
        raise CourseError(
            error.what, command_line("course", "serve", "--model", f"{path}=my-model")
        ) from error
    try:
        check_gguf(path)
    except CourseError as error:  # most of its fixes are calls of `load`
        fix = error.fix if error.fix.startswith("git ") else WHOLE_MODEL
        raise CourseError(error.what, fix) from error
    input_format(path)
    store.add_file(path, name)


def _nothing_there(path: Path) -> CourseError:
    """The error for a path at which there is no file, and which is no name of the library."""
    if path.is_dir():
        files = gguf_models(p.name for p in path.iterdir())
        what = f"{path} is a folder (GGUF models in it: {len(files)}); a file is expected"
        fix = WHOLE_MODEL
        if files:
            fix = command_line("course", "serve", "--model", path / files[0])
        elif (path / "config.json").is_file():
            fix = command_line("course", "models", "export", path)
        return CourseError(what, fix)
    if (known := catalog.find(str(path))) is not None:
        kind = "a LoRA adapter" if known.adapter_of else "no GGUF file"
        what = f"{known.model} is {kind}; this server runs whole models as GGUF files"
        return CourseError(what, "course models list")
    names = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    near = [str(path.parent / n) for n in get_close_matches(path.name, names, n=1)]
    near += similar_names(str(path)) if len(path.parts) == 1 else []
    what = f"{path} is neither a file nor a model of the library"
    return CourseError(
        what, command_line("course", "serve", "--model", near[0]) if near else "course models list"
    )
