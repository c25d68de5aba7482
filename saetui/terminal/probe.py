"""What the terminal is and can draw. Asked once, before the app starts: late replies would look like key presses.

Imports nothing slow, as ``saetui doctor`` and the start of the app wait for it.
"""

import contextlib
import os
import re
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.errors import UserError

Colours = Literal["truecolor", "256", "16", "mono"]
Rung = Literal["kitty", "sixel", "truecolor", "256", "mono"]

LIMIT = 2.0  # seconds to wait for all answers, which take one round trip
PLACEHOLDERS = (0, 28)  # kitty's first version with Unicode placeholders: images that scroll and clip as text does
SMALLEST = (80, 24)

# XTVERSION; kitty's graphics query; a 24-bit background, and whether it was understood (DECRQSS); the size of a cell;
# a wipe of what terminals that know none of these have printed; DA1 last, which every terminal answers.
QUERIES = (
    b"\x1b[>0q\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[48:2:1:2:3m\x1bP$qm\x1b\\\x1b[m\x1b[16t\r\x1b[K\x1b[c"
)
_VERSION = re.compile(rb"\x1bP>\|([^\x1b]*)\x1b\\")
_GRAPHICS = re.compile(rb"\x1b_Gi=31;OK\x1b\\")
_TRUECOLOR = re.compile(rb"\x1bP1\$r[\d:;]*48[:;]2[:;]+1[:;]2[:;]3m\x1b\\")
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL = "4"  # among the attributes of DA1

# Values of TERM whose terminals print queries as text, or answer none.
_NEVER_ASKED = ("", "dumb", "linux", "vt100", "vt220")
# Terminals known to have 24-bit colour by TERM: SSH forwards it, but not COLORTERM.
_TRUECOLOR_TERMS = ("xterm-kitty", "xterm-ghostty", "foot", "alacritty", "xterm-direct", "wezterm", "contour")
_TMUX_FORMAT = "\t".join(
    f"#{{{name}}}"
    for name in (
        "version",
        "client_termname",
        "client_termtype",
        "client_termfeatures",
        "allow-passthrough",
        "client_cell_width",
        "client_cell_height",
    )
)
_COLOUR_SYSTEMS = {"truecolor": "truecolor", "256": "256", "16": "standard", "mono": "standard"}  # Textual's names
_FORCED: dict[str, dict[str, Any]] = {  # overrides, by users who know better than the probe
    "kitty": {"rung": "kitty", "colours": "truecolor", "kitty": True},
    "sixel": {"rung": "sixel", "colours": "truecolor", "sixel": True},
    "truecolor": {"rung": "truecolor", "colours": "truecolor"},
    "256": {"rung": "256", "colours": "256"},
    "16": {"rung": "mono", "colours": "16"},
    "mono": {"rung": "mono"},
}


@dataclass(frozen=True)
class Replies:
    """What a terminal said about itself."""

    name: str = ""
    version: str = ""
    truecolor: bool = False
    kitty: bool = False  # kitty's graphics protocol
    sixel: bool = False
    cell: tuple[int, int] | None = None  # width and height in pixels
    complete: bool = False  # the last question was answered


@dataclass(frozen=True)
class Terminal:
    """What the terminal is, what it can, and how pictures are drawn on it."""

    term: str = ""
    name: str = ""
    version: str = ""
    colours: Colours = "mono"
    """The colours it has; ``picture_colours`` are those that pictures use."""
    kitty: bool = False
    """Whether it knows kitty's graphics protocol."""
    sixel: bool = False
    cell: tuple[int, int] | None = None
    """Width and height of a cell in pixels."""
    columns: int = 80
    rows: int = 24
    ssh: bool = False
    tmux: bool = False
    tty: bool = False
    erases: bool = False
    """Whether it erases cells in the colour that is in force, by its entry in terminfo."""
    late: bool = False
    """Whether it was asked and had not answered all in time: what it still says is no key."""
    rung: Rung = "mono"
    """The best way to draw pictures here: kitty's placeholders, sixel, cells in many or few colours, glyphs."""
    seconds: float = 0.0
    """How long the probe took."""
    advice: list[str] = field(default_factory=list)
    """Sentences on how to get better pictures, the most important first."""

    @property
    def picture_colours(self) -> Colours:
        """The colours of pictures made of cells."""
        return self.rung if self.rung in ("256", "mono") else "truecolor"

    @property
    def cell_ratio(self) -> float:
        """Height of a cell over its width."""
        return self.cell[1] / self.cell[0] if self.cell else 2.0


