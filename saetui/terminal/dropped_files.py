"""Files dropped on a terminal: they arrive as pasted text, which each terminal quotes in its own way."""

import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.files import path_of


def dropped_path(text: str, base: Path = Path()) -> Path | None:
    """The existing path, from ``base``, that ``text`` names: a ``file://`` URL, quoted for a shell, or plain.

    The first of several; None when no such file or directory exists, so that no file was dropped.
    """
    text = text.strip()
    if not text:
        return None
    is_url = text.lower().startswith("file://")
    readings = _named_by_url(text.splitlines()[0]) if is_url else [text, _shell_word(text)]
    paths = [Path(reading) for reading in readings]
    return next((base / path_of(path) for path in paths if _exists(base / path_of(path))), None)


def _named_by_url(url: str) -> list[str]:
    try:
        return [unquote(urlsplit(url).path)]
    except ValueError:  # a bracket that is not closed
        return []


def _shell_word(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:  # an unclosed quote: part of the name
        return text
    return words[0] if words else text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path
        return False
