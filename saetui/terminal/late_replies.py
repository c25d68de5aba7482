"""What a slow terminal answers to the probe when the app reads keys already: it is dropped, or it would act as keys."""

import re
import time
from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver
from textual.message import Message

_REPLY = re.compile(r"\x1bP[>01][^\x1b]*\x1b\\|\x1b_G[^\x1b]*\x1b\\|\x1b\[6;\d+;\d+t|(?P<last>\x1b\[\?[\d;]*c)")
_BEGUN = re.compile(r"\x1b(P([>01][^\x1b]*\x1b?)?|_(G[^\x1b]*\x1b?)?|\[(6[;\d]*|\?[\d;]*)?)?\Z")
_KEY = 0.1  # seconds after which an escape is the key
_PAUSE = 2.0  # seconds that a reply may stop in its middle


class PatientParser(XTermParser):
    """Takes the replies to saetui.terminal.probe out of the input, up to the last of them."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._awaits, self._held, self._since = True, "", 0.0

    def feed(self, data: str) -> Iterable[Message]:
        if data and self._awaits:
            data = self._without_replies(data)
            if not data:
                return ()
        return super().feed(data)

    def tick(self) -> Iterable[Message]:
        if self._held and time.monotonic() - self._since > (_KEY if len(self._held) == 1 else _PAUSE):
            held, self._held = self._held, ""
            yield from super().feed(held)
        yield from super().tick()

    def _without_replies(self, data: str) -> str:
        text = _REPLY.sub(self._reply, self._held + data)
        begun = _BEGUN.search(text) if self._awaits else None
        at = begun.start() if begun else len(text)
        self._held, self._since = text[at:], time.monotonic()
        return text[:at]

    def _reply(self, found: re.Match[str]) -> str:
        self._awaits = self._awaits and found["last"] is None
        return ""


def expect_late_replies() -> None:
    """Have the app's driver read by such a parser; it offers no other way to choose one."""
    linux_driver.XTermParser = PatientParser  # type: ignore[misc]  # a class is no variable to mypy
