"""Chat templates: Jinja programs that write the turns of a conversation as a model reads them.

The drivers huggingface and llamacpp use this module, so that they give a model the same tokens. Two rules
hold:

- The tokenizer decides whether a text begins with BOS, the token for the beginning of a text. A template may
  write it too; there is never a second one.
- In a conversation, only the template writes control tokens, such as <|im_end|>: their names in the text of a
  turn stay text. A prompt for text-generation is the whole input of the model, and may contain them.

A driver is the software that runs a model.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from course_lib.errors import CourseError
from course_lib.models import catalog
from course_lib.models.drivers.capabilities import GENERATION_TASKS
from course_lib.models.drivers.reply import Turn
from course_lib.models.files.headers import read_json
from course_lib.models.gguf.inputs import input_format
from course_lib.models.schema.sources import LocalSource
from course_lib.models.schema.spec import ModelSpec

# Characters that Unicode leaves free (private use), around the names of control tokens in a turn; as in
# transformers' chat_template_utils.py.
MARK_BEGIN, MARK_END = "\U000f0000", "\U000f0001"
# The token ids of each text. The second argument: whether the names of control tokens become these tokens.
Tokenize = Callable[[Sequence[str], bool], list[list[int]]]


class ChatTemplate:
    """The chat template of a model.

    source: The template. name: The model's name, for errors. variables: Values for the template, such as
    bos_token. control_tokens: The texts of the tokenizer's control tokens.
    """

    def __init__(
        self, source: str, name: str, variables: Mapping[str, Any], control_tokens: Collection[str]
    ) -> None:
        self.name, self._variables = name, dict(variables)
        longest_first = sorted(control_tokens, key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first)) or "(?!)"  # (?!) never matches
        self._control = re.compile(names)
        self._marked = re.compile(f"{MARK_BEGIN}({names}){MARK_END}|[{MARK_BEGIN}{MARK_END}]")
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            what = f"the chat template of {name} cannot be read: {error}"
            raise CourseError(what, 'load(..., task="text-generation")') from error

    def render(self, turns: Sequence[Turn], *, answered: bool = False) -> list[str]:
        """The conversation up to the beginning of the answer, as a list of parts for `token_ids`.

        answered: the last turn is the answer; no other turn is opened. The parts with odd indices are names
        of control tokens that a turn contains. Raises CourseError if the template refuses the conversation,
        or leaves the text of a turn out.
        """
        messages = [dict(turn) | {"content": self._mark(turn["content"])} for turn in turns]
        try:
            text = self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=not answered,
                **self._variables,
            )
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            what = f"the chat template of {self.name} refuses this conversation: {error}"
            raise CourseError(what, _fix(turns)) from error
        for message in messages:
            if message["role"] != "assistant" and message["content"].strip() not in text:
                what = f"the chat template of {self.name} leaves out the {message['role']} turn"
                raise CourseError(what, _fix(turns))
        return [part or "" for part in self._marked.split(text)]

    def _mark(self, text: str) -> str:
        """Put marks around the names of control tokens; marks that are already there are removed."""
        text = text.replace(MARK_BEGIN, "").replace(MARK_END, "")
        return self._control.sub(f"{MARK_BEGIN}\\g<0>{MARK_END}", text)


def has_chat_template(path: Path) -> bool:
    """Whether the model has a chat template, by the header of a .gguf file or a folder's tokenizer files."""
    if path.suffix == ".gguf":
        return input_format(path).template is not None
    templates = [path / "chat_template.jinja", *path.glob("additional_chat_templates/*.jinja")]
    in_config = read_json(path, "tokenizer_config.json").get("chat_template")
    return bool(in_config) or any(template.is_file() for template in templates)


def refuse_base_model(spec: ModelSpec) -> None:
    """Raise CourseError for a chat with a model that cannot chat, if the catalogue or its files show it."""
    if spec.task != "chat-completion":
        return
    path = spec.source.path.expanduser() if isinstance(spec.source, LocalSource) else None
    if path and path == catalog.shipped_folder(name := catalog.model_name(path)):
        known = catalog.find(name)
    else:
        known = catalog.pulled_entry(path) if path else catalog.find(getattr(spec.source, "repository", ""))
    if known and known.task not in GENERATION_TASKS:
        what = f"{spec.name} is a model for {known.task} and generates no text"
        raise CourseError(what, f'load("{known.model}", task="{known.task}")')
    if known:
        check_chat(spec.name, known.task != "text-generation")
    elif path and ((path.suffix == ".gguf" and path.is_file()) or (path / "tokenizer_config.json").is_file()):
        check_chat(spec.name, has_chat_template(path))


def check_chat(name: str, has_template: bool) -> None:
    """Raise CourseError for a conversation with a model that has no chat template."""
    if not has_template:
        what = f"{name} has no chat template: it is a base model, which continues a text"
        raise CourseError(what, 'load(..., task="text-generation")')


def token_ids(parts: Sequence[str], tokenize: Tokenize) -> list[int]:
    """The token ids of a conversation that `ChatTemplate.render` has split into parts.

    Each part is tokenized after a line break, which is removed again, so that tokenizers like Llama 2's put
    no space before its first word.
    """
    ids, (newline,) = tokenize(parts[:1], True)[0], tokenize(["\n"], True)
    for i, part in enumerate(parts[1:], start=1):
        if part:
            names_are_tokens = i % 2 == 0
            row, alone = tokenize([f"\n{part}", part], names_are_tokens)
            ids += row[len(newline) :] if row[: len(newline)] == newline else alone
    return ids


def with_bos(ids: list[int], bos: list[int]) -> list[int]:
    """Prepend `bos`, which the tokenizer adds to every text, unless the ids begin with it."""
    return ids if ids[: len(bos)] == bos else [*bos, *ids]


def _fix(turns: Sequence[Turn]) -> str:
    if any(turn["role"] == "system" for turn in turns):
        return "put the text of the system turn at the beginning of the first user turn"
    return "begin with a user turn, and alternate user and assistant turns"


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up for chat templates (utils/chat_template_utils.py).

    The sandbox keeps a template, which comes with a model, away from files and from Python itself.
    """

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    def now(layout: str) -> str:
        return datetime.now().strftime(layout)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": refuse, "strftime_now": now}
    return environment


class _Generation(Extension):
    """The tag {% generation %}, with which a template marks answers for training: rendered as its content."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
