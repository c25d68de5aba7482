"""One picture on the whole terminal, in the best way it supports, while the app is suspended."""

import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.color import ColorSystem

from engine.images.opening import read_picture
from saetui.formatting import fit, literal
from saetui.terminal.cells import Look, draw
from saetui.terminal.drawing import Drawing
from saetui.terminal.probe import Terminal

INLINE_IMAGES = ("iTerm2", "WezTerm", "Konsole")  # names of terminals that speak iTerm2's protocol
HINT = "any key returns"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H", "\x1b[?25h\x1b[?1049l"  # alternate screen, cursor hidden


def show_full(image: Image.Image | Path, terminal: Terminal, caption: str = "", *, ascii: bool = False) -> None:
    """Draw ``image`` as large as the terminal allows, ``caption`` below it, and wait for a key.

    For use inside ``with app.suspend():``. Restores the screen. Raises UserError for a file that cannot be
    read, before anything is drawn.
    """
    picture = image if isinstance(image, Image.Image) else read_picture(image)
    columns, lines = shutil.get_terminal_size()
    words = fit(f"{literal(caption)}  {HINT}".replace("\n", " ").strip(), columns)
    screen = Drawing(sys.stdout)
    screen.write(_ENTER)
    with _ended_by_signals():
        try:
            screen.write(rendered(picture, terminal, columns, max(lines - 1, 1), ascii=ascii))
            screen.write(f"\x1b[m\x1b[{lines};1H{words}")
            screen.flush()
            _wait_for_key()
        finally:
            screen.write(("\x1b_Ga=d\x1b\\" if terminal.kitty else "") + _LEAVE)  # kitty keeps images
            screen.flush()


class _Ended(Exception):
    pass


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Signals that end a process end the block first, which would wait for a key, and then do what they did before."""
    came: list[int] = []

    def end(number: int, _: object) -> None:
        came.append(number)
        raise _Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with contextlib.suppress(_Ended):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def rendered(picture: Image.Image, terminal: Terminal, columns: int, rows: int, *, ascii: bool = False) -> str:
    """The text that draws ``picture`` in ``columns`` x ``rows`` cells: kitty's or iTerm2's protocol, else cells."""
    if terminal.rung != "mono" and not terminal.tmux and (terminal.kitty or terminal.name in INLINE_IMAGES):
        return _by_protocol(picture, terminal, columns, rows)
    look = Look("quadrant", terminal.picture_colours, terminal.cell_ratio, ascii)
    system = ColorSystem.EIGHT_BIT if look.colours == "256" else ColorSystem.TRUECOLOR
    return "\n".join(
        "".join(text if style is None else style.render(text, color_system=system) for text, style, _ in strip)
        for strip in draw(np.asarray(picture.convert("RGB")), columns, rows, look)
    )


def _by_protocol(picture: Image.Image, terminal: Terminal, columns: int, rows: int) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        import term_image
        from term_image.image import ITerm2Image, KittyImage

    term_image.disable_queries()  # a late answer would reach the app as key presses
    term_image.set_cell_ratio(1 / terminal.cell_ratio)
    kind = KittyImage if terminal.kitty else ITerm2Image
    kind.forced_support = True  # the probe has found out
    drawn = kind(picture)
    drawn.set_size(frame_size=(columns, rows))
    return format(drawn, f"{columns}.{rows}+W")  # "whole": one transmission, not one per line


def _wait_for_key() -> None:
    if not sys.stdin.isatty():
        return
    keyboard = sys.stdin.fileno()
    settings = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard)  # so that ctrl+c is any key, and does not end the app
        os.read(keyboard, 64)
    finally:
        termios.tcflush(keyboard, termios.TCIFLUSH)
        termios.tcsetattr(keyboard, termios.TCSANOW, settings)
