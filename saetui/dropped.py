"""Files dropped on a terminal: they arrive as pasted text, each terminal with its own idea of quoting."""

import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit


def dropped_path(text: str) -> str:
    """The path that ``text`` means: a ``file://`` address, quoted or escaped for a shell, or as it is.

    Of several files the first. A name that can be read in two ways is what exists. Empty for an empty text.
    """
    text = text.strip()
    if not text:
        return ""
    if text.lower().startswith("file://"):
        return unquote(urlsplit(text.split()[0]).path)
    plain, unquoted = (str(Path(reading).expanduser()) for reading in (text, _shell_word(text)))
    return plain if _exists(plain) else unquoted


def _shell_word(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that does not end: it is part of the name
        return text
    return words[0] if words else text


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a pasted page is no path
        return False
