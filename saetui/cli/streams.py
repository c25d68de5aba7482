"""stdout and stderr of a command. No failure of theirs ends it: its work counts, and it goes on for its exit code.

What a terminal cannot show is replaced, and so is what would act on it (engine.literal). A reader who has left is no
fault; a full disk is said when all else is done.
"""

import errno
import io
import json
import math
import os
import select
import sys
from typing import Any

from engine.errors import system_mistake
from engine.literal import LiteralStream, escaped

LEFT = {errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN, errno.ENOTCONN}


class _Output(io.FileIO):
    """An open file descriptor that writing to never fails; ``failed`` is why what is written now goes nowhere."""

    def __init__(self, number: int):
        super().__init__(number, "wb", closefd=False)
        self.failed: OSError | None = None
        self._terminal = self.isatty()

    @property
    def fault(self) -> OSError | None:
        """Why not all was written, unless whoever read it has left."""
        left = LEFT | ({errno.EIO} if self._terminal else set())  # of a terminal: it was closed
        return None if self.failed is None or self.failed.errno in left else self.failed

    def write(self, data: Any) -> int:
        if self.failed is None:
            try:
                while (written := super().write(data)) is None:  # another program made it not wait
                    select.select([], [self], [])
                return written
            except OSError as error:
                self.failed = error
        return memoryview(data).nbytes


def open_streams() -> None:
    """Replace stdout and stderr by such; whatever of the three the shell has closed leads nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the number that is free
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # else somebody in this process listens
            stream.flush()
            output = io.BufferedWriter(_Output(stream.fileno()))
            lines = stream.line_buffering
            setattr(sys, name, LiteralStream(output, stream.encoding, "replace", line_buffering=lines))


def finish_streams(code: int) -> int:
    """``code``, the exit code of the command, or 2 where it succeeded and its output could not be written."""
    sys.stdout.flush()
    output = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(output, _Output) or output.fault is None:
        return code
    number = output.fault.errno or errno.EIO
    print(f"saetui: {system_mistake(OSError(number, '', 'the standard output'))}", file=sys.stderr)
    return code or 2


def print_json(value: Any) -> None:
    """One line of JSON in ASCII: any encoding can show it, no terminal obeys it, and a file name that is no UTF-8 comes
    back from it."""
    try:
        text = json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        text = json.dumps(_finite(value), default=str)
    print(escaped(text))


def _finite(value: Any) -> Any:
    """``value`` with null for the numbers that JSON has not."""
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
