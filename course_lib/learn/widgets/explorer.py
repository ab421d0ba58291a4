"""A pure function with controls. Its text says everything; a static form stands in where nothing runs."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from course_lib.plots import Picture


class Shown(NamedTuple):
    """What an explorer shows: the text says everything; the picture may be missing."""

    text: str
    picture: Picture | None = None


@dataclass(frozen=True)
class Range:
    """A number between two ends, with its unit."""

    label: str
    low: float
    high: float
    start: float
    step: float = 1.0
    unit: str = ""

    @property
    def ends(self) -> tuple[float, ...]:
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    label: str
    options: tuple[str, ...]

    @property
    def start(self) -> str:
        return self.options[0]

    @property
    def ends(self) -> tuple[str, ...]:
        return self.options


@dataclass(frozen=True)
class Text:
    """Words that a reader types; they are taken when the field is left or Enter is pressed. `examples` are what `drive` types."""

    label: str
    start: str
    examples: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        return self.examples


class Explorer:
    """Controls over `show`, a pure function of their values by name.

    `name` becomes the CSS class `course-NAME` and, with the title, the accessible name. Number fields rather than
    sliders: a label belongs to them, and they can be typed into. Raises ValueError where a start lies outside its range.
    """

    def __init__(
        self, name: str, title: str, show: Callable[..., Shown], controls: Mapping[str, Range | Choice | Text]
    ) -> None:
        for key, control in controls.items():
            if isinstance(control, Range) and not control.low <= control.start <= control.high:
                raise ValueError(
                    f"{name}.{key}: start {control.start} lies outside {control.low} to {control.high}"
                )
        self.name, self.title, self.show, self.controls = name, title, show, dict(controls)
        self._box: Any = None

    def shown(self, **values: Any) -> Shown:
        """The output for these values; controls that are not named stand at their start."""
        return self.show(**({k: c.start for k, c in self.controls.items()} | values))

    @property
    def box(self) -> Any:
        """The live widget, made when it is first asked for; `fields`, `text` and `picture` are its parts."""
        if self._box is None:
            self._build()
        return self._box

    def _build(self) -> None:
        import ipywidgets as widgets

        self.fields = {key: _field(widgets, control) for key, control in self.controls.items()}
        self.text, self.picture = widgets.HTML(), widgets.Image(format="png", layout={"max_width": "600px"})
        heading = widgets.HTML(f"<h4>{html.escape(self.title)}</h4>")
        self._box = widgets.VBox([heading, *self.fields.values(), self.text, self.picture])
        self._box.add_class(f"course-{self.name}")
        for field in self.fields.values():
            field.observe(lambda _: self._refresh(), "value")
        self._refresh()

    def _refresh(self) -> None:
        self.now = out = self.show(**{key: field.value for key, field in self.fields.items()})
        lines = "<br>".join(html.escape(line) for line in out.text.splitlines())
        self.text.value = f'<div role="status" aria-label="{html.escape(self.title)}">{lines}</div>'
        self.picture.layout.display = "none" if out.picture is None else ""
        if out.picture is not None:
            self.picture.value = out.picture._repr_png_()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live widget where one can be shown; the picture and the text as they stand now everywhere else."""
        import base64

        live = self.box._repr_mimebundle_(**kwargs)
        static = {"text/plain": f"{self.title}\n{self.now.text}"}
        if self.now.picture is not None:
            static["image/png"] = base64.b64encode(self.picture.value).decode()
        return live | static

    def drive(self) -> int:
        """Move every control to each of its ends, as a hand would, and back; how many positions were shown.

        Raises AssertionError where a position shows no text, or where a control changes nothing at any of its ends.
        """
        self.box  # noqa: B018
        positions = 0
        for key, control in self.controls.items():
            field, seen = self.fields[key], {self.text.value}
            for end in (*control.ends, control.start):
                field.value = end
                assert self.now.text, f"{key}={end} shows no text"
                seen.add(self.text.value)
                positions += 1
            assert len(seen) > 1, f"{self.name}: {key} changes nothing"
        return positions


def _field(widgets: Any, control: Range | Choice | Text) -> Any:
    long = isinstance(control, Text) or (isinstance(control, Choice) and max(map(len, control.options)) > 30)
    wide = {
        "style": {"description_width": "20em"},
        "layout": {"width": "56em" if long else "32em", "max_width": "100%"},
    }
    if isinstance(control, Choice):
        return widgets.Dropdown(options=control.options, description=control.label, **wide)
    if isinstance(control, Text):
        return widgets.Text(value=control.start, description=control.label, continuous_update=False, **wide)
    return widgets.BoundedFloatText(
        value=control.start,
        min=control.low,
        max=control.high,
        step=control.step,
        description=f"{control.label}{f', {control.unit}' if control.unit else ''}",
        **wide,
    )
