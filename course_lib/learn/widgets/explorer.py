"""What all widgets share: controls over a pure function whose text says everything, live or not."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from course_lib.plots import Picture


class Output(NamedTuple):
    """What a widget shows: the text says everything; the picture may be missing."""

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
    def test_values(self) -> tuple[float, ...]:
        """The values that `Explorer.drive` sets."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """One of several words; the first is chosen at the start."""

    label: str
    options: tuple[str, ...]

    @property
    def start(self) -> str:
        return self.options[0]

    @property
    def test_values(self) -> tuple[str, ...]:
        """The values that `Explorer.drive` sets."""
        return self.options


@dataclass(frozen=True)
class Text:
    """Words that a reader types; they are taken when the field is left or Enter is pressed."""

    label: str
    start: str
    test_values: tuple[str, ...]  # what `Explorer.drive` types


Control = Range | Choice | Text


class Explorer:
    """Controls over `show`, a pure function of their values by name.

    A CourseError that it raises is shown as text.

    `name` becomes the CSS class `course-NAME`; the title is the accessible name. Numbers have fields, not
    sliders: a label belongs to a field, and it can be typed into. Raises ValueError where a start lies
    outside its range.
    """

    def __init__(
        self, name: str, title: str, show: Callable[..., Output], controls: Mapping[str, Control]
    ) -> None:
        for key, control in controls.items():
            if isinstance(control, Range) and not control.low <= control.start <= control.high:
                raise ValueError(
                    f"{name}.{key}: start {control.start} lies outside {control.low} to {control.high}"
                )
        self.name, self.title, self.show, self.controls = name, title, show, dict(controls)
        self._box: Any = None

    def __repr__(self) -> str:
        return f"Explorer({self.name!r}, controls={list(self.controls)})"

    def output_for(self, **values: Any) -> Output:
        """The output for these values; controls that are not named stand at their start."""
        try:
            return self.show(**({key: control.start for key, control in self.controls.items()} | values))
        except CourseError as error:
            return Output(str(error))

    @property
    def box(self) -> Any:
        """The live widget, built when it is first asked for; `fields`, `text` and `picture` are its parts."""
        if self._box is None:
            self._build()
        return self._box

    def _build(self) -> None:
        import ipywidgets as widgets

        self.fields = {key: _field(control) for key, control in self.controls.items()}
        self.text, self.picture = widgets.HTML(), widgets.Image(format="png", layout={"max_width": "600px"})
        heading = widgets.HTML(f"<h4>{html.escape(self.title)}</h4>")
        self._box = widgets.VBox([heading, *self.fields.values(), self.text, self.picture])
        self._box.add_class(f"course-{self.name}")
        for field in self.fields.values():
            field.observe(lambda _: self._refresh(), "value")
        self._refresh()

    def _refresh(self) -> None:
        self.output = self.output_for(**{key: field.value for key, field in self.fields.items()})
        lines = "<br>".join(html.escape(line) for line in self.output.text.splitlines())
        self.text.value = f'<div role="status" aria-label="{html.escape(self.title)}">{lines}</div>'
        self.picture.layout.display = "none" if self.output.picture is None else ""
        if self.output.picture is not None:
            self.picture.value = self.output.picture._repr_png_()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The live widget where one can be shown; elsewhere the text and the picture as they are now."""
        import base64

        live = self.box._repr_mimebundle_(**kwargs)
        static = {"text/plain": f"{self.title}\n{self.output.text}"}
        if self.output.picture is not None:
            static["image/png"] = base64.b64encode(self.picture.value).decode()
        return live | static

    def drive(self) -> int:
        """Set every control to each of its ends and back, for tests; return how many outputs that made.

        Raises AssertionError where an output has no text, or where a control changes nothing at any of its
        ends.
        """
        self.box  # noqa: B018
        count = 0
        for key, control in self.controls.items():
            field, texts = self.fields[key], {self.text.value}
            for value in (*control.test_values, control.start):
                field.value = value
                assert self.output.text, f"{key}={value} shows no text"
                texts.add(self.text.value)
                count += 1
            assert len(texts) > 1, f"{self.name}: {key} changes nothing"
        return count


def _field(control: Control) -> Any:
    """The ipywidgets field of a control, as wide as what it holds."""
    import ipywidgets as widgets

    long = isinstance(control, Text) or (isinstance(control, Choice) and max(map(len, control.options)) > 30)
    layout = {"width": "56em" if long else "32em", "max_width": "100%"}
    unit = f", {control.unit}" if isinstance(control, Range) and control.unit else ""
    common = {
        "value": control.start,
        "description": control.label + unit,
        "style": {"description_width": "20em"},
        "layout": layout,
    }
    if isinstance(control, Choice):
        return widgets.Dropdown(options=control.options, **common)
    if isinstance(control, Text):
        return widgets.Text(continuous_update=False, **common)
    return widgets.BoundedFloatText(min=control.low, max=control.high, step=control.step, **common)
