"""Text from files and models that is shown, and never acts: not on a terminal, nor on one that shows a log."""

import io
import re
import sys

_ACTING = re.compile(
    "[\0-\x09\x0b-\x1f\x7f-\x9f"  # C0 but for the line feed, DEL and C1: what begins escape sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Unicode's Bidi_Control: what turns the direction of text
    "\u2028\u2029\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # breaks, and what is not seen
    "\ud800-\udfff]"  # halves of characters
)


def literal(text: str) -> str:
    """``text`` with U+FFFD for each character that would act on a terminal instead of being shown.

    Letters of every script stay, and what joins emoji and letters (U+200C, U+200D).
    """
    return text if text.isascii() and text.isprintable() else _ACTING.sub("\ufffd", text)


def escaped(text: str) -> str:
    r"""JSON ``text`` with such characters as \u escapes, which JSON reads back unchanged. Line feeds stay."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class LiteralStream(io.TextIOWrapper):
    """A text file of which every text is ``literal``, tabs and line breaks apart."""

    def write(self, text: str) -> int:
        lines = text.replace("\r\n", "\n").replace("\r", "\n")  # bars of libraries repaint their line
        super().write("\t".join(map(literal, lines.split("\t"))))
        return len(text)

    def draw(self, text: str) -> int:
        """Write escape sequences too, in what we have composed: pictures and progress bars."""
        return super().write(text)


def log_literally() -> None:
    """Let what this process prints, and its libraries, be ``literal``: it goes to a log, which terminals show."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(sys, name, LiteralStream(stream.buffer, stream.encoding, "replace", line_buffering=True))
