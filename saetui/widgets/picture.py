"""One picture in cells, which are drawn once for its size and kept until it changes."""

import textwrap
from collections.abc import Hashable
from typing import Any

from jaxtyping import Float, UInt8
from numpy import ndarray
from rich.segment import Segment
from textual.app import App
from textual.color import Color
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from saetui.formatting import fit, literal
from saetui.terminal.cells import Look, draw

_STEP, _STEP_OVER_SSH = 4.0, 8.0  # of brightness, of 255: colours that differ less are drawn alike


def look_of(app: App[Any]) -> Look:
    """How ``app`` draws pictures, by its attributes; an app without them gets half blocks in 24-bit colour."""
    theme, terminal = app.current_theme, getattr(app, "terminal", None)
    return Look(
        style=getattr(app, "picture_style", "half"),
        colours=getattr(app, "colours", "truecolor"),
        ratio=getattr(app, "cell_ratio", 2.0),
        ascii=getattr(app, "ascii", False),
        ground=Color.parse(theme.background or "black").rgb,
        accent=Color.parse(theme.accent or "white").rgb,
        step=_STEP_OVER_SSH if terminal is not None and terminal.ssh else _STEP,
    )


class Picture(Widget):
    """A picture as large as the widget."""

    DEFAULT_CSS = """
    Picture { width: 24; height: 12; }
    """

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.key: Hashable = None
        """Of the picture shown; None when there is none."""
        self._pixels: UInt8[ndarray, "height width 3"] | None = None
        self._sentence = ""
        self._strips: list[Strip] = []
        self._laid: tuple[Any, float, tuple[int, int, int, int] | None] = (None, 1.0, None)
        self._drawn: Hashable = None  # what the strips were made for

    @property
    def look(self) -> Look:
        return look_of(self.app)

    def show(self, pixels: UInt8[ndarray, "height width 3"] | None, key: Hashable = None) -> None:
        """Show ``pixels``, or nothing. Does nothing if ``key`` is shown already."""
        if key is None or key != self.key:
            self._replace(key, pixels)

    def show_heat(
        self, heat: Float[ndarray, "y x"] | None, maximum: float = 1.0, mark: tuple[int, int, int, int] | None = None
    ) -> None:
        """Lay ``heat`` over the picture, and outline its strongest patch, or ``mark``; as for ``draw``."""
        self._laid = (heat, maximum, mark)
        self._drawn = None
        self.refresh()

    def failed(self, sentence: str) -> None:
        """Show ``sentence``, which says why there is no picture."""
        self._replace(None, None, sentence)

    def render_line(self, y: int) -> Strip:
        blank = self.visual_style.rich_style
        strips = self._current()
        if y >= len(strips):
            return Strip.blank(self.size.width, blank)
        return Strip(
            [segment if segment.style else segment._replace(style=blank) for segment in strips[y]],
            strips[y].cell_length,
        )

    def _replace(self, key: Hashable, pixels: UInt8[ndarray, "height width 3"] | None, sentence: str = "") -> None:
        self.key, self._pixels, self._sentence = key, pixels, sentence
        self._strips, self._drawn = [], None
        self.refresh()

    def _current(self) -> list[Strip]:
        """The strips, drawn again when the size or the look has changed."""
        wanted = (self.size, self.look)
        if self._drawn != wanted and self._pixels is not None:
            heat, maximum, mark = self._laid
            self._strips = draw(self._pixels, *self.size, self.look, heat, maximum, mark)
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