def probe(environ: Mapping[str, str] | None = None, device: str = "/dev/tty", limit: float = LIMIT) -> Terminal:
    """Ask the terminal, or tmux in its place, and choose the rung.

    Takes one round trip to the terminal, ``limit`` seconds at most. Never call it while an app runs.
    """
    env = os.environ if environ is None else environ
    began = time.monotonic()
    is_tty = sys.stdin.isatty() and sys.stdout.isatty()
    replies, asked = Replies(), False
    if env.get("TMUX"):
        replies = parse_tmux(_ask_tmux())
    elif is_tty and env.get("TERM", "") not in _NEVER_ASKED and not env.get("STY"):  # STY: GNU screen
        replies, asked = parse(ask(device, limit)), True
    size = shutil.get_terminal_size()
    terminal = Terminal(
        term=env.get("TERM", ""),
        name=replies.name,
        version=replies.version,
        colours=_colours(replies, env),
        kitty=replies.kitty,
        sixel=replies.sixel,
        cell=replies.cell,
        columns=size.columns,
        rows=size.lines,
        ssh=bool(env.get("SSH_CONNECTION") or env.get("SSH_TTY")),
        tmux=bool(env.get("TMUX")),
        tty=is_tty,
        erases=_erases(env.get("TERM", "")),
        late=asked and not replies.complete,
        seconds=time.monotonic() - began,
    )
    return choose(terminal, environ=env)


def _erases(term: str) -> bool:
    import curses

    try:
        curses.setupterm(term, 1)  # writes nothing
    except curses.error:  # no entry of that name
        return False
    return curses.tigetflag("bce") == 1 and curses.tigetstr("ech") is not None


def choose(terminal: Terminal, override: str = "auto", environ: Mapping[str, str] | None = None) -> Terminal:
    """``terminal`` with its rung and advice: by ``override`` (a flag or preference), else the best it supports.

    An override is a rung, or a number of colours. Raises UserError for anything else.
    """
    env = os.environ if environ is None else environ
    if override == "auto":
        chosen = replace(terminal, rung=_best(terminal, env))
        return replace(chosen, advice=_advice(chosen, env))
    if override not in _FORCED:
        raise UserError(f"{override!r} is not a way to draw pictures: choose auto, {', '.join(_FORCED)}.")
    return replace(terminal, advice=[], **_FORCED[override])


def environment(terminal: Terminal) -> dict[str, str]:
    """Variables to set before Textual is imported: it recognises too few terminals by itself."""
    variables = {"TEXTUAL_COLOR_SYSTEM": _COLOUR_SYSTEMS[terminal.colours]}
    if terminal.rung == "mono" and terminal.colours != "16":
        variables["NO_COLOR"] = "1"
    return variables


def parse(data: bytes) -> Replies:
    """The replies to QUERIES in ``data``, in any order and mixed with anything else, such as typed keys."""
    name, version = _name(_first(_VERSION, data))
    cell = _CELL.search(data)
    attributes = _first(_ATTRIBUTES, data).split(";")
    return Replies(
        name=name,
        version=version,
        truecolor=bool(_TRUECOLOR.search(data)),
        kitty=bool(_GRAPHICS.search(data)),
        sixel=_SIXEL in attributes[1:],  # the first is the class of the terminal
        cell=_cell(int(cell[2]), int(cell[1])) if cell else None,
        complete=bool(_ATTRIBUTES.search(data)),
    )


def parse_tmux(line: str) -> Replies:
    """What tmux says of the terminal around it: a line of ``_TMUX_FORMAT``, with empty fields without a client."""
    fields = [part.strip() for part in line.split("\t")]
    if len(fields) != len(_TMUX_FORMAT.split("\t")):
        return Replies(name="tmux")
    version, term, outer, features, passthrough, width, height = fields
    known = features.split(",")
    graphics = passthrough in ("on", "all") and term in ("xterm-kitty", "xterm-ghostty")
    return Replies(
        name="tmux",
        version=version,
        truecolor="RGB" in known,
        kitty=graphics and _has_placeholders(*_name(outer)),
        sixel="sixel" in known,
        cell=_cell(int(width or 0), int(height or 0)) if (width + height).isdigit() else None,
        complete=bool(term),
    )


