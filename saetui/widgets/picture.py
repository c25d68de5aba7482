"""One picture: cells that are made once for its size and kept until it changes."""

import textwrap
from collections.abc import Hashable

from jaxtyping import Float, UInt8
from numpy import ndarray
from rich.segment import Segment
from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from saetui.formatting import fit, literal
from saetui.terminal.cells import Look, draw


class Picture(Widget):
    """A picture as large as the widget, perhaps with a heat map over it.

    How it is drawn is read from the app's attributes ``picture_style``, ``colours``, ``cell_ratio`` and ``ascii``
    where it has them. A selection is the parent's to show.
    """

    DEFAULT_CSS = """
    Picture { width: 24; height: 12; }
    """

    show_heat: reactive[bool] = reactive(True)
    """Whether the heat map is laid over the picture, where there is one."""

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
        """What was shown last, as its caller named it; None when it is empty."""
        return self._key

    @property
    def look(self) -> Look:
        """How the app's terminal draws pictures."""
        app = self.app
        return Look(
            style=getattr(app, "picture_style", "half"),
            colours=getattr(app, "colours", "truecolor"),
            ratio=getattr(app, "cell_ratio", 2.0),
            ascii=getattr(app, "ascii", False),
            light=not app.current_theme.dark,
        )

    def show(
        self,
        pixels: UInt8[ndarray, "height width 3"] | None,
        heat: Float[ndarray, "y x"] | None = None,
        heat_maximum: float = 1.0,
        key: Hashable = None,
    ) -> None:
        """Show ``pixels`` with ``heat`` (0 to ``heat_maximum`` per patch). The ``key`` that is shown stays as it is."""
        if pixels is None:
            self.clear()
        elif key is None or key != self._key:
            self._become(key, pixels=pixels, heat=heat, maximum=heat_maximum)

    def take(self, strips: list[Strip], key: Hashable) -> None:
        """Show ``strips`` that ``strips_for`` made elsewhere. A resize clips or pads them until others come."""
        if key is None or key != self._key:
            self._become(key, strips=strips)

    def clear(self) -> None:
        """Show nothing."""
        self._become(None)

    def failed(self, sentence: str) -> None:
        """Show why there is no picture."""
        self._become(None, sentence=sentence)

    @staticmethod
    def strips_for(
        pixels: UInt8[ndarray, "height width 3"],
        size: Size,
        look: Look,
        heat: Float[ndarray, "y x"] | None = None,
        heat_maximum: float = 1.0,
    ) -> list[Strip]:
        """The picture in ``size`` cells. Touches no widget: for a thread."""
        return draw(pixels, size.width, size.height, look, heat, heat_maximum) if size else []

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

    def _become(
        self,
        key: Hashable,
        *,
        pixels: UInt8[ndarray, "height width 3"] | None = None,
        heat: Float[ndarray, "y x"] | None = None,
        maximum: float = 1.0,
        sentence: str = "",
        strips: list[Strip] | None = None,
    ) -> None:
        self._key, self._pixels, self._heat, self._maximum = key, pixels, heat, maximum
        self._sentence, self._strips, self._drawn = sentence, strips or [], None
        self.refresh()

    def _current(self) -> list[Strip]:
        """The strips, made again when the size, the look or the heat has changed."""
        wanted = (self.size, self.look, self.show_heat)
        if self._drawn != wanted and self._pixels is not None:
            heat = self._heat if self.show_heat else None
            self._strips = self.strips_for(self._pixels, self.size, self.look, heat, self._maximum)
        elif self._drawn != wanted and self._sentence:
            self._strips = _sentence(self._sentence, self.size)
        self._drawn = wanted
        return self._strips


def _sentence(text: str, size: Size) -> list[Strip]:
    """``text`` wrapped in the middle of ``size`` cells, cut where there is no room."""
    lines = textwrap.wrap(literal(text), max(size.width, 1))[: size.height]
    over = (size.height - len(lines)) // 2
    return [Strip.blank(size.width)] * over + [
        Strip([Segment(fit(line, size.width).center(size.width))], size.width) for line in lines
    ]
