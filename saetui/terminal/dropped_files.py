"""Files dropped on a terminal: they arrive as pasted text, each terminal with its own idea of quoting."""

import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit


def dropped_path(text: str) -> Path | None:
    """The file or directory that ``text`` means: a ``file://`` address, quoted or escaped for a shell, or as it is.

    Of several the first. None when there is nothing of that name: then it was not a file that was dropped.
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
    except ValueError:  # a quote that does not end: it is part of the name
        return text
    return words[0] if words else text


def _exists(path: Path) -> bool:
    try:
        return path.expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a pasted page is no path, and ~nobody has no home
        return False
