"""Writing on a terminal what acts on it: the escape sequences of pictures and progress bars, which we compose."""

from typing import IO, Any

from engine.literal import LiteralStream


class Drawing:
    """``stream`` for what may act. Texts from files and models go through ``literal`` first."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.draw(text) if isinstance(self._stream, LiteralStream) else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