def ask(device: str = "/dev/tty", limit: float = LIMIT) -> bytes:
    """Write QUERIES to the terminal ``device`` and read until DA1 is answered or ``limit`` seconds have passed.

    Restores the terminal's settings and drops unread input. Returns nothing where there is no terminal, or this process
    is in its background.
    """
    try:
        terminal = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp():  # in the background, changing the settings would stop it
            return b""
        return _converse(terminal, limit)
    except (OSError, termios.error):
        return b""
    finally:
        os.close(terminal)


def _converse(terminal: int, limit: float) -> bytes:
    settings = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSANOW)  # no echo, no line buffering; ctrl+c still works
        os.write(terminal, QUERIES)
        return _read(terminal, limit)
    finally:
        with contextlib.suppress(termios.error):
            termios.tcflush(terminal, termios.TCIFLUSH)
            termios.tcsetattr(terminal, termios.TCSANOW, settings)


def _read(terminal: int, limit: float) -> bytes:
    data, end = b"", time.monotonic() + limit
    while not _ATTRIBUTES.search(data):
        ready, _, _ = select.select([terminal], [], [], max(end - time.monotonic(), 0))
        piece = os.read(terminal, 4096) if ready else b""
        if not piece:
            break
        data += piece
    return data


def _ask_tmux() -> str:
    import subprocess

    command = ["tmux", "display-message", "-p", _TMUX_FORMAT]
    try:
        reply = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return reply.rstrip("\n")


def _colours(replies: Replies, env: Mapping[str, str]) -> Colours:
    term = env.get("TERM", "")
    if term in ("", "dumb") or env.get("NO_COLOR"):
        return "mono"
    if replies.truecolor:
        return "truecolor"
    if env.get("TMUX") and replies.complete:
        return "256"  # tmux reduces more to this, and COLORTERM may be from another terminal
    if env.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit") or term.startswith(_TRUECOLOR_TERMS):
        return "truecolor"
    if "256color" in term:
        return "256"
    return "mono" if term.startswith("vt") else "16"


def _best(terminal: Terminal, env: Mapping[str, str]) -> Rung:
    if env.get("NO_COLOR") or terminal.colours in ("16", "mono"):
        return "mono"
    if terminal.colours == "256":
        return "256"
    if terminal.kitty and not terminal.tmux and _has_placeholders(terminal.name, terminal.version):
        return "kitty"  # not in tmux: images are not wrapped to pass through it
    return "sixel" if terminal.sixel else "truecolor"


def _has_placeholders(name: str, version: str) -> bool:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return name == "ghostty" or (name == "kitty" and numbers >= PLACEHOLDERS)


def _advice(terminal: Terminal, env: Mapping[str, str]) -> list[str]:
    advice: list[str] = []
    if not terminal.tty:
        return advice
    if env.get("NO_COLOR"):
        advice.append("NO_COLOR is set, so pictures are glyphs: unset it to see them in colour.")
    elif terminal.term in ("", "dumb"):
        advice.append("TERM names no terminal: export TERM=xterm-256color if yours can do more.")
    elif terminal.tmux and terminal.colours != "truecolor":
        advice.append(
            "tmux reduces pictures to 256 colours: if the terminal around it has 24-bit colour, put "
            "set -as terminal-features ',*:RGB' into ~/.tmux.conf and attach again."
        )
    elif terminal.colours != "truecolor":
        advice.append(
            "The terminal did not say that it has 24-bit colour (SSH does not forward COLORTERM): "
            "export COLORTERM=truecolor if it has."
        )
    elif terminal.ssh:
        advice.append("Pictures travel over SSH: ssh -C sends them in about a quarter of the bytes.")
    columns, rows = SMALLEST
    if terminal.columns < columns or terminal.rows < rows:
        advice.append(
            f"The window has {terminal.columns}x{terminal.rows} cells: the workbench wants {columns}x{rows} or more."
        )
    return advice


def _name(text: str) -> tuple[str, str]:
    """Name and version in an answer to XTVERSION: ``kitty(0.35.2)``, ``tmux 3.4``, ``ghostty 1.0.1``."""
    match = re.match(r"([A-Za-z][\w.-]*)[ (/]*([\w.-]*)", text)
    return (match[1], match[2]) if match else ("", "")


def _cell(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if width > 0 and height > 0 else None


def _first(pattern: re.Pattern[bytes], data: bytes) -> str:
    match = pattern.search(data)
    return match[1].decode("ascii", "replace") if match else ""
