"""Explorer, the base of all widgets: controls for a pure function that returns a text and a picture.

The text alone conveys everything, so that the widget is accessible and useful without a live kernel.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from course_lib.errors import CourseError

if TYPE_CHECKING:
    from course_lib.plots import Picture


class Output(NamedTuple):
    """The output of a widget. The text conveys everything; the picture is optional."""

    text: str
    picture: Picture | None = None


@dataclass(frozen=True)
class Range:
    """A control for a number from `low` to `high`, in `unit`; `start` is its initial value."""

    label: str
    low: float
    high: float
    start: float
    step: float = 1.0
    unit: str = ""

    @property
    def test_values(self) -> tuple[float, ...]:
        """The values that `Explorer.drive` tries."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """A control for one of several options; initially the first."""

    label: str
    options: tuple[str, ...]

    @property
    def start(self) -> str:
        """The initial value."""
        return self.options[0]

    @property
    def test_values(self) -> tuple[str, ...]:
        """The values that `Explorer.drive` tries."""
        return self.options


@dataclass(frozen=True)
class Text:
    """A control for text that the reader types; it takes effect on Enter or when the field loses focus."""

    label: str
    start: str
    test_values: tuple[str, ...]  # the values that `Explorer.drive` tries


Control = Range | Choice | Text


class Explorer:
    """A widget that shows the output of `show`, called with the values of the controls by name.

    A CourseError that `show` raises is displayed as text. `name` becomes the CSS class `course-NAME`; `title`
    is the accessible name. Numbers have text fields instead of sliders, because those have labels and can be
    typed into. Raises ValueError if a start value lies outside its range.
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
        """Return the output for these values of controls; the others have their start values."""
        try:
            return self.show(**({key: control.start for key, control in self.controls.items()} | values))
        except CourseError as error:
            return Output(str(error))

    @property
    def box(self) -> Any:
        """The live widget, built on first access; its parts are `fields`, `text` and `picture`.

        The file that `picture` shows is also `png`, in base64, or "".
        """
        if self._box is None:
            self._build()
        return self._box

    def _build(self) -> None:
        import ipywidgets as widgets

        self.fields = {key: _field(control) for key, control in self.controls.items()}
        self.text, self.picture = widgets.HTML(), widgets.HTML()  # widgets.Image can have no alt text
        heading = widgets.HTML(f"<h4>{html.escape(self.title)}</h4>")
        self._box = widgets.VBox([heading, *self.fields.values(), self.text, self.picture])
        self._box.add_class(f"course-{self.name}")
        for field in self.fields.values():
            field.observe(lambda _: self._refresh(), "value")
        self._refresh()

    def _refresh(self) -> None:
        import base64

        self.output = self.output_for(**{key: field.value for key, field in self.fields.items()})
        lines = "<br>".join(html.escape(line) for line in self.output.text.splitlines())
        self.text.value = f'<div role="status" aria-label="{html.escape(self.title)}">{lines}</div>'
        drawn, self.png = self.output.picture, ""
        if drawn is not None:
            self.png = base64.b64encode(drawn.png()).decode()
            alt = html.escape(drawn.alt)  # the text above says what the picture shows
            self.picture.value = (
                f'<img alt="{alt}" style="max-width: 600px" src="data:image/png;base64,{self.png}">'
            )
        self.picture.layout.display = "" if self.png else "none"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the live widget and, for viewers without widget support, the current text and picture.

        Such viewers show the picture and not the text, which therefore is also its alternative text.
        """
        live = self.box._repr_mimebundle_(**kwargs)
        text = f"{self.title}\n{self.output.text}"
        if not self.png:
            return live | {"text/plain": text}, {}
        static = {"text/plain": text, "image/png": self.png}
        return live | static, {"image/png": {"alt": " ".join(text.split())}}

    def drive(self) -> int:
        """Set every control to each of its test values and back, for tests; return the number of outputs.

        Raises AssertionError if an output has no text, or if none of a control's test values changes the
        text.
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
    """Return the ipywidgets field for a control; texts and long options get a wider one."""
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
