"""The patches whose tokens are steered, painted on the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from engine.steer.interventions import parse_tokens, tokens_text
from saetui.bindings import key
from saetui.widgets.picture import Picture
from saetui.widgets.words import Words

KEYS = "space paint   shift+arrows paint along   b from corner to corner   a all or none   enter take   esc cancel"


class TokenPainter(ModalScreen[str | None]):
    """The image large, what is not steered faded; the tokens as Setup has them, or None where all stays as it was."""

    DEFAULT_CSS = """
    TokenPainter { align: center middle; }
    TokenPainter > Vertical { width: 90%; height: 90%; background: $surface; border: round $border; padding: 0 1; }
    TokenPainter Picture { width: 1fr; height: 1fr; }
    TokenPainter Words { height: auto; max-height: 3; color: $secondary; }
    """
    BINDINGS = [
        key("tokens.left", "left,h", "move(0, -1)", "Left"),
        key("tokens.right", "right,l", "move(0, 1)", "Right"),
        key("tokens.up", "up,k", "move(-1, 0)", "Up"),
        key("tokens.down", "down,j", "move(1, 0)", "Down"),
        key("tokens.along_left", "shift+left,H", "along(0, -1)", "Paint to the left"),
        key("tokens.along_right", "shift+right,L", "along(0, 1)", "Paint to the right"),
        key("tokens.along_up", "shift+up,K", "along(-1, 0)", "Paint upwards"),
        key("tokens.along_down", "shift+down,J", "along(1, 0)", "Paint downwards"),
        key("tokens.first", "home", "edge(1, 0)", "First column"),
        key("tokens.last", "end", "edge(1, -1)", "Last column"),
        key("tokens.top", "pageup", "edge(0, 0)", "First row"),
        key("tokens.bottom", "pagedown", "edge(0, -1)", "Last row"),
        key("tokens.paint", "space", "paint", "Paint, or wipe"),
        key("tokens.box", "b", "box", "From corner to corner"),
        key("tokens.all", "a", "all", "All, or none"),
        key("tokens.take", "enter", "take", "Take"),
        key("tokens.help", "question_mark,f1", "app.help", "Help"),
        key("tokens.close", "escape,q", "dismiss", "Cancel"),
    ]

    def __init__(self, pixels: Any, grid: tuple[int, int], tokens: str):
        """``pixels`` (height, width, 3) of the image, ``grid`` rows and columns of patches, ``tokens`` as in Setup."""
        super().__init__()
        self._pixels = pixels
        chosen = parse_tokens(tokens)
        count = grid[0] * grid[1]
        self.painted: Bool[ndarray, "rows columns"] = np.full(grid, chosen is None)
        self.painted.flat[[token for token in chosen or () if token < count]] = True
        self.cursor = 0, 0
        self._corner: tuple[int, int] | None = None

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Picture()
            yield Words()

    def on_mount(self) -> None:
        self.query_one(Picture).show(self._pixels, key="picture")
        self._show()

    def action_move(self, down: int, right: int) -> None:
        rows, columns = self.painted.shape
        row, column = self.cursor
        self._go(min(max(row + down, 0), rows - 1), min(max(column + right, 0), columns - 1))

    def action_along(self, down: int, right: int) -> None:
        """Paint where the cursor stands and where it goes."""
        self.painted[self.cursor] = True
        self.action_move(down, right)
        self.painted[self.cursor] = True
        self._show()

    def action_edge(self, axis: int, place: int) -> None:
        to = list(self.cursor)
        to[axis] = range(self.painted.shape[axis])[place]
        self._go(to[0], to[1])

    def action_paint(self) -> None:
        self.painted[self.cursor] ^= True
        self._show()

    def action_box(self) -> None:
        """First one corner, then the one across from it."""
        if self._corner is None:
            self._corner = self.cursor
        else:
            (top, left), (bottom, right) = np.sort([self._corner, self.cursor], axis=0).tolist()
            self.painted[top : bottom + 1, left : right + 1] = True
            self._corner = None
        self._show()

    def action_all(self) -> None:
        self.painted[:] = not self.painted.all()
        self._show()

    def action_take(self) -> None:
        if self.painted.any():
            self.dismiss(tokens_text(np.flatnonzero(self.painted).tolist(), self.painted.size))
        else:
            self.query_one(Words).say("Nothing would be steered: paint a patch, or take all with a.")

    def _go(self, row: int, column: int) -> None:
        self.cursor = row, column
        self._show()

    def _show(self) -> None:
        self.query_one(Picture).show_heat(self.painted.astype(float), 1.0, (*self.cursor, *self.painted.shape))
        row, column = self.cursor
        here = f"row {row + 1} of {self.painted.shape[0]}, column {column + 1} of {self.painted.shape[1]}"
        corner = "   b again closes the box" if self._corner else ""
        said = f"{int(self.painted.sum()):,} of {self.painted.size:,} patches   {here}{corner}"
        self.query_one(Words).say(f"{said}\n{KEYS}")
