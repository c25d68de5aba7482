"""The command line of the workbench: every action by its id, and the words of the mode that is shown."""

from typing import Any

from textual.screen import Screen

from saetui.modes.mode import Mode
from saetui.services import Services
from saetui.widgets.dialogs import Ask, actions


class CommandLine:
    """What can be typed over ``screen``, and what it does."""

    def __init__(self, screen: Screen[Any], services: Services):
        self._screen, self._services = screen, services
        self._mode = screen if isinstance(screen, Mode) else None
        self._actions = {action.id: action for action in actions(screen)}

    def ask(self) -> Ask:
        words = {id: action.description for id, action in self._actions.items()}
        words["open"] = "open DIRECTORY: another workspace"
        return Ask(":", known=words | (self._mode.words() if self._mode else {}))

    async def obey(self, line: str | None) -> None:
        if not line:
            return
        word, _, rest = line.partition(" ")
        if action := self._actions.get(word):
            await self._screen.app.run_action(action.action, action.node)
        elif word == "open" and rest:
            self._services.open_path(rest)
        elif not (self._mode and self._mode.obey(word, rest.strip())):
            self._services.say(f"There is no command {word!r} here: type : and tab through what there is, or press ?.")
