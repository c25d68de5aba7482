"""Which words of an answer are new."""

import re
from difflib import SequenceMatcher

from rich.text import Text

from saetui.formatting import literal

_WORD = re.compile(r"\s+|\S+")


def changed_words(before: str, after: str) -> list[tuple[str, bool]]:
    """``after`` cut into words and the space between them, each with whether it is new against ``before``.

    Joined, the pieces are ``after``. Space is never new. Words that were only moved count as new where they went.
    """
    pieces = _WORD.findall(after)
    places = [place for place, piece in enumerate(pieces) if not piece.isspace()]
    words = [pieces[place] for place in places]
    new = set()
    for what, _, _, start, end in SequenceMatcher(None, before.split(), words, autojunk=False).get_opcodes():
        if what in ("replace", "insert"):
            new.update(places[start:end])
    return [(piece, place in new) for place, piece in enumerate(pieces)]


def marked(before: str | None, after: str, style: str) -> Text:
    """``after`` with the words that are new between ‹ and ›, in ``style``; as it is when ``before`` is None."""
    if before is None:
        return Text(literal(after))
    text = Text()
    for piece, new in changed_words(before, after):
        text.append(f"‹{literal(piece)}›" if new else literal(piece), style=style if new else "")
    return text
