"""What an instruction model is asked about an answer, and how its reply is read."""

import re
from collections.abc import Mapping

from engine.files import value_sha256
from engine.steer.judges import Case

_TEXT = "It was asked for with these words: {prompt}\n\nThe text, between the lines:\n---\n{answer}\n---\n\n"
_REPLY = " Reply with one word, yes or no."
ASKS: Mapping[str, str] = {
    "appeared": "Below is a text.\n"
    + _TEXT
    + 'Does the text mention "{concept}", or something that is plainly an instance of it?'
    + _REPLY,
    "followed": "Below is a text.\n"
    + _TEXT
    + "Is the text of the kind, and of the form, that was asked for? What it is about does not matter."
    + _REPLY,
    "kept": "Below are two texts that answer the same words: {prompt}\n\nFirst, between the lines:\n---\n{untouched}\n"
    '---\n\nSecond, between the lines:\n---\n{answer}\n---\n\nPass over all that has to do with "{concept}". Does the '
    "second text still say the main other things that the first one says?" + _REPLY,
}
"""Of each kind of question, with the fields of the case in braces."""
IDENTITY = value_sha256(dict(ASKS))[:16]
REPLY_TOKENS = 8
_WORD = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def question(case: Case) -> str:
    """The question in full. Braces in an answer are no fields."""
    fields = {"prompt": case.prompt, "answer": case.answer, "concept": case.concept, "untouched": case.untouched}
    return re.sub(r"\{(\w+)\}", lambda found: fields[found[1]], ASKS[case.kind])


def read_reply(text: str) -> bool | None:
    """Whether the first yes or no of a reply is yes; None where it has neither."""
    found = _WORD.search(text)
    return None if found is None else found[1].lower() == "yes"
