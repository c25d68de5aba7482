"""One picture in cells, which are drawn once for its size and kept until it changes."""

import textwrap
from collections.abc import Hashable
from typing import Any

from jaxtyping import Float, UInt8
from numpy import ndarray
from rich.segment import Segment
from textual.app import App
from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from saetui.formatting import fit, literal
from saetui.terminal.cells import Look, draw


def look_of(app: App[Any]) -> Look:
    """How ``app`` draws pictures, by its attributes; an app without them gets half blocks in 24-bit colour."""
    return Look(
        style=getattr(app, "picture_style", "half"),
        colours=getattr(app, "colours", "truecolor"),
        ratio=getattr(app, "cell_ratio", 2.0),
        ascii=getattr(app, "ascii", False),
        light=not app.current_theme.dark,
    )


class Picture(Widget):
    """A picture as large as the widget, optionally with a heat map over it. The parent shows whether it is selected."""

    DEFAULT_CSS = """
    Picture { width: 24; height: 12; }
    """

    show_heat: reactive[bool] = reactive(True)
    """Whether to show the heat map, where there is one."""

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._pixels: UInt8[ndarray, "height width 3"] | None = None
        self._heat: Float[ndarray, "y x"] | None = None
        self._maximum = 1.0
        self._key: Hashable = None
        self._sentence = ""
        self._strips: list[Strip] = []
        self._drawn: Hashable = None  # what the strips were made for

    @property
    def key(self) -> Hashable:
        """The ``key`` of the picture shown; None when there is none."""
        return self._key

    @property
    def look(self) -> Look:
        return look_of(self.app)

    def show(
        self,
        pixels: UInt8[ndarray, "height width 3"] | None,
        heat: Float[ndarray, "y x"] | None = None,
        heat_maximum: float = 1.0,
        key: Hashable = None,
    ) -> None:
        """Show ``pixels`` with ``heat`` (0 to ``heat_maximum`` per patch). Does nothing if ``key`` is shown already."""
        if pixels is None:
            self.clear()
        elif key is None or key != self._key:
            self._replace(key, pixels=pixels, heat=heat, maximum=heat_maximum)

    def clear(self) -> None:
        """Show nothing."""
        self._replace(None)

    def failed(self, sentence: str) -> None:
        """Show ``sentence``, which says why there is no picture."""
        self._replace(None, sentence=sentence)

    def render_line(self, y: int) -> Strip:
        blank = self.visual_style.rich_style
        strips = self._current()
        if y >= len(strips):
            return Strip.blank(self.size.width, blank)
        return Strip(
            [segment if segment.style else segment._replace(style=blank) for segment in strips[y]],
            strips[y].cell_length,
        )

    def watch_show_heat(self) -> None:
        self.refresh()

    def _replace(
        self,
        key: Hashable,
        *,
        pixels: UInt8[ndarray, "height width 3"] | None = None,
        heat: Float[ndarray, "y x"] | None = None,
        maximum: float = 1.0,
        sentence: str = "",
    ) -> None:
        self._key, self._pixels, self._heat, self._maximum = key, pixels, heat, maximum
        self._sentence, self._strips, self._drawn = sentence, [], None
        self.refresh()

    def _current(self) -> list[Strip]:
        """The strips, drawn again when the size, the look or the heat has changed."""
        wanted = (self.size, self.look, self.show_heat)
        if self._drawn != wanted and self._pixels is not None:
            heat = self._heat if self.show_heat else None
            self._strips = draw(self._pixels, *self.size, self.look, heat, self._maximum)
        elif self._drawn != wanted and self._sentence:
            self._strips = _text_strips(self._sentence, self.size)
        self._drawn = wanted
        return self._strips


def _text_strips(text: str, size: Size) -> list[Strip]:
    """``text`` wrapped and centred in ``size`` cells, cut where it does not fit."""
    lines = textwrap.wrap(literal(text), max(size.width, 1))[: size.height]
    above = (size.height - len(lines)) // 2
    return [Strip.blank(size.width)] * above + [
        Strip([Segment(fit(line, size.width).center(size.width))], size.width) for line in lines
    ]
