"""The last filter of every line that the workbench paints: nothing in it acts on the terminal."""

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from saetui.formatting import literal


class Literal(LineFilter):
    """Applies ``literal`` to every line of the app, cell for cell; what composes it has left room for what is shown.

    Sequences of graphics, which widgets mark as such, are left alone.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [segment if _harmless(segment) else _literal(segment) for segment in segments]


def _harmless(segment: Segment) -> bool:
    text, style, control = segment
    return bool(control) or (text.isprintable() and not (style and style.link))


def _literal(segment: Segment) -> Segment:
    text, style, _ = segment
    shown = "".join(c if c == literal(c) and c != "\n" else "\ufffd" * cell_len(c) for c in text)
    return Segment(shown, style.update_link(None) if style else style)
