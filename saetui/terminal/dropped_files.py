"""Files dropped on a terminal: they arrive as pasted text, which each terminal quotes in its own way."""

import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit


def dropped_path(text: str) -> Path | None:
    """The existing path that ``text`` names: a ``file://`` URL, quoted or escaped for a shell, or plain.

    The first of several; None when no such file or directory exists, so that no file was dropped.
    """
    text = text.strip()
    if not text:
        return None
    if text.lower().startswith("file://"):
        readings = [unquote(urlsplit(text.splitlines()[0]).path)]
    else:
        readings = [text, _shell_word(text)]
    paths = [Path(reading) for reading in readings]
    return next((path.expanduser() for path in paths if _exists(path)), None)


def _shell_word(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:  # an unclosed quote: part of the name
        return text
    return words[0] if words else text


def _exists(path: Path) -> bool:
    try:
        return path.expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a path, or the home of an unknown user
        return False
