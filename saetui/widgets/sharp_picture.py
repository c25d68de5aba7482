"""One picture at full resolution, by kitty or sixel graphics: an optional extra, ``pip install 'saetui[graphics]'``.

Only the picture of Steer is drawn so, where the terminal can and textual-image is installed. Pictures that scroll or
stand in a grid are always drawn in cells.
"""

from collections.abc import Hashable
from typing import Any

from PIL import Image
from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Static

from saetui.formatting import literal
from saetui.terminal.heat import box, faded, outlined, strongest
from saetui.terminal.probe import Terminal
from saetui.widgets.picture import look_of


def graphics(terminal: Terminal) -> type[Widget] | None:
    """The widget that draws pictures in this terminal; None where it has only cells, or without the extra.

    Call it before the app starts: textual-image asks the terminal for the size of its cells when it is imported.
    """
    if terminal.rung not in ("kitty", "sixel"):
        return None
    try:
        from textual_image.widget import SixelImage, TGPImage
    except ImportError:
        return None
    return TGPImage if terminal.rung == "kitty" else SixelImage


class SharpPicture(Container):
    """As ``Picture``, drawn by a widget that ``graphics`` found."""

    DEFAULT_CSS = """
    SharpPicture > .drawn { width: auto; height: auto; max-width: 100%; max-height: 100%; }
    SharpPicture > Static { display: none; }
    SharpPicture.-failed > .drawn { display: none; }
    SharpPicture.-failed > Static { display: block; width: 1fr; height: auto; }
    """

    def __init__(self, drawn_by: type[Widget], **options: Any):
        super().__init__(**options)
        self._drawn: Any = drawn_by(classes="drawn")
        self._key: Hashable = None
        self._pixels: Any = None
        self._heat: Any = None

    def compose(self) -> ComposeResult:
        yield self._drawn
        yield Static(markup=False)

    def show(self, pixels: Any, key: Hashable = None) -> None:
        """Show ``pixels`` (height, width, 3). Sends nothing if ``key`` is shown already."""
        if key is not None and key == self._key:
            return
        self._key = key
        self.remove_class("-failed")
        self._pixels = pixels
        self._draw()

    def show_heat(self, heat: Any, maximum: float = 1.0) -> None:
        """As of ``Picture``."""
        if heat is not None or self._heat is not None:
            self._heat = None if heat is None else heat / maximum
            self._draw()

    def _draw(self) -> None:
        pixels, ground = self._pixels, look_of(self.app).ground
        if pixels is not None and self._heat is not None:
            pixels = faded(pixels, self._heat, 1.0, ground)
            if patch := strongest(self._heat):
                inner = box(patch, self._heat.shape, *pixels.shape[:2])
                pixels = outlined(pixels, inner, look_of(self.app).accent, ground)
        self._drawn.image = None if pixels is None else Image.fromarray(pixels)

    def failed(self, sentence: str) -> None:
        self._key = None
        self.query_one(Static).update(literal(sentence))
        self.add_class("-failed")
