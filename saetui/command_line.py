"""The command line of the workbench: every action by its id, what one types elsewhere to leave or to save, and the
words of the mode that is shown."""

import difflib
import re
from typing import Any

from textual.screen import Screen

from saetui.exporting import export, exported_of
from saetui.modes.mode import Mode
from saetui.services import Services
from saetui.widgets.dialogs import Ask, Help, actions

WORDS = {
    "q": "q: leave; what runs goes on",
    "w": "w: nothing is left to save, all is written as you change it; w FILE.csv or FILE.json: as export",
    "help": "help WORDS: the keys and terms in which they stand",
    "open": "open DIRECTORY: another workspace",
    "export": "export FILE.csv or FILE.json: the table as it is filtered",
}
SAME = {"quit": "q", "q!": "q", "qa": "q", "qa!": "q", "exit": "q", "wq": "q", "x": "q", "write": "w", "h": "help"}
"""What other programs call them."""
KEPT = 200
"""Lines that are remembered."""
_PLACE = re.compile(r"\b(FILE|FOLDER|DIRECTORY)\b")


class CommandLine:
    """What can be typed over ``screen``, and what it does."""

    def __init__(self, screen: Screen[Any], services: Services):
        self._screen, self._services = screen, services
        self._mode = screen if isinstance(screen, Mode) else None
        self._actions = {action.id: action for action in actions(screen)}
        self._words = WORDS | (self._mode.words() if self._mode else {})
        self._kept = [one for one in services.session.recall("app", "commands", list[Any]()) if isinstance(one, str)]

    def ask(self) -> Ask:
        known = {id: action.description for id, action in self._actions.items()} | self._words
        places = {word for word, about in self._words.items() if _PLACE.search(about)}
        arguments = self._mode.arguments() if self._mode else {}
        lines = [f"{word} {one}" for word, given in arguments.items() for one in given]
        return Ask(":", known=known, lines=lines, places=places, earlier=self._kept, base=self._services.base)

    async def obey(self, line: str | None) -> None:
        line = (line or "").lstrip(": ")
        if not line:
            return
        self._services.remember("app", commands=[line, *(one for one in self._kept if one != line)][:KEPT])
        word, _, rest = line.partition(" ")
        word, rest = SAME.get(word, word), rest.strip()
        if (action := self._actions.get(word)) and not rest:
            await self._screen.app.run_action(action.action, action.node)
        elif word in WORDS:
            await self._do(word, rest)
        elif action or not (self._mode and self._mode.obey(word, rest)):
            self._services.say(self._mistake(word, rest))

    async def _do(self, word: str, rest: str) -> None:
        match word, rest:
            case "q", "":
                await self._screen.app.run_action("quit")
            case "w", "":
                self._services.say(
                    "All is saved: labels, settings and where you are, as you change them.", "information"
                )
            case (("w" | "export"), file) if file:
                self._export(file)
            case "help", words:
                self._screen.app.push_screen(Help(actions(self._screen), words))
            case "open", path if path:
                self._services.open_path(path)
            case _:
                self._services.say(self._mistake(word, rest))

    def _export(self, given: str) -> None:
        if listed := exported_of(self._screen):
            export(listed, given, self._services)
        else:
            self._services.say("There is no table here to export: go to one, as with 3.")

    def _mistake(self, word: str, rest: str) -> str:
        """What is wrong with a line, and the way out."""
        if about := self._words.get(word):
            wrong = f"{rest!r} is nothing that {word} takes" if rest else f"{word} needs something after it"
            return f"{wrong}: write {about}."
        if word in self._actions:
            return f"{word} takes nothing after it, and {rest!r} stands there: leave that out."
        near = difflib.get_close_matches(word, [*self._actions, *self._words], n=3, cutoff=0.6)
        ways = f"did you mean {' or '.join(near)}?" if near else "type : and tab through what there is, or press ?."
        return f"There is no command {word!r} here: {ways}"
