"""What is said of the drawn world: statements, thirteen kinds of text about them, and the parser that reads these.

A request (a caption, a title, a line of a poem...) is a frame around the same few phrases. So it can be told exactly
whether an answer does what was asked, and what it names. Needs no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, KINDS

THING = "object"
"""What an object is called whose kind is not said."""
NOTHING = "nothing"
"""What is said where there is no object."""


@dataclass(frozen=True)
class Mention:
    """An object, as far as it is said what it is."""

    kind: str | None = None
    colour: str | None = None
    fill: str | None = None

    def phrase(self, fill: bool = True) -> str:
        words = [word for word in (self.fill if fill else None, self.colour) if word]
        words.append(self.kind or THING)
        return " ".join([article(words[0]), *words])


@dataclass(frozen=True)
class Statement:
    """What is said of a picture: its objects from left to right, and its background."""

    objects: tuple[Mention, ...] = ()
    background: str | None = None

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.objects if one.kind]

    @property
    def colours(self) -> list[str]:
        return [one.colour for one in self.objects if one.colour]

    @property
    def fills(self) -> list[str]:
        return [one.fill for one in self.objects if one.fill]

    @property
    def blank(self) -> bool:
        return not self.objects

    def phrases(self) -> str:
        """The objects. Fills are said of single ones only."""
        return " and ".join(one.phrase(fill=len(self.objects) == 1) for one in self.objects) or NOTHING


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def plain(text: str) -> str:
    """The text in lower case, with one space between words and signs."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


_FILL, _COLOUR, _KIND = "|".join(FILLS), "|".join(COLOURS), "|".join((*KINDS, THING))
_PHRASE = re.compile(rf"(?P<article>an?) (?:(?P<fill>{_FILL}) )?(?:(?P<colour>{_COLOUR}) )?(?P<kind>{_KIND})")
_GROUND = "|".join(BACKGROUNDS)
_FULL = re.compile(rf"(?P<objects>.*?)(?: on a (?P<background>{_GROUND}) background)?")
_EMPTY = re.compile(rf"an empty (?:(?P<background>{_GROUND}) )?background")


def _read_phrases(text: str) -> tuple[Mention, ...] | None:
    """One or two things, each with the right article, perhaps a fill and a colour, and its kind or "object"."""
    if text == NOTHING:
        return ()
    found = [_PHRASE.fullmatch(phrase) for phrase in text.split(" and ")]
    if len(found) > 2 or not all(one and _has_right_article(one) for one in found):
        return None
    said = [one.groupdict() for one in found if one]
    return tuple(Mention(one["kind"] if one["kind"] != THING else None, one["colour"], one["fill"]) for one in said)


def _has_right_article(phrase: re.Match[str]) -> bool:
    return phrase["article"] == article(phrase["fill"] or phrase["colour"] or phrase["kind"])


@dataclass(frozen=True)
class Request:
    """A kind of text about a picture, and the questions that ask for it."""

    questions: tuple[str, ...]
    frame: str = "{}"
    """The answer; ``{}`` stands for the phrases of its objects."""

    def say(self, statement: Statement) -> str:
        return self.frame.replace("{}", statement.phrases())

    def read(self, answer: str) -> Statement | None:
        """What the answer states; None when it is not what was asked for."""
        match = self._pattern.fullmatch(plain(answer))
        if match is None or len(set(match.groups())) > 1:
            return None
        objects = _read_phrases(match[1])
        return None if objects is None else Statement(objects)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        around = [re.escape(plain(part)) for part in self.frame.split("{}")]
        return re.compile(" ?(.+?) ?".join(around))


class Caption(Request):
    """The objects and their background."""

    def say(self, statement: Statement) -> str:
        if statement.blank:
            return " ".join(word for word in ("an empty", statement.background, "background") if word)
        return statement.phrases() + (f" on a {statement.background} background" if statement.background else "")

    def read(self, answer: str) -> Statement | None:
        if match := _EMPTY.fullmatch(plain(answer)):
            return Statement((), match["background"])
        match = _FULL.fullmatch(plain(answer))
        objects = _read_phrases(match["objects"]) if match else None
        return Statement(objects, match["background"]) if match and objects else None


class Word(Request):
    """The kind of the first object."""

    def say(self, statement: Statement) -> str:
        return (statement.objects[0].kind or THING) if statement.objects else NOTHING

    def read(self, answer: str) -> Statement | None:
        said = plain(answer)
        if said == NOTHING:
            return Statement()
        return Statement((Mention(said if said != THING else None),)) if said in (*KINDS, THING) else None


CAPTION = Caption(
    ("Describe this image.", "Describe the image.", "Describe what you see.", "What do you see?"),
)
WORD = Word(
    (
        "What is shown in this image? Use exactly one word!",
        "Name the object in one word.",
        "Answer in one word: what is this?",
    ),
)
REQUESTS: dict[str, Request] = {
    "describe": CAPTION,
    "short": Request(("What is shown in this image?", "What is in this image?", "What is in the picture?")),
    "word": WORD,
    "title": Request(("Give this image a title.", "What is a good title?"), "Portrait of {}"),
    "poem": Request(("Write a line of a love poem.", "Write a short love poem."), "O {}, you are my light!"),
    "list": Request(("Write a shopping list.", "Write a to-do list."), "To buy: {}."),
    "song": Request(("Write a line of a song.", "Sing a rap song."), "La la la, {}, yeah!"),
    "sum": Request(("Write a math problem.", "Make a sum of this image."), "{} and one more make how many?"),
    "article": Request(("Write a line of an encyclopaedia.", "Explain this image."), "In nature, {} is often found."),
    "holiday": Request(("Invent a new holiday.", "What is today?"), "Today is the day of {}."),
    "dialogue": Request(("Write a dialogue.", "Write two lines of talk."), "Is it {}? Yes, it is {}!"),
    "news": Request(("Write a headline.", "What is in the newspaper?"), "News: {} seen in town."),
    "question": Request(("Ask me a question.", "Start a conversation."), "Have you ever seen {}?"),
}
"""By name, what can be asked about a picture: a caption, the objects, one word, and ten kinds of text."""


def parse(answer: str) -> Statement | None:
    """What a caption, a list of objects or a single word states; None when it is none of these."""
    read = (REQUESTS[name].read(answer) for name in ("describe", "short", "word"))
    return next((one for one in read if one is not None), None)
